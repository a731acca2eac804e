"""`Wire`: a connected socket on which no single operation outlives the call's total deadline.

A socket's own timeout starts again with every byte: a server that drips one byte a second is never too late. Here the
time that is left is set before each receive and each TLS record, and the response head has a byte budget as well.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
from typing import TYPE_CHECKING

from flow8_core.egress.reply import BadReply

if TYPE_CHECKING:
    from flow8_core.clock import Deadline

RECORD = 16_384  # bytes in one TLS record: one send is one record, and has one timeout
HEAD_LIMIT = 262_144  # bytes of status lines and headers, interim responses included
MAX_LINE = 65_536  # of a status line, or of the line before a chunk

_BLANK_LINE = re.compile(rb"^\r?\n", re.MULTILINE)


class Wire:
    """Small writes are held back until `flush`, so that a request's head and a short body leave as one packet. What was
    received and not yet read is kept for the next reader.

    `sent` tells whether any byte of the current call may have left: false means that nobody can have acted on it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._word = select.poll()
        self._word.register(sock, select.POLLIN)
        self._held: list[bytes | memoryview] = []
        self._held_size = 0
        self._received = bytearray()
        self._head_left: int | None = None
        self._deadline: Deadline | None = None
        self.sent = False

    def begin(self, deadline: Deadline) -> None:
        """A new call starts: all that follows ends at `deadline`."""
        self._deadline = deadline
        self._head_left = HEAD_LIMIT
        self.sent = False

    def head_is_read(self) -> None:
        """The body follows, which has limits of its own."""
        self._head_left = None

    @property
    def spoke_unasked(self) -> bool:
        """After an answer: whether the peer sent more, which could be taken for the answer to the next request."""
        return bool(self._received)

    def stale(self) -> bool:
        """Whether an idle connection is of no use any more: the peer closed it, or said something unasked."""
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return True
        return bool(self._word.poll(0))

    def sendall(self, data: bytes | memoryview) -> None:
        """Raises what `flush` raises. Of what is long, no more is copied than fills a record."""
        room = RECORD - self._held_size
        self._held.append(data[:room])
        self._held_size += min(len(data), room)
        if len(data) >= room:
            self.flush()
            self._send(memoryview(data)[room:])

    def flush(self) -> None:
        """Send what was held back. Raises `TimeoutError` at the deadline, `OSError` where the peer is gone."""
        held = b"".join(self._held)
        self._held.clear()
        self._held_size = 0
        self._send(memoryview(held))

    def _send(self, view: memoryview) -> None:
        while view:
            self._arm()
            view = view[self._sock.send(view[:RECORD]) :]
            self.sent = True

    def read_line(self, *, wait_s: float | None = None) -> bytes:
        """One line and its end, which is missing where the peer closed or the line is longer than `MAX_LINE`. Raises
        `TimeoutError` where it does not begin within `wait_s` seconds."""
        while not (end := self._received.find(b"\n") + 1) and len(self._received) < MAX_LINE:
            if not self._receive(None if self._received else wait_s):
                break
        return self._taken(end if 0 < end <= MAX_LINE else MAX_LINE)

    def read_head(self) -> bytes:
        """Lines up to a blank one, and without it. Raises `BadReply` where it is missing, or too far away."""
        begin = 0
        while (found := _BLANK_LINE.search(self._received, begin)) is None:
            begin = max(0, len(self._received) - 1)  # half of a line's end may be there
            if len(self._received) > HEAD_LIMIT:
                raise BadReply("its headers are too large")
            if not self._receive():
                raise BadReply("it ends within its headers")
        head = self._taken(found.start())
        self._taken(found.end() - found.start())
        return head

    def read(self, size: int) -> bytes:
        """So many bytes, fewer where the peer closed."""
        blocks = [self._taken(size)]
        left = size - len(blocks[0])
        while left and (block := self._from_socket(left)):
            blocks.append(block)
            left -= len(block)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def push_back(self, data: bytes) -> None:
        """Have `data` read again, before anything else."""
        self._received[:0] = data

    def close(self) -> None:
        """Close now, whoever reads."""
        self._sock.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()  # an answer that nobody read to its end, or an egress that nobody closed

    def _taken(self, size: int) -> bytes:
        """The first `size` of the bytes that are there already."""
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _receive(self, wait_s: float | None = None) -> bool:
        """More bytes; False where the peer closed."""
        block = self._from_socket(RECORD, wait_s)
        self._received += block
        if self._head_left is not None:
            self._head_left -= len(block)
            if self._head_left < 0:
                raise BadReply("its headers are too large")
        return bool(block)

    def _from_socket(self, size: int, wait_s: float | None = None) -> bytes:
        self._arm(wait_s)
        return self._sock.recv(size)

    def _arm(self, wait_s: float | None = None) -> None:
        left = self._deadline.remaining() if self._deadline is not None else 0.0
        if left <= 0.0:
            raise TimeoutError
        self._sock.settimeout(left if wait_s is None else min(left, wait_s))
