"""`Egress`: the one way out. Every byte that this code base sends over HTTP passes `Egress.open`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, BinaryIO

from flow8_core.clock import Clock, Deadline, SystemClock
from flow8_core.egress.answer import Answer
from flow8_core.egress.body import Content
from flow8_core.egress.connection import Connection
from flow8_core.egress.dialer import Dialer
from flow8_core.egress.failures import NETWORK_ERRORS, explain
from flow8_core.egress.hosts import Hosts
from flow8_core.egress.policy import Policy
from flow8_core.egress.pool import Pool
from flow8_core.egress.redirects import MAX_REDIRECTS, next_request
from flow8_core.egress.request import HeaderValue, Request, prepare
from flow8_core.egress.resolver import GetAddrInfo, Resolver
from flow8_core.egress.response import Response
from flow8_core.egress.settings import EgressSettings
from flow8_core.egress.tls import make_context
from flow8_core.egress.url import Url
from flow8_core.errors import EgressDenied, VendorBadResponse
from flow8_core.secret import Secret

if TYPE_CHECKING:
    import requests


class Egress:
    """Guarded, pooled HTTP for one process and all its threads; make it after the fork (a fork later is survived).

    - Addresses are judged when a connection is made, on the very addresses that are connected to (`Policy`).
    - Nothing comes from the environment: no proxies, no netrc, no CA bundles, no key log; cookies are ignored.
    - `deadline` is total: name look-up, connecting, TLS, upload, waiting and the last byte of the body.
    - Nothing is sent twice. A pooled connection that turns out to be closed is replaced before anything is sent.

    Errors of all methods: `EgressDenied` (nothing was sent); `ValidationFailed` for what cannot be sent;
    `ProviderUnavailable` and `ExecutionTimeout`, ambiguous once a byte of a POST, PUT, PATCH or DELETE may have left;
    `VendorBadResponse` for an answer that is too large, cut off or no HTTP, ambiguous likewise.
    """

    def __init__(
        self,
        settings: EgressSettings | None = None,
        *,
        clock: Clock | None = None,
        resolve: GetAddrInfo = socket.getaddrinfo,
    ) -> None:
        self._settings = settings or EgressSettings()
        self._clock = clock or SystemClock()
        self._dialer = Dialer(Policy(self._settings), Resolver(resolve))
        self._pool = Pool(self._connect, size=self._settings.pool_size, clock=self._clock)
        self._tls: ssl.SSLContext | None = None

    def send(
        self,
        method: str,
        url: str | Url,
        *,
        headers: Mapping[str, HeaderValue] | None = None,
        body: Content = None,
        deadline: Deadline,
        credentials: Mapping[str, Secret] | None = None,
        hosts: Hosts | None = None,
        redirects: int = 0,
        max_bytes: int | None = None,
        sink: BinaryIO | None = None,
    ) -> Response:
        """Send a request and read the whole answer, whatever its status.

        `credentials` are headers with secrets; they need `hosts`, the only ones that they are sent to. Wherever `hosts`
        is given, `url` must be covered by it, and plain http is only for places in the allow-list. `body` is streamed
        where it is a file or an iterable of bytes. `redirects` (at most 5) are followed for GET and HEAD; across
        origins neither credentials nor any header of the caller's that might be one goes along. `max_bytes` caps the
        decompressed body. `sink` takes the body of a 2xx answer in place of `Response.body`.
        """
        started = self._clock.monotonic()
        request = prepare(method, url, headers=headers, body=body, credentials=credentials, hosts=hosts)
        limit = self._settings.max_bytes if max_bytes is None else max_bytes
        with self._follow(
            request, deadline, redirects=max(0, min(redirects, MAX_REDIRECTS)), max_bytes=limit
        ) as answer:
            content = _read(answer, sink if 200 <= answer.status < 300 else None)
        return Response(
            status=answer.status,
            headers=answer.headers,
            body=content,
            url=answer.url,
            duration_ms=round((self._clock.monotonic() - started) * 1000),
            method=answer.request.method,
        )

    def open(
        self,
        method: str,
        url: str | Url,
        *,
        headers: Mapping[str, HeaderValue] | None = None,
        body: Content = None,
        deadline: Deadline,
        credentials: Mapping[str, Secret] | None = None,
        hosts: Hosts | None = None,
        max_bytes: int | None = None,
        decode: bool = True,
    ) -> Answer:
        """As `send`, but the body stays on the wire, and redirects are not followed: for vendor SDKs and for streams.

        `decode=False` gives the body as it is on the wire, for callers that check its length or digest (botocore).
        """
        request = prepare(method, url, headers=headers, body=body, credentials=credentials, hosts=hosts, decode=decode)
        limit = self._settings.max_bytes if max_bytes is None else max_bytes
        return self._exchange(request, deadline, max_bytes=limit, decode=decode)

    def session(
        self, *, deadline: Deadline, hosts: Hosts | None = None, max_bytes: int | None = None
    ) -> requests.Session:
        """A `requests.Session` for one operation, on this egress. See `guard`."""
        import requests

        session = requests.Session()
        self.guard(session, deadline=deadline, hosts=hosts, max_bytes=max_bytes)
        return session

    def guard(
        self,
        session: requests.Session,
        *,
        deadline: Deadline,
        hosts: Hosts | None = None,
        max_bytes: int | None = None,
    ) -> None:
        """Put an existing session (an `OAuth2Session`) on this egress: same guard and errors, no environment, no
        redirects, no retries, no cookies. A `timeout` of the caller's can only shorten `deadline`."""
        from flow8_core.egress.sessions import guard

        guard(session, self, deadline=deadline, hosts=hosts, max_bytes=max_bytes)

    def close(self) -> None:
        """Close idle connections. Calls under way end as they would."""
        self._pool.close()

    def __enter__(self) -> Egress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self, request: Request, deadline: Deadline, *, redirects: int, max_bytes: int) -> Answer:
        for _ in range(redirects + 1):
            answer = self._exchange(request, deadline, max_bytes=max_bytes, decode=True)
            if not redirects:
                return answer
            try:
                following = next_request(request, answer)
            except EgressDenied:
                answer.close()
                raise
            if following is None:
                return answer
            answer.discard()
            request = following
        raise VendorBadResponse(f"{request.url.authority} redirects more than {redirects} times.")

    def _exchange(self, request: Request, deadline: Deadline, *, max_bytes: int, decode: bool) -> Answer:
        while True:
            connection = self._take(request, deadline)
            try:
                reply = connection.ask(request, deadline)
            except NETWORK_ERRORS as error:
                connection.abort()
                if connection.gone and isinstance(error, ConnectionError) and request.body.replayable:
                    continue
                raise explain(error, request, deadline, sent=connection.wire.sent) from None
            except BaseException:
                connection.abort()
                raise
            return Answer(
                reply, connection, request, deadline, max_bytes=max_bytes, decode=decode, give=self._pool.give
            )

    def _take(self, request: Request, deadline: Deadline) -> Connection:
        try:
            connection = self._pool.take(request.url, deadline)
        except NETWORK_ERRORS as error:
            raise explain(error, request, deadline, sent=False) from None
        if request.confidential and request.url.scheme == "http" and not connection.listed:
            connection.abort()
            raise EgressDenied(f"A credential may not travel over plain http to {request.url.authority}.")
        return connection

    def _connect(self, url: Url, deadline: Deadline) -> Connection:
        limit = deadline.capped(self._settings.connect_timeout_s)
        return Connection.open(url, limit, dialer=self._dialer, tls=self._context)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = make_context(
                self._settings.ca_file
            )  # two threads at once make two: no harm, and no lock to fork
        return self._tls


def _read(answer: Answer, sink: BinaryIO | None) -> bytes:
    if sink is None:
        return answer.read()
    for block in answer.stream():
        sink.write(block)
    return b""
