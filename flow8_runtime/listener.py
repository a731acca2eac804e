"""Listens to the bell, so that a drainer that lingers takes up a fresh step at once, and not by a message.

It is a hint and nothing else. Whoever rings it has committed before; whoever listens looks into the ledger once it
listens, before it waits. Who misses a bell is woken by the message that goes with it, or by the sweep.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import redis

from flow8_runtime.queues import bell_channel

SUBSCRIBED_S = 2.0  # as long as a connection may take
RETRY_S = 0.05  # between two tries to reach a broker that is away


class Listener:
    """Listens on a connection of its own, for one thread at a time. `flags` is the broker's own Redis, `prefix` as for
    `Wakeup`."""

    def __init__(self, flags: redis.Redis, *, prefix: str = "") -> None:
        self._flags = flags
        self._prefix = prefix
        self._database = int(flags.connection_pool.connection_kwargs.get("db") or 0)
        self._channels: frozenset[str] = frozenset()
        self._pubsub: Any = None

    def listen(self, queues: Collection[str]) -> bool:
        """Hear these queues and no others from now on; without any, none.

        Returns once the broker has confirmed it: look into the ledger then, for what was committed before is not told.
        False where the broker does not answer; `heard` tries again.
        """
        wanted = frozenset(bell_channel(queue, prefix=self._prefix, database=self._database) for queue in queues)
        if wanted == self._channels and self._pubsub is not None:
            return True  # still; where the connection has been lost since, `heard` says so
        self._channels = wanted
        self._hang_up()
        return not self._channels or self._subscribed()

    def heard(self, timeout_s: float) -> bool:
        """Wait up to so many seconds for a bell; True if there was one, and at once if there were some since the last
        time. Also true after the connection was made anew, for bells may have been missed. Never raises because of the
        broker: where it is away, it is like one that stays silent."""
        ends = time.monotonic() + timeout_s
        while True:
            try:
                if self._pubsub is not None:
                    return self._wait(max(0.0, ends - time.monotonic()))
            except (redis.RedisError, OSError):
                self._hang_up()
            if self._channels and self._subscribed():
                return True
            left = ends - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(RETRY_S if self._channels else left, left))

    def close(self) -> None:
        """Give the connection back; `listen` would make another."""
        self._channels = frozenset()
        self._hang_up()

    def _subscribed(self) -> bool:
        pubsub = self._flags.pubsub()  # type: ignore[no-untyped-call]
        try:
            pubsub.subscribe(*sorted(self._channels))
            ends = time.monotonic() + SUBSCRIBED_S
            missing = len(self._channels)
            while missing and time.monotonic() < ends:
                message = pubsub.get_message(timeout=ends - time.monotonic())
                missing -= bool(message and message["type"] == "subscribe")
            if not missing:
                self._pubsub = pubsub
                return True
        except (redis.RedisError, OSError):
            pass
        _close(pubsub)
        return False

    def _wait(self, timeout_s: float) -> bool:
        """Whether a bell comes in time; all that have come count as one."""
        ends = time.monotonic() + timeout_s
        heard = False
        while True:
            left = 0.0 if heard else max(0.0, ends - time.monotonic())
            message = self._pubsub.get_message(timeout=left)
            if message is not None and message["type"] in ("message", "subscribe"):  # the latter: made anew
                heard = True
            elif message is None and (heard or time.monotonic() >= ends):
                return heard

    def _hang_up(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            _close(pubsub)


def _close(pubsub: Any) -> None:
    with suppress(redis.RedisError, OSError):
        pubsub.close()
