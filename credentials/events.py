"""Telling the right person, once: signed events of links that need a reconnect, work again, or expire soon. What the
operator is told of applications comes from `alerts`.

`Announcer` looks for what must be told and puts it into the outbox; `EventCourier` brings it to the endpoint. Both ids
and bodies are made once, when an event goes into the outbox: each attempt sends the same.

    {"type": "link.needs_reconnect", "timestamp": "...Z",
     "data": {"company_id", "user_id", "link": {...}, "grant": "main", "reason", "message", "expires_at", "rule"}}
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from bson import ObjectId

from credentials import link_errors, outbox
from credentials.audit import Audit
from credentials.forecast import FIELD, FIELDS, LIVE, PATHS, Forecast, Rule, forecasts
from credentials.grants import COLLECTION, MAIN, USER, GrantPath
from credentials.link import Link, iso
from credentials.link_notes import LATEST, NEEDS_RECONNECT, NO_ID, NOTES, TOLD, derived_id, name_of, notes_of, path_of
from credentials.outbox import GivenUp, Patience
from credentials.token_errors import retry_after
from credentials.vault import Vault
from credentials.webhooks import EventSettings, headers
from flow8_core import crashpoints
from flow8_core.clock import Deadline
from flow8_core.egress import Egress, Hosts
from flow8_core.errors import ExecutionTimeout, ProviderUnavailable, RateLimited
from flow8_core.store import Document, Store

KIND = "event"
LANE = "event"
CURSORS = "cursors"
CURSOR = "events.expiring"
EventType = Literal["link.needs_reconnect", "link.recovered", "link.expires_soon"]

BATCH = 200  # links that one pass looks at
PAGE = 500
LOOK_S = 3600.0  # between two looks for what expires soon
TOKEN_WARN_DAYS = 7  # a token that lives for a month is no news from its first day on

MOVED = crashpoints.register("events.moved", "an event is in the outbox; nothing says that it was told")

_log = logging.getLogger("flow8.events")


class EventCourier:
    """Brings events to the endpoint."""

    # 5 s, 10 s, ... 3 h: about three days in all
    patience = Patience(first_s=5.0, longest_s=10_800.0, attempts=36)

    def __init__(self, store: Store, vault: Vault, egress: Egress, settings: EventSettings) -> None:
        self._store = store
        self._vault = vault
        self._egress = egress
        self._settings = settings

    def deliver(self, item: Document, deadline: Deadline) -> str:
        """POST the event. Any 2xx is a receipt; 410 says that the endpoint wants no more (Standard Webhooks)."""
        url, body, now = self._settings.url, item["body"].encode(), self._store.now()
        if url is None:
            raise outbox.NotYet(LOOK_S)
        signed = headers(
            self._settings.secrets, message_id=item["message_id"], timestamp=int(now.timestamp()), body=body
        )
        try:
            # what the receiver writes in its answer is read by nobody
            with self._egress.open(
                "POST", url, headers=signed, body=body, deadline=deadline, hosts=Hosts.of_url(url)
            ) as answer:
                status, wait = answer.status, retry_after(answer.headers.get("Retry-After"), now)
                answer.discard()
        except ExecutionTimeout as error:
            raise ProviderUnavailable("The endpoint of events did not answer in time.") from error
        if 200 <= status < 300:
            return "delivered"
        if status == 410:
            raise GivenUp("gone")
        if status == 429:
            raise RateLimited("The endpoint of events asks for patience.", retry_after=wait)
        raise ProviderUnavailable(f"The endpoint of events answered {status}.", retry_after=wait)

    def gave_up(self, item: Document, code: str) -> None:
        """Say in the company's audit log that nobody was told; of an application (`alerts`) in the deployment's."""
        of_app = "app" in item
        Audit(self._store, self._vault, item["company_id"]).record(
            "event_undelivered",
            resource_type="oauth_app" if of_app else "integration",
            resource_id=str(item["app"] if of_app else item["link_id"]),
            after={"kind": item["type"], "attempts": item["attempts"], "reason": code},
        )


class Announcer:
    """Finds what must be told: notes in links, grants that work again, ends that come near."""

    def __init__(self, store: Store, vault: Vault, settings: EventSettings) -> None:
        self._store = store
        self._vault = vault
        self._settings = settings

    def announce(self, deadline: Deadline) -> int:
        """Put into the outbox what is not there yet; how many links were looked at. Raises `StoreUnavailable`."""
        if self._settings.url is None:
            return 0
        looked = 0
        for path in (MAIN, USER):
            wanted: dict[str, Any] = {path.field(TOLD): {"$gt": NO_ID}}
            if path == MAIN:
                wanted["status"] = "active"
            for document in self._store.find(COLLECTION, wanted, limit=BATCH):
                self._recovered(Link(document, self._vault), path)
                looked += 1
        for document in self._store.find(COLLECTION, {LATEST: {"$gt": NO_ID}}, sort=[(LATEST, 1)], limit=BATCH):
            self._needs_reconnect(Link(document, self._vault))
            looked += 1
        return looked + self._expiring(deadline)

    def _needs_reconnect(self, link: Link) -> None:
        """Move a link's notes; one event for each grant that needs a reconnect now and was not told to."""
        told: dict[GrantPath, ObjectId] = {}
        for note_id, note in notes_of(link.document).items():
            path = path_of(note["grant"])
            still_so = path.of(link.document).get("status") == NEEDS_RECONNECT
            if still_so and not path.of(link.document).get(TOLD) and path not in told:
                self._put(note_id, "link.needs_reconnect", link, path, at=note["at"], reason=note["reason"])
                told[path] = note_id
        crashpoints.visit(MOVED)
        update: dict[str, Any] = {"$unset": {NOTES: "", LATEST: ""}}
        if told:
            update["$set"] = {path.field(TOLD): event_id for path, event_id in told.items()}
        # a note that came since changes LATEST: the next pass moves both, under the same ids
        self._store.update(COLLECTION, {**_this(link), LATEST: link.document[LATEST]}, update)

    def _recovered(self, link: Link, path: GrantPath) -> None:
        """A grant of which somebody was told that it needs a reconnect, and which does no longer."""
        fields = path.of(link.document)
        if fields.get("status") == NEEDS_RECONNECT:
            return
        told = fields[TOLD]
        self._put(derived_id("recovered", told), "link.recovered", link, path, at=self._store.now())
        self._store.update(COLLECTION, {**_this(link), path.field(TOLD): told}, {"$unset": {path.field(TOLD): ""}})

    def _expiring(self, deadline: Deadline) -> int:
        """Once an hour, in pages, all links whose end is near."""
        now = self._store.now()
        known = self._store.get(CURSORS, CURSOR)
        if known is not None and known["next_at"] > now:
            return 0
        turn = self._store.update(
            CURSORS, {"_id": CURSOR, "next_at": {"$lte": now}}, {"$set": {"next_at": now + timedelta(seconds=LOOK_S)}}
        )
        if known is None:
            fresh = {"$setOnInsert": {"next_at": now + timedelta(seconds=LOOK_S)}}
            turn = self._store.update(CURSORS, {"_id": CURSOR}, fresh, upsert=True)
        if turn is None:
            return 0
        looked = 0
        at: Mapping[str, Any] = turn.get("at") or {}
        if "field" not in at:
            at = {}  # of an older version: begun anew, and told once all the same
        ends = {path.field(FIELD[rule]): (path, rule) for path in PATHS for rule in FIELD}
        fields = list(ends)
        for field in fields[fields.index(at["field"]) if at else 0 :]:
            after = at["after"] if at and at["field"] == field else now
            while after is not None:
                if deadline.over:
                    begun = {"next_at": now, "at": {"field": field, "after": after}}
                    self._store.update(CURSORS, {"_id": CURSOR}, {"$set": begun})
                    return looked
                path, rule = ends[field]
                count, after = self._page(path, rule, after=after, now=now)
                looked += count
        if "at" in turn:
            self._store.update(CURSORS, {"_id": CURSOR}, {"$unset": {"at": ""}})
        return looked

    def _page(self, path: GrantPath, rule: Rule, *, after: datetime, now: datetime) -> tuple[int, datetime | None]:
        """Warn of up to `PAGE` links by one rule of one grant, and where to go on."""
        most = max(self._settings.warn_days, default=0)
        field = path.field(FIELD[rule])
        wanted: dict[str, Any] = {field: {"$gt": after, "$lte": now + timedelta(days=most)}, "status": LIVE}
        if rule == "token":
            wanted[path.field("refresh_token")] = None
        rows = self._store.find(COLLECTION, wanted, sort=[(field, 1)], limit=PAGE, fields=FIELDS)
        last: datetime | None = path.of(rows[-1])[FIELD[rule]] if len(rows) == PAGE else None
        if last is not None:  # those of the same moment behind the page's end
            rows += self._store.find(COLLECTION, {**wanted, field: last}, fields=FIELDS)
        for row in rows:
            link = Link(row, self._vault)
            for one in forecasts(link):
                if (one.path, one.rule) == (path, rule) and not one.renews:
                    self._warn(link, one, now)
        return len(rows), last

    def _warn(self, link: Link, end: Forecast, now: datetime) -> None:
        """One event for each of `warn_days` that the end has come within."""
        days = [each for each in self._settings.warn_days if end.rule != "token" or each <= TOKEN_WARN_DAYS]
        reached = [each for each in days if end.at - now <= timedelta(days=each)]
        if reached:
            of_user = () if end.path == MAIN else (end.path.prefix,)
            event_id = derived_id("expires_soon", link.id, end.rule, end.at, min(reached), *of_user)
            self._put(event_id, "link.expires_soon", link, end.path, at=now, end=end)

    def _put(
        self,
        event_id: ObjectId,
        kind: EventType,
        link: Link,
        path: GrantPath,
        *,
        at: datetime,
        reason: str | None = None,
        end: Forecast | None = None,
    ) -> None:
        body = _body(kind, link, path, at=at, reason=reason, end=end)
        put = outbox.put(
            self._store, event_id, company_id=link.company_id, kind=KIND, lane=LANE, link_id=link.id, type=kind,
            message_id=f"msg_{event_id}", body=json.dumps(body, separators=(",", ":")),
        )  # fmt: skip
        if put:
            _log.info("%s: %s link %s", kind, link.service, link.id)


def _body(
    kind: EventType, link: Link, path: GrantPath, *, at: datetime, reason: str | None, end: Forecast | None
) -> dict[str, Any]:
    match kind:
        case "link.needs_reconnect":
            trouble = link_errors.needs_reconnect(link, reason)
            message = trouble.message
        case "link.recovered":
            message = f"The {link.service} link {link.id} works again; nobody needs to act."
        case "link.expires_soon":
            message = f"The {link.service} link {link.id}: {end.message(link)}" if end else ""
    return {
        "type": kind,
        "timestamp": iso(at),
        "data": {
            "company_id": str(link.company_id),
            "user_id": str(link.user_id),
            "link": link.describe(),
            "grant": name_of(path),
            "reason": reason,
            "message": message,
            "expires_at": iso(end.at) if end else None,
            "rule": end.rule if end else None,
        },
    }


def _this(link: Link) -> dict[str, Any]:
    return {"_id": link.id, "company_id": link.company_id}
