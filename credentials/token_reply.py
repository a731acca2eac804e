"""Reading a token endpoint's reply: leniently, for behind a badly written one may stand the only refresh token left.

What must be there is an access token. Everything else is optional and never a reason to lose what came with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from credentials.providers.provider import Provider, at_path
from flow8_core.secret import Secret

LONGEST_LIFETIME_S = 10 * 365 * 24 * 3600
_LONGEST_TOKEN = 65536


@dataclass(frozen=True)
class Reply:
    """A token endpoint's answer as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value, whatever its case."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)


def packed(reply: Reply) -> dict[str, Any]:
    """A reply, ready for JSON, byte for byte."""
    return {"status": reply.status, "headers": dict(reply.headers), "body": reply.body.decode("latin-1")}


def unpacked(kept: Mapping[str, Any]) -> Reply:
    """What `packed` gave. Raises `KeyError` where it is something else."""
    return Reply(kept["status"], kept["headers"], kept["body"].encode("latin-1"))


@dataclass(frozen=True)
class Tokens:
    """One grant's tokens. `refresh_token` None: the reply gave none, or an empty one. `scopes` None: it said nothing.
    `lifetime_s` is the access token's, None where it does not end or the reply does not say; `idle_s` and
    `grant_lifetime_s` are what is left of the grant itself, where the reply says that."""

    access_token: Secret
    refresh_token: Secret | None = None
    lifetime_s: int | None = None
    scopes: tuple[str, ...] | None = None
    grant_lifetime_s: int | None = None
    idle_s: int | None = None


def document(reply: Reply) -> dict[str, Any]:
    """The reply's fields, from JSON or (old servers) from a form; empty where it is neither."""
    text = reply.body.decode("utf-8-sig", errors="replace")
    try:
        parsed = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        parsed = dict(parse_qsl(text)) if "access_token=" in text[:_LONGEST_TOKEN] else {}
    return parsed if isinstance(parsed, dict) else {}


def tokens_of_exchange(provider: Provider, fields: Mapping[str, Any]) -> tuple[Tokens | None, Tokens | None]:
    """The main grant and, where the service gives one, the user's own; the latter becomes the former if it is alone."""
    main = _tokens(provider, fields)
    below = at_path(fields, provider.user_token_at) if provider.user_token_at else None
    user = _tokens(provider, below) if isinstance(below, Mapping) else None
    return (main, user) if main is not None else (user, None)


def tokens_of_refresh(provider: Provider, fields: Mapping[str, Any]) -> Tokens | None:
    """The refreshed grant: at the top of the reply whichever grant it was, except with servers that repeat the
    nesting."""
    main = _tokens(provider, fields)
    if main is not None or not provider.user_token_at:
        return main
    below = at_path(fields, provider.user_token_at)
    return _tokens(provider, below) if isinstance(below, Mapping) else None


def _tokens(provider: Provider, fields: Mapping[str, Any]) -> Tokens | None:
    access = _token(fields.get("access_token"))
    if access is None:
        return None
    return Tokens(
        access_token=access,
        refresh_token=_token(fields.get("refresh_token")),
        lifetime_s=seconds(fields.get("expires_in")),
        scopes=provider.scopes.listed(fields.get("scope")),
        grant_lifetime_s=_first_of(fields, provider.grant_lifetime_fields),
        idle_s=_first_of(fields, provider.idle_fields),
    )


def _first_of(fields: Mapping[str, Any], names: Iterable[str]) -> int | None:
    return next((found for name in names if (found := seconds(fields.get(name))) is not None), None)


def seconds(value: Any) -> int | None:
    """A lifetime in whole seconds; None for what is none (missing, text, zero, negative); absurd ones are cut."""
    if isinstance(value, str):
        stripped = value.strip()
        value = int(stripped) if stripped.isascii() and stripped.isdigit() and len(stripped) <= 15 else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return int(min(value, LONGEST_LIFETIME_S)) if value >= 1 else None


def _token(value: Any) -> Secret | None:
    """A token that can stand in a header; an empty one is none."""
    if not isinstance(value, str):
        return None
    value = value.strip()
    if not value or len(value) > _LONGEST_TOKEN or not (value.isascii() and value.isprintable()):
        return None
    return Secret(value)
