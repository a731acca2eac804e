"""What OAuth2 servers do that clients do not expect: switches that all six vendors have.

Each is known from the field: rotation turned on for everybody, lifetimes as text or not at all, scopes with commas,
errors under a 200, clocks that are wrong, application secrets that ran out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any, Literal

from flow8_lab.clock import Clock
from flow8_lab.http import Reply

ABSURD_S = 10**15  # seconds: past the end of every calendar

Replay = Literal["own", "reusable", "grace", "strict", "family"]


@dataclass(frozen=True)
class Quirks:
    """What the control API may change at any of the OAuth2 vendors; each begins as the vendor itself does.

    `replay`: what becomes of a used refresh token: the vendor's own rule; it works on ("reusable"); a new one comes
    with each refresh and the used one works for `replay_grace_s` seconds more ("grace"), no more ("strict"), or kills
    the whole grant when it is shown again ("family").
    `expires_in_reply` and `scope_reply`: how a token reply puts them, whatever holds in fact; "shrunk" leaves the last
    scope out. `error_status`: the HTTP status of every refusal of the token endpoint, as 200.
    `clock_skew_s`: how far the vendor's clock is ahead of ours: in `Date`, id_tokens and times that it names.
    `deny_error`: the error in the callback when consent is denied. `app`: the state of our application there.
    `keys_rolled`: id_tokens are signed with the next key; the published ones are the next and the last.
    """

    replay: Replay = "own"
    replay_grace_s: float = 30.0
    expires_in_reply: Literal["own", "text", "absent", "null", "zero", "negative", "absurd", "garbled"] = "own"
    scope_reply: Literal["own", "space", "comma", "shrunk", "absent", "empty"] = "own"
    error_status: int | None = None
    clock_skew_s: float = 0.0
    deny_error: str = "access_denied"
    app: Literal["good", "secret_expired", "disabled"] = "good"
    keys_rolled: bool = False


NO_QUIRKS = Quirks()
ROTATING = ("grace", "strict", "family")  # under these, a refresh always gives another refresh token


@dataclass(frozen=True)
class Rule:
    """What using a refresh token does to it: with `single_use` it is honoured again only within `grace_s` seconds of
    its first use; later that is refused, and with `family` the whole grant dies of it (RFC 9700 section 4.14)."""

    single_use: bool
    grace_s: float = 0.0
    family: bool = False


def rule_of(quirks: Quirks, own: Rule) -> Rule:
    """The rule in force, where `own` is the vendor's."""
    match quirks.replay:
        case "own":
            return own
        case "reusable":
            return Rule(single_use=False)
        case "grace":
            return Rule(single_use=True, grace_s=quirks.replay_grace_s)
        case "strict" | "family":
            return Rule(single_use=True, family=quirks.replay == "family")


def spoil(body: dict[str, Any], quirks: Quirks, scopes: Sequence[str]) -> None:
    """Put lifetime and scopes into a token reply as the switches want them; `scopes` are the granted ones."""
    _spoil_lifetime(body, quirks)
    _spoil_scopes(body, quirks, scopes)


def _spoil_lifetime(body: dict[str, Any], quirks: Quirks) -> None:
    lifetime_s = body.get("expires_in")
    if lifetime_s is None or quirks.expires_in_reply == "own":
        return
    values: dict[str, Any] = {
        "text": str(lifetime_s),
        "null": None,
        "zero": 0,
        "negative": -lifetime_s,
        "absurd": ABSURD_S,
        "garbled": "soon",
    }
    if quirks.expires_in_reply == "absent":
        del body["expires_in"]
    else:
        body["expires_in"] = values[quirks.expires_in_reply]


def _spoil_scopes(body: dict[str, Any], quirks: Quirks, scopes: Sequence[str]) -> None:
    match quirks.scope_reply:
        case "space":
            body["scope"] = " ".join(scopes)
        case "comma":
            body["scope"] = ",".join(scopes)
        case "shrunk":
            separator = "," if "," in str(body.get("scope", "")) else " "
            body["scope"] = separator.join(scopes[:-1])
        case "absent":
            body.pop("scope", None)
        case "empty":
            body["scope"] = ""
        case "own":
            pass


def token_answer(reply: Reply, quirks: Quirks, clock: Clock, *, refused: bool) -> Reply:
    """The token endpoint's reply with the vendor's `Date`, and a refusal with the status that the switches want."""
    date = ("Date", formatdate(clock() + quirks.clock_skew_s, usegmt=True))
    status = quirks.error_status if refused and quirks.error_status else reply.status
    return replace(reply, status=status, headers=(*reply.headers, date))
