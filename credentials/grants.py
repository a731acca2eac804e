"""One OAuth2 grant within a link document: its dates, its tokens' places, and what a refresh writes.

The main grant's fields stand at the top of the document; a second, independent one (Slack's user token) has the same
fields below `user_token`. All code that handles grants takes the path, so that both live by the same rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from credentials.providers.provider import Provider
from credentials.token_reply import Tokens
from credentials.vault import Place, Vault
from flow8_core.secret import Secret

COLLECTION = "db_links"

# an access token with less than this left is not handed out: clocks differ, and the call takes time
MARGIN_S = 60.0
LONGEST_LEAD_S = 3600
SHORTEST_LEAD_S = 60
# of the time that a grant survives without a refresh: early enough for many more tries
KEEP_ALIVE_AFTER = 0.6


@dataclass(frozen=True, slots=True)
class GrantPath:
    """Where a grant's fields stand: `prefix` is empty or ends with a dot."""

    prefix: str

    def field(self, name: str) -> str:
        """The dotted path of one of the grant's fields within the link document."""
        return self.prefix + name

    def of(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """The grant's fields within a link document; empty where it has no such grant."""
        if not self.prefix:
            return document
        below = document.get(self.prefix[:-1])
        return below if isinstance(below, Mapping) else {}


MAIN = GrantPath("")
USER_TOKEN = "user_token"  # noqa: S105 - a field's name
USER = GrantPath(f"{USER_TOKEN}.")


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant as one read of its link found it. Dates are UTC."""

    path: GrantPath
    fields: Mapping[str, Any]

    @property
    def exists(self) -> bool:
        return bool(self.fields.get("access_token"))

    @property
    def refreshable(self) -> bool:
        return bool(self.fields.get("refresh_token"))

    @property
    def generation(self) -> int:
        """How often the grant's tokens were replaced: what every write compares. Documents of older servers have 0."""
        return int(self.fields.get("generation") or 0)

    @property
    def expiry(self) -> datetime | None:
        """When the access token ends; None: it does not."""
        return self.fields.get("token_expiry")

    @property
    def refresh_at(self) -> datetime | None:
        return self.fields.get("refresh_at")

    @property
    def not_before(self) -> datetime | None:
        """No refresh is tried before this, because the last one failed."""
        return self.fields.get("not_before")

    @property
    def claim(self) -> Mapping[str, Any]:
        """`{owner, lease_until, started_at, attempt}` of a refresh under way or broken off, with `{reply, sent_at}`
        once there is a reply; else empty."""
        return self.fields.get("refresh") or {}

    @property
    def reply_kept(self) -> bool:
        """Whether a reply lies in the claim that nobody has tried to read."""
        return "reply" in self.claim and not self.claim.get("unreadable")

    @property
    def failures(self) -> int:
        """How many refreshes failed in a row."""
        return int(self.fields.get("failures") or 0)

    def usable(self, now: datetime) -> bool:
        """Whether the access token still works for a call that starts now."""
        expiry = self.expiry
        return expiry is None or expiry - now > timedelta(seconds=MARGIN_S)

    def due(self, now: datetime) -> bool:
        """Whether the access token should be replaced before it is used again, or the grant kept alive."""
        due_from = self.due_from
        return due_from is not None and due_from <= now

    @property
    def due_from(self) -> datetime | None:
        """From when on it is `due`; None: never."""
        return due_from(self.fields)

    @property
    def due_at(self) -> datetime | None:
        """From when on the access token should be replaced; None: it does not end."""
        return due_at(self.fields)

    @property
    def keep_alive_at(self) -> datetime | None:
        """When to refresh although the access token may be good for long: a grant that is not refreshed until
        `grant_idle_at` ends by itself. None where none such end is known, or nothing could be refreshed."""
        return keep_alive_at(self.fields)


def due_from(fields: Mapping[str, Any]) -> datetime | None:
    """`Grant.due_from`, of a grant's fields: each step with a link asks."""
    due: datetime | None = fields.get("refresh_at")
    if due is None and fields.get("token_expiry") is not None:
        due = due_at(fields)
    if fields.get("grant_idle_at") is None:
        return due
    return earlier(due, keep_alive_at(fields))


def earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    """The earlier of two moments, either of which may never come (None)."""
    return one or other if one is None or other is None else min(one, other)


def due_at(fields: Mapping[str, Any]) -> datetime | None:
    """`Grant.due_at`; for documents of older servers, which have no `refresh_at`, an hour before the end."""
    moment: datetime | None = fields.get("refresh_at")
    if moment is not None:
        return moment
    expiry: datetime | None = fields.get("token_expiry")
    return None if expiry is None else expiry - timedelta(seconds=LONGEST_LEAD_S)


def keep_alive_at(fields: Mapping[str, Any]) -> datetime | None:
    """`Grant.keep_alive_at`."""
    idle_at: datetime | None = fields.get("grant_idle_at")
    issued_at: datetime | None = fields.get("issued_at")
    if idle_at is None or issued_at is None or not fields.get("refresh_token"):
        return None
    return issued_at + KEEP_ALIVE_AFTER * (idle_at - issued_at)


def refresh_at(expiry: datetime | None, lifetime_s: int | None, lead_s: int | None = None) -> datetime | None:
    """When to refresh: a quarter of the lifetime before its end, at least a minute, at most an hour, or `lead_s`."""
    if expiry is None:
        return None
    if lead_s is None:
        quarter = (lifetime_s if lifetime_s is not None else 4 * LONGEST_LEAD_S) / 4
        lead_s = int(min(LONGEST_LEAD_S, max(SHORTEST_LEAD_S, quarter)))
    return expiry - timedelta(seconds=lead_s)


def place(path: GrantPath, field: str, *, link_id: ObjectId, company_id: ObjectId) -> Place:
    """The place to which the envelope of one of a grant's secrets is bound."""
    return Place(COLLECTION, link_id, company_id, path.field(field))


def lifetime(tokens: Tokens, provider: Provider, *, refreshable: bool) -> int | None:
    """The access token's lifetime in seconds. A reply that is silent about it means the provider's usual one where the
    grant can be refreshed, else an access token that does not end."""
    if tokens.lifetime_s is not None:
        return tokens.lifetime_s
    return provider.lifetime_s if refreshable else None


def written(
    path: GrantPath,
    tokens: Tokens,
    *,
    provider: Provider,
    issued_at: datetime,
    link_id: ObjectId,
    company_id: ObjectId,
    vault: Vault,
    had_refresh_token: bool,
) -> dict[str, Any]:
    """The `$set` of new tokens: everything but the generation. A refresh token that is not given leaves the old one."""
    refreshable = had_refresh_token or tokens.refresh_token is not None
    life = lifetime(tokens, provider, refreshable=refreshable)
    expiry = None if life is None else issued_at + timedelta(seconds=life)

    def sealed(field: str, secret: Secret) -> dict[str, Any]:
        return vault.seal(place(path, field, link_id=link_id, company_id=company_id), secret)

    fields: dict[str, Any] = {
        "access_token": sealed("access_token", tokens.access_token),
        "token_expiry": expiry,
        "issued_at": issued_at,
        "lifetime_s": life,
        "refresh_at": refresh_at(expiry, life, provider.refresh_lead_s),
        "failures": 0,
    }
    if tokens.refresh_token is not None:
        fields["refresh_token"] = sealed("refresh_token", tokens.refresh_token)
    if tokens.scopes is not None:
        fields["scopes"] = list(tokens.scopes)
    if tokens.grant_lifetime_s is not None:
        fields["grant_expires_at"] = issued_at + timedelta(seconds=tokens.grant_lifetime_s)
    idle_s = tokens.idle_s or provider.idle_s
    if idle_s is not None and refreshable:
        fields["grant_idle_at"] = issued_at + timedelta(seconds=idle_s)
    return {path.field(name): value for name, value in fields.items()}


def begun(provider: Provider, tokens: Tokens, issued_at: datetime) -> dict[str, Any]:
    """The `$set` of a grant's own end, which a connect begins anew: as the reply says, else as the provider's rule."""
    lifetime_s = tokens.grant_lifetime_s or provider.grant_lifetime_s
    return {"grant_expires_at": None if lifetime_s is None else issued_at + timedelta(seconds=lifetime_s)}
