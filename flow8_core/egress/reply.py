"""`Reply`: an HTTP/1.1 response as it is read from the wire, without the standard library's leniency.

`http.client` reads the rest of a message as body where a header line is garbage, takes the first of two different
lengths, reads until the end of the connection for a chunk of size -1, and skips trailers for ever. Here all of these
are a `BadReply`. RFC 9112 sections 4 to 7.
"""

from __future__ import annotations

import http.client
import re
import socket
from io import BufferedIOBase, BufferedReader
from typing import Protocol, cast

from urllib3 import HTTPHeaderDict

MAX_FIELDS = 128  # lines, folded ones included
MAX_LINE = 65_536

_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([^\r\n\x00]*))?\r?\n")
# Linear in time: no two repetitions in a row match the same characters. Blanks around a value are cut off afterwards.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\x00]*)\r?\n")
_FOLDED = re.compile(rb"[ \t]([^\r\n\x00]*)\r?\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_BLANK = (b"\r\n", b"\n")


class BadReply(http.client.HTTPException):
    """The bytes are no HTTP/1.1 response. The text completes "the answer cannot be used: ..." and quotes none of it."""


class Source(Protocol):
    """What a response is read from."""

    def makefile(self, mode: str) -> BufferedReader: ...


class Reply(http.client.HTTPResponse):
    """The standard library's response with a head and chunk parser of its own."""

    headers: HTTPHeaderDict  # type: ignore[assignment]
    length: int | None
    chunked: bool
    will_close: bool

    def __init__(self, source: Source, *, method: str) -> None:
        super().__init__(cast("socket.socket", source), method=method)  # it asks a socket for its file, and no more

    def begin(self) -> None:
        """Read the head of the final response; interim ones (RFC 9110 section 15.2) are passed over."""
        status = 100
        while 100 <= status < 200:
            minor, status, self.reason = _read_status_line(self.fp)
            if status == 101:
                raise BadReply("it changes the protocol, which nobody asked for")
            fields = _read_fields(self.fp)
        self.code = self.status = status
        self.version = 10 if minor == 0 else 11
        self.headers = fields
        self.msg = fields  # type: ignore[assignment]
        self._frame()

    def take(self, size: int) -> bytes:
        """At most `size` bytes of the body, b"" at its end. Raises `BadReply` where it ends before its time."""
        block = self.read(size)
        if not block and size and self.length:
            raise BadReply("it is cut off")
        return block

    def _frame(self) -> None:
        """Where the body ends (RFC 9112 section 6.3), and whether the connection lives on."""
        coding = self.headers.get("transfer-encoding")
        length = _content_length(self.headers)
        if coding is not None and coding.lower() != "chunked":
            raise BadReply("its Transfer-Encoding is not chunked")
        self.chunked = coding is not None
        self.chunk_left = None
        self.will_close = self._check_close()  # type: ignore[attr-defined]
        if self.chunked and length is not None:
            self.headers.discard("content-length")
            length, self.will_close = None, True
        if self.status in (204, 304) or self._method == "HEAD":  # type: ignore[attr-defined]
            length = 0
        self.length = length
        if length is None and not self.chunked:
            self.will_close = True

    def _read_next_chunk_size(self) -> int:
        found = _CHUNK_SIZE.fullmatch(self.fp.readline(MAX_LINE))
        if found is None:
            raise BadReply("a chunk of its body has no size")
        return int(found[1], 16)

    def _read_and_discard_trailer(self) -> None:
        _read_fields(self.fp)


def _read_status_line(stream: BufferedIOBase) -> tuple[int, int, str]:
    line = stream.readline(MAX_LINE)
    if not line:
        raise http.client.RemoteDisconnected("closed without an answer")
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise BadReply("it does not begin with an HTTP status line")
    return int(found[1]), int(found[2]), (found[3] or b"").decode("latin-1").strip()


def _read_fields(stream: BufferedIOBase) -> HTTPHeaderDict:
    """Header or trailer lines up to the blank one. Values of folded lines are joined by a space (RFC 9112 5.2)."""
    pairs: list[tuple[str, str]] = []
    count = 0
    while (line := stream.readline(MAX_LINE)) not in _BLANK:
        folded = _FOLDED.fullmatch(line) if pairs else None
        found = folded or _FIELD.fullmatch(line)
        if found is None:
            raise BadReply("a line of its headers is no header" if line else "it ends within its headers")
        count += 1
        if count > MAX_FIELDS:
            raise BadReply("it has too many headers")
        value = found[found.re.groups].strip(b" \t").decode("latin-1")
        if folded is None:
            pairs.append((found[1].decode("ascii"), value))
        else:
            pairs[-1] = pairs[-1][0], f"{pairs[-1][1]} {value}"
    fields = HTTPHeaderDict()
    for name, value in pairs:
        fields.add(name, value)
    return fields


def _content_length(fields: HTTPHeaderDict) -> int | None:
    """The one length that all Content-Length headers name."""
    text = fields.get("content-length")
    if text is None:
        return None
    lengths = {part.strip() for part in text.split(",")}
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit()) or len(length) > 18:
        raise BadReply("its Content-Length is no length")
    return int(length)
