"""HTTP/1.1 on asyncio's callbacks: a request in, a reply out, and the right to hang up half way (RFC 9112).

A vendor that drops an answer after its effect, or cuts a body short, needs the bare connection, which ASGI hides; and
benchmarks share the machine with the laboratory, so a request costs no task and no thread here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, unquote

MAX_HEAD = 64 * 1024
MAX_BODY = 256 * 1024 * 1024

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

REASONS = {status.value: status.phrase for status in HTTPStatus}


class Malformed(ValueError):
    """The bytes are no HTTP/1.1 request; the connection is answered 400 and closed."""


@dataclass(slots=True)
class Request:
    """One request. `path` is percent-decoded; header names are lower case; `params` come from the route's path."""

    method: str
    target: str
    path: str
    query_string: str
    headers: dict[str, str]
    body: bytes
    connection: int
    params: dict[str, str] = field(default_factory=dict)

    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated name, the last."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    def form(self) -> dict[str, str]:
        """The fields of a form body; empty where the body is no form."""
        if not self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return {}
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def is_json(self) -> bool:
        """Whether the body says that it is JSON."""
        return self.headers.get("content-type", "").startswith("application/json")

    def json(self) -> Any:
        """The body read as JSON. Raises ValueError."""
        return json.loads(self.body)

    def bearer(self) -> str | None:
        """The token of `Authorization: Bearer`, if there is one (RFC 6750)."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None


@dataclass(slots=True, frozen=True)
class Reply:
    """One answer. `cut`: hang up after so many bytes of the body. `dropped`: hang up without a word.
    `pieces`: a body sent bit by bit, `pause_s` seconds apart, instead of `body`; `length` is its announced size."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    cut: int | None = None
    dropped: bool = False
    pieces: Iterable[bytes] | None = None
    length: int = 0
    pause_s: float = 0.0


DROP = Reply(dropped=True)


