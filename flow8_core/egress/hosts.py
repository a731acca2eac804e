"""`Hosts`: where a credential may go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flow8_core.egress.url import DEFAULT_PORTS, Url, parse_authority
from flow8_core.errors import EgressDenied, ValidationFailed

_NO_PORT = 0


@dataclass(frozen=True, slots=True)
class Hosts:
    """A set of hosts: exact names or addresses, with a port or with the scheme's own, and `*.suffix` for all names
    below a suffix (not the suffix itself). It judges host and port; plain http is `Egress`'s to refuse.

    Names are compared in their canonical spelling: `Slack.COM.` is slack.com, `bücher.example` its punycode.
    """

    entries: frozenset[str]
    _exact: frozenset[tuple[str, int]]
    _suffixes: frozenset[tuple[str, int]]

    @classmethod
    def of(cls, *entries: str) -> Hosts:
        """From `host`, `host:port`, `*.suffix` and `*.suffix:port`. Raises `ValidationFailed` on another form."""
        exact = {_entry(entry) for entry in entries if not entry.startswith("*.")}
        suffixes = {_suffix(entry) for entry in entries if entry.startswith("*.")}
        return cls(frozenset(entries), frozenset(exact), frozenset(suffixes))

    @classmethod
    def of_url(cls, *urls: str) -> Hosts:
        """Exactly the hosts of these URLs, as for a token endpoint or a base URL. Raises `EgressDenied` on no URL."""
        return cls.of(*(Url.parse(url).authority for url in urls))

    def __or__(self, other: Hosts) -> Hosts:
        return Hosts.of(*self.entries, *other.entries)

    def covers(self, url: str | Url) -> bool:
        """Whether a credential for these hosts may go to `url`; a text that is no URL is not covered."""
        if isinstance(url, str):
            try:
                url = Url.parse(url)
            except EgressDenied:
                return False
        ports = (url.port, _NO_PORT) if DEFAULT_PORTS[url.scheme] == url.port else (url.port,)
        for port in ports:
            if (url.host, port) in self._exact:
                return True
        return bool(self._suffixes) and any(
            (tail, port) in self._suffixes for tail in _tails(url.host) for port in ports
        )


def _entry(text: str) -> tuple[str, int]:
    try:
        return parse_authority(text, default_port=_NO_PORT)
    except EgressDenied as error:
        raise ValidationFailed(f"A host entry reads host, host:port or *.suffix. {error.message}") from None


def _suffix(text: str) -> tuple[str, int]:
    host, port = _entry(text[2:])
    if "." not in host or host.rpartition(".")[2].isdigit() or ":" in host:
        raise ValidationFailed("A *.suffix entry needs a suffix of at least two labels, such as *.example.com.")
    return host, port


def _tails(host: str) -> Iterable[str]:
    """`c.example`, `example` for `b.c.example`."""
    while "." in host:
        host = host.partition(".")[2]
        yield host
