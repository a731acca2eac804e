"""Who did what to a company's links and components, in a chain that shows any later change.

Each event carries a keyed hash over all events before it (`audit_chain`), so that an edited, deleted, inserted or
moved event is found at its number. Only the end can be cut off without a trace: keep `head()` elsewhere from time to
time, and hand it to `verify`. There is no TTL index, for an expired event would be a hole.

Recording fails closed: where it cannot be done within `LIMIT_S`, `StoreUnavailable` is raised and the caller must not
go on.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from bson import ObjectId

from credentials import audit_states
from credentials.audit_chain import Chain, Head, Verification
from credentials.vault import Vault
from flow8_core.clock import Clock, SystemClock, to_millis
from flow8_core.errors import Flow8Error, StoreUnavailable, ValidationFailed
from flow8_core.store import Document, DuplicateKey, Index, Store

COLLECTION = "audit_logs"
INDEXES = (
    Index((("company_id", 1), ("seq", 1))),  # not unique: an older server's events have no seq; `_id` keeps ours apart
    Index((("company_id", 1), ("timestamp", -1))),
    Index((("user_id", 1), ("timestamp", -1))),
    Index((("resource_type", 1), ("resource_id", 1), ("timestamp", -1))),
)
LIMIT_S = 2.0  # seconds
MAX_PAGE = 1000

_BATCH = 500


@dataclass(frozen=True)
class Origin:
    """The HTTP request behind an action. `session_id` is a fingerprint, never the cookie's value; `request_duration` is
    in milliseconds."""

    user_email: str | None = None
    user_ip_address: str | None = None
    user_agent: str | None = None
    http_method: str | None = None
    http_path: str | None = None
    http_status: int | None = None
    request_duration: int | None = None
    correlation_id: str | None = None
    session_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """What is known, as the event's fields; a path without its query, where codes and tokens travel."""
        known = {name: value for name, value in asdict(self).items() if value not in (None, {})}
        if self.http_path:
            known["http_path"] = self.http_path.partition("?")[0]
        return {name: _clean(value) for name, value in known.items()}


@dataclass(frozen=True)
class Selection:
    """Which events to show; `since` is inclusive, `until` is not (UTC)."""

    action: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    user_id: ObjectId | None = None
    since: datetime | None = None
    until: datetime | None = None


