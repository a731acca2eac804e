"""Loopback servers that behave as badly as a test wants."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    target: str
    headers: Message
    body: bytes


@dataclass
class Peer:
    """The server's side of one connection."""

    sock: socket.socket
    server: Server
    stream: io.BufferedReader = field(init=False)

    def __post_init__(self) -> None:
        self.stream = self.sock.makefile("rb")

    def head(self) -> Seen | None:
        """The next request without its body; None where the client hung up."""
        line = self.stream.readline()
        if not line:
            return None
        method, target, _ = line.decode("latin-1").split()
        seen = Seen(method, target, http.client.parse_headers(self.stream), b"")
        self.server.heads.append(seen)
        return seen

    def request(self) -> Seen | None:
        """The next request, read to its end, and remembered in `server.seen`."""
        seen = self.head()
        if seen is not None:
            seen = Seen(seen.method, seen.target, seen.headers, self.body(seen))
            self.server.seen.append(seen)
        return seen

    def body(self, seen: Seen) -> bytes:
        if seen.headers.get("Transfer-Encoding", "") == "chunked":
            return b"".join(self._chunks())
        return self.stream.read(int(seen.headers.get("Content-Length", "0")))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.stream.readline().split(b";")[0], 16):
            yield self.stream.read(size)
            self.stream.readline()
        self.stream.readline()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reply(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def reset(self) -> None:
        """Hang up with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.close()
        self.sock.close()

    def close(self) -> None:
        self.stream.close()
        self.sock.close()


Handler = Callable[[Peer], object]


def echo(peer: Peer) -> None:
    """Answers every request with 200 and its own body."""
    while (seen := peer.request()) is not None:
        peer.reply(200, seen.body)


def always(status: int = 200, body: bytes = b"", **headers: str) -> Handler:
    """Answers every request alike."""

    def handle(peer: Peer) -> None:
        while peer.request() is not None:
            peer.reply(status, body, **headers)

    return handle


def once(data: bytes) -> Handler:
    """Reads a request, sends these bytes and hangs up."""

    def handle(peer: Peer) -> None:
        peer.request()
        peer.send(data)

    return handle


class Server:
    """Listens on a port of its own; each connection is handled in a thread of its own."""

    def __init__(self, handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.handler = handler
        self.tls = tls
        self.accepted = 0
        self.heads: list[Seen] = []
        self.seen: list[Seen] = []
        self.done = threading.Event()  # set where a handler has ended
        self._peers: list[socket.socket] = []
        self._listener = socket.create_server((host, 0), backlog=256)
        self.host, self.port = self._listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}"

    def url(self, path: str = "/", *, host: str | None = None) -> str:
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{host or self.host}:{self.port}{path}"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for sock in self._peers:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._peers.append(sock)
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
            self._peers.append(sock)
            peer = Peer(sock, self)
            try:
                self.handler(peer)
            finally:
                peer.close()
        self.done.set()
