"""`Body`: what a request carries, and how it is framed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from flow8_core.errors import ValidationFailed

Content = bytes | BinaryIO | Iterable[bytes] | None

BLOCK = 65_536
EXPECT_ABOVE = 1 << 20  # bytes; below, asking first costs a round trip and saves nothing


@dataclass(frozen=True)
class Body:
    """`length` is in bytes; None means chunked. `replayable`: nothing is consumed by sending it."""

    content: Content
    length: int | None

    @classmethod
    def of(cls, content: Content, *, declared: int | None = None) -> Body:
        """`declared` is the Content-Length that a caller set itself; it must be true. A file is sent from where it
        stands to its end. Raises `ValidationFailed` on a length that is not so, and on text."""
        if isinstance(content, str):
            raise ValidationFailed("The body must be bytes; encode the text first.", path="body")
        if isinstance(content, bytearray | memoryview):
            content = bytes(content)
        length = _length(content)
        if declared is not None and length is not None and declared != length:
            raise ValidationFailed(
                "The Content-Length header differs from the body's length.", path="headers.content-length"
            )
        return cls(content, declared if length is None else length)

    @property
    def replayable(self) -> bool:
        return self.content is None or isinstance(self.content, bytes)

    @property
    def large(self) -> bool:
        """Whether it is worth asking the server first (Expect: 100-continue)."""
        return self.length is None or self.length > EXPECT_ABOVE

    def chunks(self) -> Iterable[bytes]:
        """The bytes, in blocks; exactly `length` of them where that is known.

        Raises `ValidationFailed` where the source ends early (a file that shrank) or cannot be read.
        """
        if self.content is None or isinstance(self.content, bytes):
            return (self.content or b"",)
        return self._cut(_blocks(self.content))

    def _cut(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        left = self.length
        for block in blocks:
            if left is None:
                yield block
                continue
            block = block[:left]  # noqa: PLW2901  # a file that grew is cut where it ended
            left -= len(block)
            if block:
                yield block
            if not left:
                return
        if left:
            raise ValidationFailed("The body ended before its announced length.", path="body", ambiguous=True)


def _blocks(content: BinaryIO | Iterable[bytes]) -> Iterator[bytes]:
    read = getattr(content, "read", None)
    blocks = iter(content) if read is None else iter(lambda: read(BLOCK), b"")
    while True:
        try:
            block = next(blocks)
        except StopIteration:
            return
        except OSError:
            raise ValidationFailed("The body could not be read to its end.", path="body", ambiguous=True) from None
        if not isinstance(block, bytes | bytearray | memoryview):
            raise ValidationFailed("The body must be bytes; encode the text first.", path="body", ambiguous=True)
        yield bytes(block)


def _length(content: Any) -> int | None:
    if content is None:
        return 0
    if isinstance(content, bytes):
        return len(content)
    if not hasattr(content, "seek") or not hasattr(content, "read"):
        return None
    try:
        here: int = content.tell()
        content.seek(0, os.SEEK_END)  # what it returns is not to be relied on: s3transfer's chunks return nothing
        end: int = content.tell()
        content.seek(here)
    except (OSError, ValueError, AttributeError):
        return None
    return max(0, end - here)
