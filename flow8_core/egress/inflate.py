"""Decompression in blocks, so that a bomb of a kilobyte never becomes a gigabyte in memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from flow8_core.egress.reply import BadReply

BLOCK = 65_536
_GZIP = 16 + zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"


class Inflated:
    """Reads gzip or deflate (RFC 9110 section 8.4.1) from `source`, which gives at most as many bytes as asked and b""
    at its end. Only these two are asked for, so brotli and chains of codings are refused.

    Unlike what HTTP clients do, a stream that ends before its own end mark is an error: half a file is no file.
    """

    def __init__(self, source: Callable[[int], bytes], coding: str) -> None:
        self._source = source
        self._gzip = coding != "deflate"
        self._inflater: zlib._Decompress | None = None
        self._pending = b""
        self._ended = False

    def read(self, size: int) -> bytes:
        """At most `size` decompressed bytes; b"" at the end. Raises `BadReply`."""
        while not self._ended:
            data = self._pending or self._source(BLOCK)
            if self._inflater is None:
                if not data:
                    return b""  # no body at all, as after HEAD
                self._inflater = self._start(data)
            try:
                block = self._inflater.decompress(data, size)
            except zlib.error:
                raise BadReply("its body cannot be decompressed") from None
            self._pending = self._inflater.unconsumed_tail
            if self._inflater.eof:
                self._end_member(self._inflater.unused_data)
            elif not data and not block:
                raise BadReply("it is cut off")
            if block:
                return block
        return b""

    def _start(self, data: bytes) -> zlib._Decompress:
        if self._gzip:
            return zlib.decompressobj(_GZIP)
        # "deflate" means zlib's format, but some servers send the naked one (RFC 9110 section 8.4.1.2)
        wrapped = data[0] & 0x0F == 8 and (len(data) < 2 or int.from_bytes(data[:2], "big") % 31 == 0)
        return zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)

    def _end_member(self, rest: bytes) -> None:
        """Another gzip member may follow; anything else behind the end mark is padding."""
        if self._gzip and rest.startswith(_MAGIC):
            self._inflater, self._pending = zlib.decompressobj(_GZIP), rest
            return
        self._ended = True
        while self._source(BLOCK):
            pass  # to the end of the message, where the connection can be used again
