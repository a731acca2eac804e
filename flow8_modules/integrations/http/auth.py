"""Which credential goes along with a request, and to which hosts alone."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from flow8_core.egress import Hosts
from flow8_core.egress.url import Url
from flow8_modules import Context, Secret, bearer, errors

SHORTEST = 6  # characters; to mask what is shorter would spoil ordinary words
_SAME_EVERYWHERE = re.compile(r"[0-9A-Za-z._~-]*")  # RFC 3986's unreserved characters: nobody escapes them


@dataclass(frozen=True)
class Auth:
    """`headers` and `query` hold the secrets; `hosts` is None where there are none, and no restriction."""

    headers: Mapping[str, Secret] = field(default_factory=dict)
    query: Mapping[str, Secret] = field(default_factory=dict)
    hosts: Hosts | None = None

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """What an answer must not bring back, in the ways in which a server may write it, the longest first."""
        values = [value.reveal() for value in (*self.headers.values(), *self.query.values())]
        forms = {form for value in values for part in _parts(value) for form in _forms(part)}
        return tuple(sorted((form for form in forms if len(form) >= SHORTEST), key=len, reverse=True))


def _parts(value: str) -> list[str]:
    """A header's or parameter's value, without the word before it (Bearer, Basic), and a Basic pair's password."""
    kind, _, last = value.rpartition(" ")
    if kind == "Bearer" and len(last) >= SHORTEST:
        return [last]
    if kind != "Basic":
        return [value, last]
    try:
        pair = base64.b64decode(last).decode()
    except (binascii.Error, ValueError):
        return [last]
    return [last, pair, pair.partition(":")[2]]


def _forms(text: str) -> tuple[str, ...]:
    if _SAME_EVERYWHERE.fullmatch(text):
        return (text,)
    return text, quote(text, safe=""), quote(text), quote_plus(text), json.dumps(text)[1:-1]


def auth_of(ctx: Context, url: Url) -> Auth:
    """The credential of the step's link or `request` component, for `url`.

    A link's token goes to its provider's hosts alone, a component's key to those that it names: `EgressDenied` for any
    other. A component that is only the company's default is left out where the host is not one of its own.
    """
    if ctx.has_link and ctx.has_component("request") and "request" not in ctx.defaults:
        raise errors.Conflict("The step names a link and a request component: name one.", path="input_mapping.link_id")
    if ctx.has_link:
        _cover(ctx.link.hosts, url, f"the {ctx.link.service} link")
        return Auth(headers=bearer(ctx.link.access_token), hosts=ctx.link.hosts)
    if not ctx.has_component("request"):
        return Auth()
    config = ctx.component("request")
    hosts = hosts_of(config)
    if "request" in ctx.defaults and not hosts.covers(url):
        return Auth()
    _cover(hosts, url, "the step's request component")
    return _from_component(config.get("auth") or {}, hosts)


def hosts_of(config: Mapping[str, Any]) -> Hosts:
    """The hosts that a `request` component names."""
    return _hosts(tuple(config.get("hosts", ())))


@lru_cache(1024)
def _hosts(entries: tuple[str, ...]) -> Hosts:
    """Made once for all calls with a component."""
    return Hosts.of(*entries)


def _cover(hosts: Hosts, url: Url, what: str) -> None:
    if not hosts.covers(url):
        raise errors.EgressDenied(
            f"{url.authority} is not a host of {what}: its credential may not go there.",
            path="input_mapping.url",
        )


def _from_component(auth: Mapping[str, Any], hosts: Hosts) -> Auth:
    match auth.get("type", "none"):
        case "bearer":
            return Auth(headers={"Authorization": Secret(f"Bearer {_reveal(auth, 'value')}")}, hosts=hosts)
        case "basic":
            password = (
                _reveal(auth, "password") if auth.get("password") else ""
            )  # with many APIs the user name is the key
            pair = f"{_reveal(auth, 'username')}:{password}"
            return Auth(headers={"Authorization": basic(pair)}, hosts=hosts)
        case "header":
            return Auth(headers={_reveal(auth, "name"): Secret(_reveal(auth, "value"))}, hosts=hosts)
        case "query":
            return Auth(query={_reveal(auth, "name"): Secret(_reveal(auth, "value"))}, hosts=hosts)
        case "none":
            return Auth(hosts=hosts)
    raise errors.InvalidCredentials("The request component's auth is of no kind that is known: store it anew.")


def basic(pair: str) -> Secret:
    """The Authorization header for `user:password` (RFC 7617)."""
    return Secret(f"Basic {base64.b64encode(pair.encode()).decode()}")


def _reveal(auth: Mapping[str, Any], name: str) -> str:
    value = auth.get(name)
    text = value.reveal() if isinstance(value, Secret) else value
    if not isinstance(text, str) or not text:
        raise errors.InvalidCredentials(f"The request component's auth has no {name}: store it anew.")
    return text
