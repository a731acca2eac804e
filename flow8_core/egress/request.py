"""`Request`: one request, checked and complete, before anything is connected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from flow8_core.egress.body import Body, Content
from flow8_core.egress.hosts import Hosts
from flow8_core.egress.url import Url
from flow8_core.errors import EgressDenied, InternalError, ValidationFailed
from flow8_core.secret import Secret

SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS"))  # RFC 9110 section 9.2.1: they change nothing
USER_AGENT: Final = "flow8-modules"
# What survives a redirect to another origin. Everything else may be a credential: X-Api-Key, Cookie, a signature.
HARMLESS: Final = frozenset(("accept", "accept-encoding", "accept-language", "range", "user-agent"))

_REFUSED_METHODS = frozenset(("CONNECT", "TRACE", "TRACK"))
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_FRAMING = frozenset(("host", "content-length", "transfer-encoding", "connection", "expect"))
_HOP_BY_HOP = frozenset(("te", "trailer", "upgrade", "keep-alive"))  # and all that begin with proxy-
_SECRET_HEADERS = frozenset(("authorization", "cookie"))  # credentials whoever sets them
_NO_BODY = frozenset(("GET", "HEAD", "OPTIONS", "DELETE"))

HeaderValue = str | bytes


@dataclass(frozen=True)
class Request:
    """`headers` are those that go onto the wire, revealed credentials among them (hence not in `repr`).

    `confidential`: it carries a credential, so plain http is only for places that the operator listed. `expects`: wait
    for the server's word before the body is sent.
    """

    method: str
    url: Url
    headers: Mapping[str, str] = field(repr=False)
    body: Body = field(repr=False)
    confidential: bool
    expects: bool

    @property
    def head(self) -> bytes:
        """Request line and headers as they go onto the wire. Nothing in them can end a line: see `prepare`."""
        fields = "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])
        return f"{self.method} {self.url.target} HTTP/1.1\r\n{fields}\r\n".encode("latin-1")

    @property
    def writes(self) -> bool:
        """Whether it may have an effect at the vendor."""
        return self.method not in SAFE_METHODS

    def redirected(self, url: Url) -> Request:
        """The same GET or HEAD for another URL. Across origins only `HARMLESS` headers go along."""
        if url.origin == self.url.origin:
            return replace(self, url=url)
        headers = {name: value for name, value in self.headers.items() if name.lower() in HARMLESS}
        headers["Host"] = url.authority
        return replace(self, url=url, headers=headers, confidential=False)


def prepare(
    method: str,
    url: str | Url,
    *,
    headers: Mapping[str, HeaderValue] | None,
    body: Content,
    credentials: Mapping[str, Secret] | None,
    hosts: Hosts | None,
    decode: bool = True,
) -> Request:
    """Check everything that can be checked without a connection.

    Framing is ours: a caller's Host, Content-Length, Transfer-Encoding, Connection and Expect are accepted where they
    say what is so anyway (SDKs set them), and refused where they differ. With `decode`, Accept-Encoding is ours too
    unless it asks for no compression: we ask for what we can undo. Raises `EgressDenied` where the URL may not be
    called or is not covered by `hosts`, `ValidationFailed` on a header, method or body that cannot be sent.
    """
    method = method.upper()
    if not _TOKEN.fullmatch(method) or method in _REFUSED_METHODS:
        raise ValidationFailed("The HTTP method is not one that can be used.", path="method")
    target = Url.parse(url) if isinstance(url, str) else url
    if credentials and hosts is None:
        raise InternalError("A credential needs the hosts that it may go to.")
    if hosts is not None and not hosts.covers(target):
        raise EgressDenied(f"The credential may not be sent to {target.authority}: it belongs to another host.")
    given = _Fields(target)
    for name, value in (headers or {}).items():
        given.add(name, value)
    for name, secret in (credentials or {}).items():
        given.add(name, secret.reveal())
    content = Body.of(body, declared=given.length)
    return Request(
        method=method,
        url=target,
        headers=given.complete(method, content, decode=decode),
        body=content,
        confidential=hosts is not None or given.secret,
        expects=given.expects and content.large,
    )


class _Fields:
    """Collects a request's headers: last one wins, whatever its case; framing is set apart."""

    def __init__(self, url: Url) -> None:
        self._url = url
        self._fields: dict[str, tuple[str, str]] = {}
        self.length: int | None = None
        self.chunked = False
        self.expects = False

    def add(self, name: HeaderValue, value: HeaderValue) -> None:
        name = name if isinstance(name, str) else name.decode("latin-1")
        value = value if isinstance(value, str) else value.decode("latin-1")
        if not _TOKEN.fullmatch(name):
            raise ValidationFailed("A header's name has characters that names cannot have.", path="headers")
        if not _VALUE.fullmatch(value):
            raise ValidationFailed("The header's value has characters that cannot be sent.", path=f"headers.{name}")
        key = name.lower()
        if key in _FRAMING:
            self._agree(key, value.strip().lower())
        elif key in _HOP_BY_HOP or key.startswith("proxy-"):
            raise ValidationFailed("This header belongs to the connection.", path=f"headers.{key}")
        else:
            self._fields[key] = (name, value)

    @property
    def secret(self) -> bool:
        return not _SECRET_HEADERS.isdisjoint(self._fields)

    def complete(self, method: str, body: Body, *, decode: bool) -> dict[str, str]:
        """All headers, with those that every request needs."""
        _, coding = self._fields.pop("accept-encoding", ("", "gzip, deflate" if decode else "identity"))
        _, agent = self._fields.pop("user-agent", ("", USER_AGENT))
        if decode and coding.strip().lower() != "identity":
            coding = "gzip, deflate"
        fields = {"Host": self._url.authority, "Accept-Encoding": coding, "User-Agent": agent}
        fields.update(self._fields.values())
        if self.chunked or body.length is None:
            fields["Transfer-Encoding"] = "chunked"
        elif body.length or method not in _NO_BODY:
            fields["Content-Length"] = str(body.length)
        if self.expects and body.large:
            fields["Expect"] = "100-continue"
        return fields

    def _agree(self, key: str, value: str) -> None:
        """Raises `ValidationFailed` where a header that is ours to write says something else than we would."""
        match key:
            case "host":
                agrees = value in (self._url.authority, f"{self._url.host}:{self._url.port}")
            case "content-length":
                agrees = value.isascii() and value.isdigit() and len(value) <= 18
                self.length = int(value) if agrees else None
            case "transfer-encoding":
                agrees = self.chunked = value == "chunked"
            case "connection":
                agrees = value in ("keep-alive", "close")
            case _:
                agrees = self.expects = value == "100-continue"
        if not agrees:
            raise ValidationFailed("This header is set by the platform and cannot differ.", path=f"headers.{key}")
