"""`Pool`: idle connections, by origin, in one process."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable

from flow8_core.clock import Clock, Deadline
from flow8_core.egress.connection import Connection
from flow8_core.egress.url import Url

Origin = tuple[str, str, int]

IDLE_S = 30.0  # below what load balancers allow (60 s and more), so that it is us who hang up
MARGIN_S = 1.0  # taken off a server's own word, for the way there
TOTAL = 512  # idle connections over all origins


class _Shelf:
    """The idle connections of one process. A child after a fork gets an empty one: two processes on one TLS connection
    would be read as an attack, and a lock may have been held at the fork."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.idle: dict[Origin, list[Connection]] = defaultdict(list)
        self.count = 0
        self.swept_at = 0.0


class Pool:
    """Hands out connections. The youngest idle one is taken first, so that surplus ones grow old and go.

    A connection that the peer has closed, or on which it spoke unasked, is noticed before anything is sent, and
    replaced. That is all the reconnecting there is: once a byte may have left, only the caller knows whether to ask
    again.
    """

    def __init__(self, connect: Callable[[Url, Deadline], Connection], *, size: int, clock: Clock) -> None:
        self._connect = connect
        self._size = size
        self._clock = clock
        self._shelf = _Shelf()

    def take(self, url: Url, deadline: Deadline) -> Connection:
        """A connection to the URL's origin: a warm one that still stands, else a new one. Raises what connecting raises
        (`Connection.open`)."""
        return self._warm(url.origin) or self._connect(url, deadline)

    def give(self, connection: Connection) -> None:
        """Take a connection back; one that cannot go on is closed."""
        shelf = self._mine()
        now = self._clock.monotonic()
        announced = connection.keep_alive_s
        life = IDLE_S if announced is None else min(IDLE_S, announced - MARGIN_S)
        if life > 0 and connection.alive and connection.pid == shelf.pid:
            connection.idle_until = now + life
            with shelf.lock:
                row = shelf.idle[connection.origin]
                if len(row) < self._size and shelf.count < TOTAL:
                    row.append(connection)
                    shelf.count += 1
                    connection = None  # type: ignore[assignment]
        if connection is not None:
            connection.abort()
        if now - shelf.swept_at > IDLE_S:
            shelf.swept_at = now
            self._close(shelf, lambda idle: idle.idle_until <= now)

    def close(self) -> None:
        """Close all idle connections."""
        self._close(self._mine(), lambda _: True)

    def _warm(self, origin: Origin) -> Connection | None:
        shelf = self._mine()
        while True:
            with shelf.lock:
                row = shelf.idle.get(origin)
                if not row:
                    return None
                connection = row.pop()
                shelf.count -= 1
            if connection.idle_until > self._clock.monotonic() and not connection.wire.stale():
                return connection
            connection.abort()

    def _mine(self) -> _Shelf:
        if self._shelf.pid != os.getpid():
            self._shelf = _Shelf()
        return self._shelf

    def _close(self, shelf: _Shelf, wanted: Callable[[Connection], bool]) -> None:
        with shelf.lock:
            gone = [connection for row in shelf.idle.values() for connection in row if wanted(connection)]
            for connection in gone:
                shelf.idle[connection.origin].remove(connection)
            for origin in [origin for origin, row in shelf.idle.items() if not row]:
                del shelf.idle[origin]
            shelf.count -= len(gone)
        for connection in gone:
            connection.abort()
