"""`Reply`: an HTTP/1.1 response as it is read from the wire (RFC 9112 sections 4 to 7).

Strict, where the standard library's `http.client` is not: it reads the rest of a message as body where a header line is
garbage, takes the first of two different lengths, reads until the end of the connection for a chunk of size -1, and
skips trailers for ever. Here all of these are a `BadReply`.
"""

from __future__ import annotations

import http.client
import re
from typing import Protocol

from flow8_core.egress.headers import Headers

MAX_FIELDS = 128  # lines, folded ones included

# Linear in time: no two repetitions in a row match the same characters. Blanks around a value are cut off afterwards.
_STATUS_LINE = re.compile(r"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: ([^\r\n\x00]*))?\r?\n")
_FIELD = re.compile(r"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\x00]*)\r?\n", re.MULTILINE)
_FOLD = re.compile(r"\r?\n[ \t]+")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_EMPTY = frozenset((204, 304))  # statuses that have no body, whatever the headers say


class BadReply(http.client.HTTPException):
    """The bytes are no HTTP/1.1 response. The text completes "the answer cannot be used: ..." and quotes none of it."""


class Source(Protocol):
    """What a response is read from."""

    def read_line(self) -> bytes:
        """One line and its end, which is missing where the peer closed or the line is too long."""

    def read_head(self) -> bytes:
        """Lines up to a blank one, and without it. Raises `BadReply` where there is none."""

    def read(self, size: int) -> bytes:
        """So many bytes, fewer where the peer closed."""


class Reply:
    """The head is read when it is made; interim responses (RFC 9110 section 15.2) are passed over. The body comes from
    `take`.

    `keeps`: the server lets the connection live on after this answer. `ended`: it was read to its end.
    """

    def __init__(self, source: Source, *, method: str) -> None:
        status = 100
        while status < 200:
            minor, status, reason = _status_line(source.read_line().decode("latin-1"))
            if status == 101:
                raise BadReply("it changes the protocol, which nobody asked for")
            headers = Headers(_fields(source.read_head().decode("latin-1")))
        self.status: int = status
        self.reason: str = reason
        self.headers = headers
        self.keeps = _keeps(minor, headers)
        self._source = source
        self._chunked = False
        # Bytes of the body or of the chunk. None: to the end of the connection; or before the first chunk.
        self._left: int | None = 0
        self._frame(method, minor)

    @property
    def ended(self) -> bool:
        return self._left == 0 and not self._chunked

    def take(self, size: int) -> bytes:
        """`size` bytes of the body, fewer only at its end. Raises `BadReply` where it ends before its time."""
        if self._chunked:
            return self._take_chunks(size)
        if self._left is not None:
            return self._take_some(size)
        block = self._source.read(size)
        if len(block) < size:
            self._left = 0
        return block

    def _take_some(self, size: int) -> bytes:
        """From what is left of the body or chunk."""
        wanted = min(size, self._left or 0)
        block = self._source.read(wanted) if wanted else b""
        if len(block) < wanted:
            raise BadReply("it is cut off")
        self._left = (self._left or 0) - wanted
        return block

    def _take_chunks(self, size: int) -> bytes:
        """Small chunks are put together: many of them must not become many blocks."""
        blocks: list[bytes] = []
        while size and self._chunked:
            if self._left or self._next_chunk():
                blocks.append(self._take_some(size))
                size -= len(blocks[-1])
        return b"".join(blocks)

    def _next_chunk(self) -> bool:
        """Read its size, after the end of the one before; False at the last one, which the trailers follow."""
        if self._left is not None and self._source.read(2) != b"\r\n":
            raise BadReply("a chunk of its body has no end")
        found = _CHUNK_SIZE.fullmatch(self._source.read_line())
        if found is None:
            raise BadReply("a chunk of its body has no size")
        self._left = int(found[1], 16)
        if not self._left:
            _fields(self._source.read_head().decode("latin-1"))
            self._chunked = False
        return self._chunked

    def _frame(self, method: str, minor: int) -> None:
        """Where the body ends (RFC 9112 section 6.3)."""
        coding = self.headers.get("transfer-encoding")
        length = _content_length(self.headers)
        if coding is not None and coding.lower() != "chunked":
            raise BadReply("its Transfer-Encoding is not chunked")
        if coding is not None and (
            length is not None or minor == 0
        ):  # section 6.1: one of the two is not to be trusted
            self.headers = self.headers.without("content-length")
            self.keeps = False
        if self.status in _EMPTY or method == "HEAD":
            return
        self._chunked = coding is not None
        self._left = None if self._chunked else length
        if length is None and not self._chunked:
            self.keeps = False


def _status_line(line: str) -> tuple[int, int, str]:
    """The minor version, the status and the reason."""
    if not line:
        raise http.client.RemoteDisconnected("closed without an answer")
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise BadReply("it does not begin with an HTTP status line")
    return int(found[1]), int(found[2]), (found[3] or "").strip()


def _fields(text: str) -> list[tuple[str, str]]:
    """Header or trailer lines. Those of a folded value are joined by a space, in place of all blanks between them (RFC
    9112 section 5.2)."""
    if text.count("\n") > MAX_FIELDS:
        raise BadReply("it has too many headers")
    if _FOLD.search(text):
        text = _FOLD.sub(" ", "\n".join([line.rstrip(" \t\r") for line in text.split("\n")]))
    found = _FIELD.findall(text)
    if len(found) != text.count("\n"):
        raise BadReply("a line of its headers is no header")
    return [(name, value.strip(" \t")) for name, value in found]


def _keeps(minor: int, headers: Headers) -> bool:
    """Whether the connection lives on, by its headers (RFC 9112 section 9.3)."""
    wish = headers.get("connection", "").lower()
    return "close" not in wish and (minor > 0 or "keep-alive" in wish)


def _content_length(headers: Headers) -> int | None:
    """The one length that all Content-Length headers name."""
    text = headers.get("content-length")
    if text is None:
        return None
    lengths = {part.strip(" \t") for part in text.split(",")}
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit()) or len(length) > 18:
        raise BadReply("its Content-Length is no length")
    return int(length)
