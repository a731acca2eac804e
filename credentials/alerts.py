"""Telling the operator, once: signed events of applications that a service refuses, takes again, or condemns many links
of.

What an application went through stands in its document (`applications`); `told` there is the id of the event that said
that it is refused, until one has said that it works again. An application that was mended has another name, so that the
old one's document is taken for mended once a link of the service was renewed or connected since.

    {"type": "app.blocked", "timestamp": "...Z", "data": {"service", "reason", "message", "since"}}
"""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import Literal

from bson import ObjectId

from credentials import outbox
from credentials.applications import COLLECTION, Applications
from credentials.events import KIND, LANE, MOVED
from credentials.grants import COLLECTION as LINKS
from credentials.link import iso
from credentials.link_notes import NO_ID, derived_id
from credentials.providers.catalogue import Providers
from credentials.rotation import DEPLOYMENT
from credentials.webhooks import EventSettings
from flow8_core import crashpoints
from flow8_core.errors import ValidationFailed
from flow8_core.store import Document, Store

AlertType = Literal["app.blocked", "app.recovered", "app.disbelieved"]

_log = logging.getLogger("flow8.events")


class Alerts:
    """Finds what must be told of applications."""

    def __init__(self, store: Store, providers: Providers, applications: Applications, settings: EventSettings) -> None:
        self._store = store
        self._providers = providers
        self._applications = applications
        self._settings = settings

    def announce(self) -> int:
        """Put into the outbox what is not there yet; how many events that were. Raises `StoreUnavailable`."""
        if self._settings.url is None:
            return 0
        now, put = self._store.now(), 0
        for row in self._store.find(COLLECTION, {"told": {"$gt": NO_ID}}):
            put += self._recovered(row, now)
        for row in self._store.find(COLLECTION, {"state": "refused", "told": None}):
            put += self._blocked(row)
        for row in self._store.find(COLLECTION, {"mistrusted_until": {"$gt": now}}):
            put += self._disbelieved(row)
        return put

    def _blocked(self, row: Document) -> bool:
        if not self._is_ours(row):
            return False  # mended before anybody was told
        event_id = derived_id("app.blocked", row["_id"], row["since"])
        put = self._put(event_id, "app.blocked", row, at=row["since"], reason=row["code"])
        crashpoints.visit(MOVED)
        wanted = {"_id": row["_id"], "state": "refused", "since": row["since"], "told": None}
        self._store.update(COLLECTION, wanted, {"$set": {"told": event_id}})
        for other in self._store.find(COLLECTION, {"told": {"$gt": NO_ID}}):
            if other["service"] == row["service"] and other["_id"] != row["_id"]:  # mended, and wrongly: one recovery
                self._store.update(COLLECTION, {"_id": other["_id"]}, {"$unset": {"told": ""}})
        return put

    def _recovered(self, row: Document, now: datetime) -> bool:
        """An application of which somebody was told that it is refused, and which is no longer."""
        if row["state"] == "refused" and (self._is_ours(row) or not self._works_since(row)):
            return False
        put = self._put(derived_id("app.recovered", row["told"]), "app.recovered", row, at=now)
        crashpoints.visit(MOVED)
        self._store.update(COLLECTION, {"_id": row["_id"], "told": row["told"]}, {"$unset": {"told": ""}})
        return put

    def _disbelieved(self, row: Document) -> bool:
        since = row.get("mistrusted_since")
        if since is None or row.get("mistrust_told") == since:
            return False
        put = self._put(derived_id("app.disbelieved", row["_id"], since), "app.disbelieved", row, at=since)
        crashpoints.visit(MOVED)
        wanted = {"_id": row["_id"], "mistrusted_since": since}
        self._store.update(COLLECTION, wanted, {"$set": {"mistrust_told": since}})
        return put

    def _is_ours(self, row: Document) -> bool:
        """Whether the application is still the one that is configured."""
        try:
            return bool(self._applications.name(self._providers.get(row["service"])) == row["_id"])
        except ValidationFailed:
            return False  # the service is no longer configured

    def _works_since(self, row: Document) -> bool:
        """Whether the application that took this one's place has brought a token."""
        try:
            if self._applications.refusal(self._providers.get(row["service"])) is not None:
                return False
        except ValidationFailed:
            return False
        renewed = {"integration_type": row["service"], "issued_at": {"$gt": row["since"]}}
        return bool(self._store.find(LINKS, renewed, limit=1, fields=("company_id",)))

    def _put(
        self, event_id: ObjectId, kind: AlertType, row: Document, *, at: datetime, reason: str | None = None
    ) -> bool:
        service = row["service"]
        data = {"service": service, "reason": reason, "message": _message(kind, service, reason), "since": iso(at)}
        body = json.dumps({"type": kind, "timestamp": iso(at), "data": data}, separators=(",", ":"))
        put = outbox.put(
            self._store, event_id, company_id=DEPLOYMENT, kind=KIND, lane=LANE, type=kind, app=row["_id"],
            message_id=f"msg_{event_id}", body=body,
        )  # fmt: skip
        if put:
            _log.info("%s: %s", kind, service)
        return put


def _message(kind: AlertType, service: str, reason: str | None) -> str:
    match kind:
        case "app.blocked":
            return (
                f"{service} refuses our application ({reason}): its links are paused. Verify client_id and "
                f"client_secret of oauth2.{service} (is the secret expired?); the links go on by themselves then."
            )
        case "app.recovered":
            return f"{service} accepts our application again; its links go on, and nobody needs to act."
        case "app.disbelieved":
            return (
                f"{service} refuses many links at once, so that none is given up for it. Look at its status page and "
                f"at the application oauth2.{service}; the links are tried again by and by."
            )
