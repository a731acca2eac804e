"""Servers on loopback that speak plain http, which the settings allow there and oauthlib refuses everywhere.

oauthlib is shown https, and the session's transport takes that back at the last moment. Whether anything is sent is for
the egress below to say, which sees the real address.
"""

from __future__ import annotations

from typing import Any

PLAIN, SECURE = "http://", "https://"


def shown(url: str) -> str:
    """What oauthlib is told of an address."""
    return SECURE + url.removeprefix(PLAIN) if url.startswith(PLAIN) else url


def real(url: str, *, like: str) -> str:
    """The address behind one that was shown: plain where `like` is."""
    return PLAIN + url.removeprefix(SECURE) if like.startswith(PLAIN) else url


def take_back(session: Any, url: str) -> None:
    """Let a requests session's calls of `shown(url)` go where they are meant."""
    if url.startswith(PLAIN):
        session.mount(shown(url), _TakesBack(session.get_adapter(url)))


class _TakesBack:
    """A requests transport in front of another one."""

    def __init__(self, below: Any) -> None:
        self._below = below

    def send(self, request: Any, *, stream: Any, timeout: Any, verify: Any, cert: Any, proxies: Any) -> Any:
        request.url = real(request.url, like=PLAIN)
        return self._below.send(request, stream=stream, timeout=timeout, verify=verify, cert=cert, proxies=proxies)

    def close(self) -> None:
        """Nothing: the transport below is the session's."""
