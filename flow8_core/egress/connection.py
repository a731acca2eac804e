"""`Connection`: one keep-alive connection to one origin, guarded."""

from __future__ import annotations

import http.client
import os
import re
import ssl
from collections.abc import Callable
from typing import Any, cast

import urllib3.connection

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


class Connection(urllib3.connection.HTTPConnection):
    """urllib3's connection on a `Wire`, for both schemes: it never connects by itself, reads no environment, and its
    answers are `Reply`s. `listed`: the operator's allow-list names the place that it leads to."""

    response_class = Reply
    auto_open = 0

    def __init__(self, url: Url, wire: Wire, *, listed: bool) -> None:
        super().__init__(url.host, url.port)
        self.origin = url.origin
        self.listed = listed
        self.pid = os.getpid()
        self.uses = 0
        self.idle_until = 0.0
        self.reusable = True
        self.wire = wire
        self.sock = wire
        self._expects = False
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
        self._expects = request.expects
        try:
            self.request(
                request.method,
                request.url.target,
                body=request.body.chunks() if request.body.length != 0 else None,
                headers=request.headers,
            )
            self.wire.flush()
        except _AnsweredEarly:
            self.reusable = False
        except ConnectionError:
            if not self.wire.sent:
                raise
            self.reusable = False  # it may have answered before it hung up on a body that it did not want
        return self.getresponse()

    def endheaders(self, message_body: Any = None, *, encode_chunked: bool = False) -> None:
        """Send the head; where the request says so, wait for the server's word before the body."""
        super().endheaders(message_body, encode_chunked=encode_chunked)
        if not self._expects:
            return
        self.wire.flush()
        try:
            while (line := self.wire.readline(wait_s=CONTINUE_WAIT_S)).startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")):
                while self.wire.readline(wait_s=CONTINUE_WAIT_S).strip():
                    pass
                if line[9:12] == b"100":
                    return
        except TimeoutError:
            return  # a server that knows nothing of 100-continue
        self.wire.push_back(line)
        raise _AnsweredEarly

    def getresponse(self) -> Reply:  # type: ignore[override]
        """The head of the answer. Not urllib3's own, which logs the whole URL where it dislikes a header."""
        self._reply = cast("Reply", http.client.HTTPConnection.getresponse(self))
        self.wire.head_is_read()
        return self._reply

    @property
    def gone(self) -> bool:
        """Whether a kept connection took nothing of a new request: closed in the blink after it was looked at."""
        return self.uses > 1 and not self.wire.sent

    @property
    def alive(self) -> bool:
        """Whether it can carry another request: the last answer was read to its end, and nobody wants to close."""
        finished = self._reply is not None and self._reply.isclosed()
        return finished and self.reusable and self.sock is not None and not self.wire.spoke_unasked

    @property
    def keep_alive_s(self) -> float | None:
        """How long the server says that it keeps an idle connection (`Keep-Alive: timeout=5`), in seconds."""
        found = _KEEP_ALIVE.search(self._reply.headers.get("keep-alive", "")) if self._reply is not None else None
        return float(found[1]) if found else None

    def abort(self) -> None:
        """Close it whatever it is doing."""
        self.reusable = False
        self.wire.abort()
        self.close()
