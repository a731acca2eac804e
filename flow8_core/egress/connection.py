"""`Connection`: one keep-alive connection to one origin, guarded."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable

from flow8_core.clock import Deadline
from flow8_core.egress.dialer import Dialer
from flow8_core.egress.reply import Reply
from flow8_core.egress.request import Request
from flow8_core.egress.url import Url
from flow8_core.egress.wire import Wire

CONTINUE_WAIT_S = 1.0  # RFC 9110 section 10.1.1: do not wait for ever for a 100
_INSTANT = 1e-6  # seconds; 0.0 would mean "do not block"
_KEEP_ALIVE = re.compile(r"timeout\s*=\s*([0-9]{1,6})")


class _AnsweredEarly(Exception):
    """The final answer came instead of "100 Continue": the body stays here."""


class Connection:
    """HTTP/1.1 on a `Wire`, one request after the other (RFC 9112). `listed`: the operator's allow-list names the place
    that it leads to."""

    def __init__(self, url: Url, wire: Wire, *, listed: bool) -> None:
        self.origin = url.origin
        self.listed = listed
        self.pid = os.getpid()
        self.uses = 0
        self.idle_until = 0.0
        self.reusable = True
        self.wire = wire
        self._reply: Reply | None = None

    @classmethod
    def open(cls, url: Url, deadline: Deadline, *, dialer: Dialer, tls: Callable[[], ssl.SSLContext]) -> Connection:
        """Connect, and shake hands where the scheme is https; certificate and host name are checked against the URL.

        Raises `EgressDenied`, `TimeoutError` at the deadline, `ssl.SSLError` and other `OSError`s.
        """
        sock, listed = dialer.dial(url, deadline)
        try:
            if url.scheme == "https":
                sock.settimeout(deadline.remaining() or _INSTANT)
                sock = tls().wrap_socket(sock, server_hostname=url.host)
        except BaseException:
            sock.close()
            raise
        return cls(url, Wire(sock), listed=listed)

    def ask(self, request: Request, deadline: Deadline) -> Reply:
        """Send a request and read the head of its answer; the body comes from the result, by the same deadline."""
        self.uses += 1
        self.wire.begin(deadline)
        try:
            self._say(request)
        except _AnsweredEarly:
            self.reusable = False
        except ConnectionError:
            if not self.wire.sent:
                raise
            self.reusable = False  # it may have answered before it hung up on a body that it did not want
        return self._hear(request)

    @property
    def gone(self) -> bool:
        """Whether a kept connection took nothing of a new request: closed in the blink after it was looked at."""
        return self.uses > 1 and not self.wire.sent

    @property
    def alive(self) -> bool:
        """Whether it can carry another request: the last answer was read to its end, and nobody wants to close."""
        finished = self._reply is not None and self._reply.ended
        return finished and self.reusable and not self.wire.spoke_unasked

    @property
    def keep_alive_s(self) -> float | None:
        """How long the server says that it keeps an idle connection (`Keep-Alive: timeout=5`), in seconds."""
        said = self._reply.headers.get("keep-alive") if self._reply is not None else None
        found = _KEEP_ALIVE.search(said) if said else None
        return float(found[1]) if found else None

    def abort(self) -> None:
        """Close it whatever it is doing."""
        self.reusable = False
        self.wire.close()

    def _say(self, request: Request) -> None:
        """The whole request, framed as its head says."""
        self.wire.sendall(request.head)
        if request.expects:
            self._wait_for_word()
        if request.body.length is None:
            for block in request.body.chunks():
                if block:  # an empty one would be the end
                    for part in (b"%x\r\n" % len(block), block, b"\r\n"):  # put together they would be copied
                        self.wire.sendall(part)
            self.wire.sendall(b"0\r\n\r\n")
        elif request.body.length:
            for block in request.body.chunks():
                self.wire.sendall(block)
        self.wire.flush()

    def _wait_for_word(self) -> None:
        """Let the server look at the head before the body follows."""
        self.wire.flush()
        try:
            while (line := self.wire.read_line(wait_s=CONTINUE_WAIT_S)).startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
                while self.wire.read_line(wait_s=CONTINUE_WAIT_S).strip():
                    pass
                if line[9:12] == b"100":
                    return
        except TimeoutError:
            return  # a server that knows nothing of 100-continue
        self.wire.push_back(line)
        raise _AnsweredEarly

    def _hear(self, request: Request) -> Reply:
        """The head of the answer."""
        self._reply = None
        self._reply = reply = Reply(self.wire, method=request.method)
        self.wire.head_is_read()
        self.reusable = self.reusable and reply.keeps
        return reply
