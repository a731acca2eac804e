"""`Wire`: a connected socket on which no single operation outlives the call's total deadline.

A socket's own timeout starts again with every byte: a server that drips one byte a second is never too late. Here the
time that is left is set before each receive and each TLS record, and the response head has a byte budget as well.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
from typing import TYPE_CHECKING

from urllib3.util.wait import wait_for_read

from flow8_core.egress.reply import BadReply

if TYPE_CHECKING:
    from flow8_core.clock import Deadline

RECORD = 16_384  # bytes in one TLS record: one send is one record, and has one timeout
HEAD_LIMIT = 262_144  # bytes of status lines and headers, interim responses included


class Wire:
    """Stands where `http.client` expects its socket. Small writes are held back until `flush`, so that a request's head
    and a short body leave as one packet.

    `sent` tells whether any byte of the current call may have left: false means that nobody can have acted on it.
    `spoke_unasked`: the peer sent more than its answer, so that what comes next could be taken for another one.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._held: list[bytes | memoryview] = []
        self._held_size = 0
        self._pushed_back = b""
        self._head_left: int | None = None
        self._readers = 0
        self._closing = False
        self._deadline: Deadline | None = None
        self.sent = False
        self.spoke_unasked = False

    def begin(self, deadline: Deadline) -> None:
        """A new call starts: all that follows ends at `deadline`."""
        self._deadline = deadline
        self._head_left = HEAD_LIMIT
        self.sent = False

    def head_is_read(self) -> None:
        """The body follows, which has limits of its own."""
        self._head_left = None

    def stale(self) -> bool:
        """Whether an idle connection is of no use any more: the peer closed it, or said something unasked."""
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return True
        return wait_for_read(self._sock, timeout=0.0)

    def sendall(self, data: bytes | memoryview) -> None:
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size >= RECORD:
            self.flush()

    def flush(self) -> None:
        """Send what was held back. Raises `TimeoutError` at the deadline, `OSError` where the peer is gone."""
        view = memoryview(self._held[0] if len(self._held) == 1 else b"".join(self._held))
        self._held.clear()
        self._held_size = 0
        while view:
            self._arm()
            view = view[self._sock.send(view[:RECORD]) :]
            self.sent = True

    def readline(self, *, wait_s: float) -> bytes:
        """One line, read byte by byte so that nothing behind it is taken. Raises `TimeoutError` where it does not begin
        within `wait_s` seconds; b"" where the peer closed."""
        line = b""
        while not line.endswith(b"\n"):
            byte = bytearray(1)
            if not self.recv_into(byte, wait_s=None if line else wait_s):
                break
            line += byte
        return line

    def push_back(self, data: bytes) -> None:
        """Have `data` read again, before anything else."""
        self._pushed_back = data + self._pushed_back

    def recv_into(self, buffer: bytearray | memoryview, *, wait_s: float | None = None) -> int:
        if self._pushed_back:
            size = min(len(buffer), len(self._pushed_back))
            buffer[:size] = self._pushed_back[:size]
            self._pushed_back = self._pushed_back[size:]
            return size
        self._arm(wait_s)
        size = self._sock.recv_into(buffer)
        if self._head_left is not None:
            self._head_left -= size
            if self._head_left < 0:
                raise BadReply("its headers are too large")
        return size

    def makefile(self, mode: str, buffering: int | None = None) -> io.BufferedReader:
        """What `http.client` reads a response from. Closing it does not close the wire."""
        del mode, buffering
        self._readers += 1
        return _Reader(_Inlet(self))

    def fileno(self) -> int:
        """For whoever waits for it in a select."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close once the response that is being read has been read, as sockets do."""
        self._closing = True
        if self._readers <= 0:
            self._sock.close()

    def reader_closed(self) -> None:
        self._readers -= 1
        if self._closing:
            self.close()

    def abort(self) -> None:
        """Close now, whoever reads."""
        self._readers = 0
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()  # an answer that nobody read to its end, or an egress that nobody closed

    def _arm(self, wait_s: float | None = None) -> None:
        left = self._deadline.remaining() if self._deadline is not None else 0.0
        if left <= 0.0:
            raise TimeoutError
        self._sock.settimeout(left if wait_s is None else min(left, wait_s))


class _Inlet(io.RawIOBase):
    """The wire as a raw stream."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.sealed = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return 0 if self.sealed else self.wire.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.wire.reader_closed()


class _Reader(io.BufferedReader):
    """Reads one answer, and notices at its end whether more came along with it."""

    raw: _Inlet

    def close(self) -> None:
        if not self.closed:
            self.raw.sealed = True
            if self.peek(1):
                self.raw.wire.spoke_unasked = True
        super().close()
