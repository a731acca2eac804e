"""URLs, parsed once and strictly: the checker and the client use the same parts, so they cannot disagree.

`urlsplit` sends `http://127.0.0.1:80\\@evil.com/` to evil.com and urllib3 sends it to 127.0.0.1. Here such a text is no
URL. What comes out is never parsed again: the connection gets `host` and `port`, the request line gets `target`.
Rules: RFC 3986 without userinfo, and the WHATWG rule that a host whose last label is a number must be a plain dotted
quad, so that 2130706433, 0x7f.1, 127.1 and 0177.0.0.1 mean nothing.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote

from flow8_core.errors import EgressDenied

MAX_LENGTH = 16_384
DEFAULT_PORTS = {"http": 80, "https": 443}
_TOO_LONG = f"The URL is longer than {MAX_LENGTH} characters."

_SHAPE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(?:#.*)?")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\xa0\\\ud800-\udfff]")  # controls, spaces, backslash, lone surrogates
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([1-9][0-9]{0,4}))?")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class Url:
    """Where a request goes. `host` is canonical: lower-case ASCII (punycode), no brackets, no trailing dot.

    `target` is what the request line carries: path and query, ASCII, otherwise as written. It may hold a secret (an API
    key in the query, a webhook's path), so it is not shown in `repr`; messages name `authority` alone.
    """

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Url:
        """Read an absolute http or https URL; a fragment is dropped. Raises `EgressDenied` on anything else."""
        if len(text) > MAX_LENGTH:
            raise EgressDenied(_TOO_LONG)
        shape = None if _FORBIDDEN.search(text) else _SHAPE.fullmatch(text)
        if shape is None:
            raise EgressDenied(
                "The URL must read https://host/path, without spaces, backslashes or control characters."
            )
        scheme, authority, target = shape[1].lower(), shape[2], shape[3]
        if scheme not in DEFAULT_PORTS:
            raise EgressDenied("Only http and https URLs can be called.")
        host, port = parse_authority(authority, default_port=DEFAULT_PORTS[scheme])
        return cls(scheme, host, port, _target(target))

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: what two requests must share to share a credential."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Host, and port where it is not the scheme's own, as the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if DEFAULT_PORTS[self.scheme] == self.port else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    def with_query(self, query: str) -> Url:
        """This URL with more behind its query, encoded as `urllib.parse.urlencode` does. Raises `EgressDenied` where it
        gets too long."""
        if not query:
            return self
        longer = replace(self, target=f"{self.target}{'&' if '?' in self.target else '?'}{query}")
        if len(str(longer)) > MAX_LENGTH:
            raise EgressDenied(_TOO_LONG)
        return longer

    def join(self, location: str) -> Url:
        """The URL that a Location header means, relative to this one (RFC 3986 section 5.2). Raises `EgressDenied`."""
        reference = quote(location.partition("#")[0], safe=_PRINTABLE, encoding="latin-1", errors="replace")
        if _SCHEME.match(reference):
            return Url.parse(reference)
        if reference.startswith("//"):
            return Url.parse(f"{self.scheme}:{reference}")
        path, _, _ = self.target.partition("?")
        if reference.startswith("/"):
            target = reference
        elif not reference or reference.startswith("?"):
            target = path + reference
        else:
            target = path.rpartition("/")[0] + "/" + reference
        return Url.parse(f"{self.scheme}://{self.authority}{_without_dots(target)}")


@lru_cache(4096)
def parse_authority(text: str, *, default_port: int) -> tuple[str, int]:
    """The canonical host and the port of `host`, `host:port` or `[v6]:port`. Raises `EgressDenied`."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise EgressDenied("The URL's host must be a name or an address, with at most a port and no user name.")
    port = int(found[2]) if found[2] else default_port
    if port > 65_535:
        raise EgressDenied("The URL's port must lie between 1 and 65535.")
    return canonical_host(found[1]), port


def canonical_host(text: str) -> str:
    """One spelling for each host. Raises `EgressDenied` for what has none."""
    if text.startswith("["):
        return _v6(text[1:-1])
    host = text.lower()
    if not host.isascii():
        host = _to_ascii(host)
    host = host.removesuffix(".")
    labels = host.split(".")
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise EgressDenied("The URL's host is not a valid name.")
    if _NUMBER.fullmatch(labels[-1]):
        return _v4(host)
    return host


def _v4(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        raise EgressDenied("An IPv4 address must be written as four decimal numbers.") from None


def _v6(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except AddressValueError:
        raise EgressDenied("The URL's host is not a valid IPv6 address.") from None


def _to_ascii(host: str) -> str:
    """Punycode by IDNA 2008. A name that Unicode would fold into another one (circled digits, full-width dots) is
    refused, not folded: what was checked and what is called must look alike."""
    import idna

    if unicodedata.normalize("NFKC", host) != host:
        raise EgressDenied("The URL's host has characters that stand for others; write it in plain letters.")
    try:
        return idna.encode(host, strict=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise EgressDenied("The URL's host is not a valid name.") from None


def _target(text: str) -> str:
    if not text.startswith("/"):
        text = "/" + text
    return text if text.isascii() else quote(text, safe=_PRINTABLE)


def _without_dots(target: str) -> str:
    """RFC 3986 section 5.2.4, for paths that a redirect named relatively."""
    path, mark, query = target.partition("?")
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept) + mark + query
