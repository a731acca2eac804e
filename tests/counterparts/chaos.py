"""A TCP proxy that misbehaves when told to: for what a store or vendor does when the network does not.

`lose_reply_to(b"findAndModify")` is the sharpest: the request goes through and takes effect, its answer does not come
back and the connection is cut.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Literal

import pytest

_CHUNK = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Mode = Literal["pass", "refuse", "blackhole"]


class ChaosProxy:
    """Listens on a loopback port of its own and passes everything on to `upstream`, until told otherwise."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._mode: Mode = "pass"
        self._losses: list[tuple[bytes, int]] = []
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self.lost = 0
        self._start(self._accept)

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def address(self) -> str:
        """`127.0.0.1:port`."""
        return f"127.0.0.1:{self.port}"

    def refuse(self) -> None:
        """Cut every connection now, and every new one at once."""
        self._mode = "refuse"
        self.cut()

    def blackhole(self) -> None:
        """Take everything and answer nothing."""
        self._mode = "blackhole"

    def mend(self) -> None:
        """Behave. What was lost stays lost."""
        self._mode = "pass"

    def cut(self) -> None:
        """Reset every open connection; new ones work."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _reset(*pair)

    def lose_reply_to(self, request: bytes, *, after: int = 0) -> None:
        """Let the request that holds these bytes through (the one after `after` others), and lose its answer."""
        with self._lock:
            self._losses.append((request, after))

    def close(self) -> None:
        self._mode = "refuse"
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._mode == "refuse":
                _reset(client)
                continue
            server = socket.create_connection(self._upstream)
            with self._lock:
                self._pairs.append((client, server))
            doomed = threading.Event()
            self._start(self._pump, client, server, doomed, True)
            self._start(self._pump, server, client, doomed, False)

    def _pump(self, source: socket.socket, sink: socket.socket, doomed: threading.Event, upwards: bool) -> None:
        """Pass one direction on. `doomed` is set when the next answer on this connection is to be lost."""
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if self._mode == "blackhole":
                    continue
                if upwards and self._takes(data):
                    doomed.set()
                if not upwards and doomed.is_set():
                    self.lost += 1
                    break
                sink.sendall(data)
        _reset(source, sink)

    def _takes(self, data: bytes) -> bool:
        """Whether this request is one whose answer is to be lost."""
        with self._lock:
            for position, (needle, after) in enumerate(self._losses):
                if needle in data:
                    if after == 0:
                        del self._losses[position]
                        return True
                    self._losses[position] = (needle, after - 1)
        return False


def _reset(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@pytest.fixture
def chaos() -> Iterator[Callable[[str], ChaosProxy]]:
    """Makes fault proxies: `chaos("127.0.0.1:6379")`. All are closed after the test."""
    made: list[ChaosProxy] = []

    def make(upstream: str) -> ChaosProxy:
        host, _, port = upstream.rpartition(":")
        made.append(ChaosProxy((host, int(port))))
        return made[-1]

    yield make

    for proxy in made:
        proxy.close()