class Audit:
    """The audit log of one company."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        company_id: ObjectId,
        *,
        origin: Origin = Origin(),
        clock: Clock = SystemClock(),  # noqa: B008  has no state
    ) -> None:
        self._store = store
        self._chain = Chain(vault, company_id)
        self._company_id = company_id
        self._origin = origin
        self._clock = clock

    def record(
        self,
        action: str,
        *,
        resource_type: str,
        resource_id: str,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        user_id: ObjectId | None = None,
        error: Flow8Error | None = None,
    ) -> None:
        """Append an event, `action` named `<area>_<verb>`. The states pass an allow-list (`audit_states`).

        Call it before what it describes is done, and again with the `error` where that fails: so nothing happens that
        is not recorded. Raises `StoreUnavailable` after `LIMIT_S`, `InternalError` for a state that holds a secret.
        """
        event: Document = {
            "company_id": self._company_id,
            "action_type": action,
            "resource_type": resource_type,
            "resource_id": resource_id,
            "before_state": audit_states.allowed(before or {}),
            "after_state": audit_states.allowed(after or {}),
            **self._origin.fields(),
        }
        if user_id is not None:
            event["user_id"] = user_id
        if error is not None:
            event |= {"error_type": error.code, "error_message": _clean(error.message)}
        self._append(event)

    def _append(self, event: Document) -> None:
        started = self._clock.monotonic()
        rounds = 0
        while True:
            last = self._last()
            event["timestamp"] = to_millis(self._store.now())
            if self._clock.monotonic() - started > LIMIT_S:
                raise StoreUnavailable("The audit log could not be written in time, so nothing was done; try again.")
            try:
                self._store.insert(COLLECTION, self._chain.link(event, last))
            except DuplicateKey:
                # Another writer took this number. Each round lets one through; spread the others a little.
                rounds += 1
                time.sleep(secrets.randbelow(1000 * min(rounds, 20)) / 1_000_000)
            else:
                return

    def _last(self) -> Document | None:
        fields = ("seq", "chain", "chain_digest")
        found = self._store.find(COLLECTION, self._chained(0), sort=[("seq", -1)], limit=1, fields=fields)
        return next(iter(found), None)

    def query(
        self, selection: Selection = Selection(), *, limit: int = 50, before_seq: int | None = None
    ) -> list[Document]:
        """Events that match, the newest first, ids as text; `before_seq` goes on behind an earlier page's last one."""
        if not 1 <= limit <= MAX_PAGE:
            raise ValidationFailed(f"limit must be 1 to {MAX_PAGE}", path="limit")
        wanted = self._filter(selection)
        if before_seq is not None:
            wanted["seq"] = {"$gt": 0, "$lt": before_seq}
        return [_shown(row) for row in self._store.find(COLLECTION, wanted, sort=[("seq", -1)], limit=limit)]

    def count(self, selection: Selection = Selection()) -> int:
        """How many events match."""
        return self._store.count(COLLECTION, self._filter(selection))

    def head(self) -> Head | None:
        """The last event; None where there is none."""
        last = self._last()
        return Head(last["seq"], last["chain"]) if last else None

    def verify(self, anchor: Head | None = None) -> Verification:
        """Walk the whole chain. An `anchor` that was kept elsewhere shows whether the end was cut off since."""
        there = self._store.count(COLLECTION, {"company_id": self._company_id, "seq": {"$exists": True}})
        found = self._chain.verify(self._events(), anchor)
        if found.ok and there > found.checked:
            return replace(found, broken_at=found.checked + 1, reason="is an event without a place in the chain")
        return found

    def _events(self) -> Iterator[Document]:
        seq = 0
        while True:
            wanted = self._chained(seq)
            rows = self._store.find(COLLECTION, wanted, sort=[("seq", 1)], limit=_BATCH)
            yield from rows
            if len(rows) < _BATCH:
                return
            seq = rows[-1]["seq"]

    def _chained(self, after: int) -> dict[str, Any]:
        """Our events: others in the collection (an older server's, a forger's) have no number and are not shown."""
        return {"company_id": self._company_id, "seq": {"$gt": after}}

    def _filter(self, selection: Selection) -> dict[str, Any]:
        wanted = self._chained(0)
        given = {
            "action_type": selection.action,
            "resource_type": selection.resource_type,
            "resource_id": selection.resource_id,
            "user_id": selection.user_id,
        }
        wanted |= {name: {"$eq": value} for name, value in given.items() if value is not None}
        times = {"$gte": selection.since, "$lt": selection.until}
        if bounds := {name: moment for name, moment in times.items() if moment is not None}:
            wanted["timestamp"] = bounds
        return wanted


def heads(store: Store) -> Iterator[tuple[ObjectId, str]]:
    """Each company that has a log, with the key that its last event is signed with: while that is there, so is the
    proof of all events before it."""
    after: ObjectId | None = None
    while True:
        wanted: dict[str, Any] = {"seq": {"$gt": 0}} | ({"company_id": {"$gt": after}} if after else {})
        rows = store.find(COLLECTION, wanted, sort=[("company_id", 1)], limit=1, fields=("company_id",))
        if not rows:
            return
        after = rows[0]["company_id"]
        (last,) = store.find(COLLECTION, {"company_id": after, "seq": {"$gt": 0}}, sort=[("seq", -1)], limit=1)
        yield after, str(last.get("kid"))


def _shown(row: Document) -> Document:
    shown = {name: str(value) if isinstance(value, ObjectId) else value for name, value in row.items() if name != "_id"}
    return {"id": str(row["_id"]), **shown}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return audit_states.text(value)
    if isinstance(value, Mapping):
        return {str(name): _clean(inner) for name, inner in value.items()}
    return value
