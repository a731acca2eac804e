"""What will end a link that works today, and when: what an access token's expiry alone does not say.

A token that is refreshed ends every hour and nobody minds. What kills links is a token that nothing renews, a grant's
own end, and a grant that nobody used for too long. A user's own grant beside a bot's ends by the same rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from bson import ObjectId

from credentials.grants import COLLECTION, MAIN, USER, GrantPath
from credentials.link import Link, iso
from credentials.link_notes import NEEDS_RECONNECT
from credentials.vault import Vault
from flow8_core.store import Document, Index, Store

Rule = Literal["token", "grant", "idle"]

FIELD: dict[Rule, str] = {"token": "token_expiry", "grant": "grant_expires_at", "idle": "grant_idle_at"}
PATHS = (MAIN, USER)
_ENDS = [path.field(field) for path in PATHS for field in FIELD.values()]
INDEXES = tuple(Index(((field, 1),)) for field in _ENDS if field != "token_expiry")  # that one has an index already

# what a forecast reads: whether there is a refresh token, but not what is in its envelope
FIELDS = (
    *("company_id", "user_id", "integration_type", "status", "status_reason", "scopes", "refresh_at", "generation"),
    *("token_expiry", "grant_expires_at", "grant_idle_at", "refresh_token.encrypted", "shared", "created_at"),
    *("provider_user_id", "provider_account", "provider_user_email", "provider_metadata"),
    *(USER.field(name) for name in (*FIELD.values(), "status", "refresh_token.encrypted")),
)
LIVE = {"$in": ["active", None]}
MOST_DAYS = 3650

_BECAUSE: dict[Rule, str] = {
    "token": "its access token ends then, and the service gave no refresh token",
    "grant": "the service ends its grant then, however much it is used",
    "idle": "the service ends a grant that was not used for so long",
}


@dataclass(frozen=True, slots=True)
class Forecast:
    """An active link will need a reconnect at `at`, by this rule of its service. `renews`: unless it is refreshed or
    used until then, as it usually is. `path`: the grant that ends, the link's own or its user's."""

    at: datetime
    rule: Rule
    renews: bool
    path: GrantPath = MAIN

    @property
    def because(self) -> str:
        """Why, as the end of a sentence."""
        return _BECAUSE[self.rule]

    def message(self, link: Link) -> str:
        """The whole sentence, with what to do."""
        day = self.at.strftime("%d %B %Y, %H:%M UTC").lstrip("0")
        command = f"`flow8 link connect {link.service} --reconnect {link.id}`"
        what = "It" if self.path == MAIN else "The user's own token"
        if self.renews:
            return f"{what} would end on {day}, because {self.because}; it is renewed before, and nobody needs to act."
        return f"{what} will need reconnecting on {day}, because {self.because}. Reconnect it before, with {command}."

    def describe(self, link: Link) -> dict[str, Any]:
        """The forecast as answers show it."""
        return {"at": iso(self.at), "rule": self.rule, "renews": self.renews, "message": self.message(link)}


def forecasts(link: Link) -> list[Forecast]:
    """All ends of an active link that are known, the earliest first; none of a link that does not work anyway."""
    if link.status != "active":
        return []
    return sorted((one for path in PATHS for one in _of_grant(link, path)), key=lambda forecast: forecast.at)


def _of_grant(link: Link, path: GrantPath) -> Iterator[Forecast]:
    grant = link.grant(path)
    if path == USER and grant.fields.get("status") == NEEDS_RECONNECT:
        return
    renews: dict[Rule, bool] = {"token": grant.refreshable, "grant": False, "idle": grant.refreshable}
    for rule, field in FIELD.items():
        at = grant.fields.get(field)
        if at is not None:
            yield Forecast(at, rule, renews[rule], path)


def forecast(link: Link) -> Forecast | None:
    """What a person will have to act on first; None where nothing of the kind is known."""
    return next((one for one in forecasts(link) if not one.renews), None)


class Expiring:
    """The links of one company whose end is near."""

    def __init__(self, store: Store, vault: Vault, company_id: ObjectId) -> None:
        self._store = store
        self._vault = vault
        self._company_id = company_id

    def within(self, days: int, *, renewing: bool = False) -> Sequence[tuple[Link, Forecast]]:
        """Active links that end within so many days by a token, a grant or an idle limit, the earliest first; with
        `renewing`, those too that will be renewed by themselves."""
        now = self._store.now()
        end = now + timedelta(days=days)
        found = [
            (link, one)
            for link in self._near(now, end)
            for one in forecasts(link)
            if now < one.at < end and (renewing or not one.renews)
        ]
        return sorted(found, key=lambda pair: (pair[1].at, pair[0].id))

    def _near(self, now: datetime, end: datetime) -> Iterator[Link]:
        rows: dict[ObjectId, Document] = {}
        for field in _ENDS:
            wanted = {"company_id": self._company_id, field: {"$gt": now, "$lt": end}, "status": LIVE}
            rows |= {row["_id"]: row for row in self._store.find(COLLECTION, wanted, fields=FIELDS)}
        for row in rows.values():
            yield Link(row, self._vault)