def json_reply(value: object, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """`value` as compact JSON."""
    return Reply(status, json.dumps(value, separators=(",", ":")).encode(), JSON, headers)


def redirect(location: str, *, status: int = 302) -> Reply:
    """Send the client on to `location`."""
    return Reply(status, b"", TEXT, (("Location", location),))


class App(Protocol):
    """What answers the requests of one origin. `connected` gives each new connection its number."""

    def __call__(self, request: Request) -> Reply | Awaitable[Reply]: ...

    def connected(self) -> int: ...


class Connection(asyncio.Protocol):
    """One client's connection: requests are answered in order, one at a time, and it is kept open between them."""

    def __init__(self, app: App, *, crashed: Callable[[Request, Exception], Reply]) -> None:
        self._app = app
        self._crashed = crashed
        self._buffer = bytearray()
        self._partial: _Head | None = None
        self._busy = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._number = self._app.connected()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._busy = True
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._busy:
            self._advance()

    def _advance(self) -> None:
        while not self._busy:
            try:
                request = self._take()
            except Malformed as error:
                self._buffer.clear()
                self._transport.write(_encode(Reply(400, str(error).encode(), TEXT), keep=False))
                self._transport.close()
                return
            if request is None:
                return
            self._busy = True
            self._serve(request)

    def _take(self) -> Request | None:
        """The next whole request in the buffer."""
        head = self._partial
        if head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD:
                    raise Malformed("The request's head is too long.")
                return None
            head = self._partial = _Head.parse(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            if head.headers.get("expect", "").lower() == "100-continue":
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = _take_chunked(self._buffer) if head.chunked else _take_sized(self._buffer, head.length)
        if body is None:
            return None
        self._partial = None
        path, _, query = head.target.partition("?")
        return Request(head.method, head.target, unquote(path), query, head.headers, body, self._number)

    def _serve(self, request: Request) -> None:
        try:
            outcome = self._app(request)
        except Exception as error:  # noqa: BLE001 (a fault of the laboratory: answered 500 and kept for /health)
            outcome = self._crashed(request, error)
        if isinstance(outcome, Reply) and outcome.pieces is None:
            self._send(request, outcome)
        else:
            self._task = asyncio.get_running_loop().create_task(self._finish(request, outcome))

    async def _finish(self, request: Request, outcome: Reply | Awaitable[Reply]) -> None:
        try:
            reply = outcome if isinstance(outcome, Reply) else await outcome
        except asyncio.CancelledError:
            reply = DROP
        except Exception as error:  # noqa: BLE001 (as in _serve)
            reply = self._crashed(request, error)
        if reply.pieces is not None:
            await self._stream(reply)
        self._send(request, reply)
        self._advance()

    async def _stream(self, reply: Reply) -> None:
        self._transport.write(_encode(reply, keep=True))
        for piece in reply.pieces or ():
            if self._transport.is_closing():
                return
            self._transport.write(piece)
            await self._writable.wait()
            if reply.pause_s:
                await asyncio.sleep(reply.pause_s)

    def _send(self, request: Request, reply: Reply) -> None:
        if self._transport.is_closing():
            return
        if reply.dropped:
            self._transport.abort()
            return
        keep = request.headers.get("connection", "").lower() != "close"
        if reply.pieces is None:
            self._transport.write(_encode(reply, keep=keep, bodiless=request.method == "HEAD"))
        if keep and reply.cut is None:
            self._busy = False
        else:
            self._transport.close()


@dataclass(slots=True)
class _Head:
    method: str
    target: str
    headers: dict[str, str]
    length: int
    chunked: bool

    @classmethod
    def parse(cls, head: bytes) -> _Head:
        first, *lines = head.decode("latin-1").split("\r\n")
        parts = first.split(" ")
        if len(parts) != 3 or parts[2] not in {"HTTP/1.1", "HTTP/1.0"} or not parts[1].startswith("/"):
            raise Malformed("The request line is not HTTP/1.1.")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise Malformed("A header line is malformed.")
            name = name.lower()
            headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
        if parts[2] == "HTTP/1.0":
            headers.setdefault("connection", "close")
        length = headers.get("content-length", "0")
        chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        if not length.isdecimal() or int(length) > MAX_BODY or (chunked and "content-length" in headers):
            raise Malformed("The body's length is malformed.")
        return cls(parts[0], parts[1], headers, int(length), chunked)


def _take_sized(buffer: bytearray, length: int) -> bytes | None:
    if len(buffer) < length:
        return None
    body = bytes(buffer[:length])
    del buffer[:length]
    return body


def _take_chunked(buffer: bytearray) -> bytes | None:
    """The whole chunked body, or None until all of it is there (trailers are dropped)."""
    position, body = 0, bytearray()
    while True:
        line = buffer.find(b"\r\n", position)
        if line < 0:
            return None
        try:
            size = int(bytes(buffer[position:line]).partition(b";")[0], 16)
        except ValueError:
            raise Malformed("A chunk's size is malformed.") from None
        if size == 0:
            end = buffer.find(b"\r\n\r\n", line)
            if end < 0:
                return None
            del buffer[: end + 4]
            return bytes(body)
        position = line + 2 + size + 2
        if size < 0 or len(body) + size > MAX_BODY:
            raise Malformed("The body is too long.")
        if len(buffer) < position:
            return None
        body += buffer[line + 2 : line + 2 + size]


def _encode(reply: Reply, *, keep: bool, bodiless: bool = False) -> bytes:
    length = len(reply.body) if reply.pieces is None else reply.length
    head = f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Unnamed')}\r\nContent-Type: {reply.content_type}\r\n"
    for name, value in reply.headers:
        head += f"{name}: {value}\r\n"
    if reply.status not in {204, 304}:
        head += f"Content-Length: {length}\r\n"
    if not keep:
        head += "Connection: close\r\n"
    start = f"{head}\r\n".encode("latin-1", "replace")
    return start if bodiless or reply.pieces is not None else start + reply.body[: reply.cut]
