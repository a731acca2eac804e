"""Which links want looking after, over all companies, and the pausing of those whose application is refused.

`due` reads no more than the links whose moment has come (`upkeep_times`), and moves each one's moment on before it is
handed out: several sweeps at once hand it out once, and one that was handed out in vain comes again. What is done with
a link is `look`, by whoever gets it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from credentials import upkeep_times
from credentials.applications import Applications
from credentials.audit import Audit
from credentials.grants import COLLECTION
from credentials.link import Link
from credentials.providers.catalogue import Providers
from credentials.providers.provider import Provider
from credentials.refresh import Refresher
from credentials.upkeep_times import FIELD
from credentials.vault import Vault
from flow8_core.clock import Deadline
from flow8_core.errors import ValidationFailed
from flow8_core.store import Document, Store

BATCH = 200  # links of each kind that one pass looks at
AGAIN_S = 120.0  # after which a link is handed out anew, if nobody has looked at it
FOREIGN_AGAIN_S = 3600.0  # of a service that is not configured here

_OURS = ("active", None)  # documents of older servers have no status
_LISTED = ("company_id", "integration_type", FIELD)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Due:
    """A link to look at. `trial`: whether its application is still refused is to be found out with it."""

    company_id: ObjectId
    link_id: ObjectId
    trial: bool = False


class Upkeep:
    """The links of all companies that want looking after."""

    def __init__(self, store: Store, vault: Vault, providers: Providers, applications: Applications) -> None:
        self._store = store
        self._vault = vault
        self._providers = providers
        self._applications = applications

    def due(self, *, limit: int = BATCH) -> Iterator[Due]:
        """Links to look at now, the longest due first, each claimed for `AGAIN_S`; and one for each trial of an
        application that is due. Raises `StoreUnavailable`."""
        now = self._store.now()
        for status in _OURS:
            for moment in ({"$lte": now}, None):  # None: of an older server, never looked at
                wanted = {"status": status, FIELD: moment}
                found = self._store.find(COLLECTION, wanted, sort=[(FIELD, 1)], limit=limit, fields=_LISTED)
                for row in found:
                    if self._moved(row, now + timedelta(seconds=AGAIN_S)):
                        yield Due(row["company_id"], row["_id"])
        for service in self._applications.trials_due(now=now):
            wanted = {"integration_type": service, "status": "app_blocked"}
            for row in self._store.find(COLLECTION, wanted, limit=1, fields=_LISTED):
                yield Due(row["company_id"], row["_id"], trial=True)

    def look(self, link: Link, refresher: Refresher, *, deadline: Deadline, wished: bool = False) -> None:
        """Do what a link needs now (`wished`: refresh it, due or not), and set when to look at it next. Raises what
        `Refresher.fresh` raises."""
        try:
            if wished:
                refresher.refresh(link, deadline=deadline)
            else:
                refresher.fresh(link, deadline=deadline)
        finally:
            self._settle(link)

    def pause_and_resume(self) -> int:
        """Mark links whose application is refused, and let those go on whose application no longer is; links that a
        provider condemned while it was not to be believed live again. Returns how many were changed."""
        now, changed = self._store.now(), 0
        for service in self._providers.names():
            provider = self._configured(service)
            if provider is not None:
                code = self._applications.refusal(provider)
                changed += self._resumed(service, now) if code is None else self._paused(service, code, now)
        for service, since in self._applications.mistrusted(now=now):
            changed += self._revived(service, since, now)
        return changed

    def _paused(self, service: str, code: str, now: datetime) -> int:
        changes = {"status": "app_blocked", "status_reason": code, "updated_at": now}
        return sum(self._changed(service, {"status": status}, changes) for status in _OURS)

    def _resumed(self, service: str, now: datetime) -> int:
        changes = {"status": "active", "status_reason": None, "updated_at": now, FIELD: now}
        return self._changed(service, {"status": "app_blocked"}, changes)

    def _revived(self, service: str, since: datetime, now: datetime) -> int:
        wanted = {"refused_as": "grant", "refused_at": {"$gte": since}, "status": "needs_reconnect"}
        changes = {"status": "active", "status_reason": None, "updated_at": now}
        return self._changed(service, wanted, {**changes, FIELD: now + timedelta(seconds=AGAIN_S)})

    def _changed(self, service: str, wanted: dict[str, Any], changes: dict[str, Any]) -> int:
        """Change the status of a batch of a service's links; each by compare-and-set, and recorded."""
        count = 0
        for row in self._store.find(COLLECTION, {"integration_type": service, **wanted}, limit=BATCH):
            named = {"_id": row["_id"], "company_id": row["company_id"], "status": row.get("status")}
            document = self._store.update(COLLECTION, named, {"$set": changes})
            if document is not None:
                count += 1
                self._record(row, document)
        return count

    def _record(self, before: Document, after: Document) -> None:
        names = ("status", "status_reason")
        Audit(self._store, self._vault, after["company_id"]).record(
            "integration_status_changed",
            resource_type="integration",
            resource_id=str(after["_id"]),
            before={name: before.get(name) for name in names},
            after={name: after.get(name) for name in names} | {"service": after["integration_type"]},
        )

    def _settle(self, link: Link) -> None:
        """Set the moment of the next look, if it is not set already: each new token comes with one."""
        found = self._store.find(COLLECTION, {"_id": link.id, "company_id": link.company_id}, limit=1)
        if not found or found[0].get("status") not in _OURS:
            return
        now = self._store.now()
        try:
            at = upkeep_times.of_document(found[0], self._providers.get(link.service), now=now)
        except ValidationFailed:
            at = now + timedelta(seconds=FOREIGN_AGAIN_S)
        if at <= now:
            at = now + timedelta(seconds=AGAIN_S)
        self._moved(found[0], at)

    def _moved(self, row: Document, to: datetime) -> bool:
        named = {"_id": row["_id"], "company_id": row["company_id"], FIELD: row.get(FIELD)}
        return self._store.update(COLLECTION, named, {"$set": {FIELD: to}}) is not None

    def _configured(self, service: str) -> Provider | None:
        try:
            provider = self._providers.get(service)
        except ValidationFailed as error:
            _log.warning("upkeep: %s", error.message)
            return None
        return provider if provider.app is not None else None
