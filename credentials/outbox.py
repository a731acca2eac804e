"""What must reach somebody outside, kept until they have it: signed events and revocations.

    {_id, company_id, kind, lane, due_at, attempts, owner?, created_at, last_error?, ended?, ended_at?, expire_at?, ...}

An item is claimed by compare-and-set: one update takes the first that is due, puts `due_at` behind the lease and counts
the attempt. Whoever dies with a claim leaves it to be claimed again, so that the other side may hear a thing twice, by
the same id, but never not at all. What fails is tried again after a pause that doubles, until its limit; then it is
`dead`, which the log, the audit and `flow8 doctor` say. What has ended stays for a while, for a second one with the
same id is no news.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from bson import ObjectId

from flow8_core import crashpoints
from flow8_core.clock import Clock, Deadline, SystemClock
from flow8_core.errors import Flow8Error, StoreUnavailable
from flow8_core.store import Document, DuplicateKey, Index, Store

COLLECTION = "outbox"
INDEXES = (
    Index((("due_at", 1),)),
    Index((("company_id", 1), ("link_id", 1))),
    Index((("ended", 1), ("ended_at", 1))),
    Index((("expire_at", 1),), expire_after_s=0),
)

LEASE_S = 60.0  # outlives a delivery and the writes after it
CALL_S = 10.0  # total, for one delivery
BUDGET_S = 1.0  # how long a pass goes on beginning deliveries
KEPT_DAYS = 45

DEAD = "dead"

CLAIMED = crashpoints.register("outbox.claimed", "an item is claimed; nothing is sent")
DELIVERED = crashpoints.register("outbox.delivered", "the other side has answered; that is not recorded")

_log = logging.getLogger("flow8.outbox")


class GivenUp(Exception):
    """The other side will never take this, however often it is sent. `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a kind of item is tried: pauses in seconds, `attempts` in all."""

    first_s: float
    longest_s: float
    attempts: int

    def pause_s(self, attempts: int) -> float:
        """The pause after so many attempts."""
        return float(min(self.longest_s, self.first_s * 2 ** min(attempts - 1, 40)))


class Courier(Protocol):
    """Brings one kind of item to where it belongs."""

    @property
    def patience(self) -> Patience: ...

    def deliver(self, item: Document, deadline: Deadline) -> str:
        """What came of it, in a word. Raises a `Flow8Error` where it is to be tried again, `GivenUp` where not."""

    def gave_up(self, item: Document, code: str) -> None:
        """Say that an item will not be delivered. It may be called twice."""


class NotYet(Exception):
    """Not an attempt: look at the item again in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not yet: {seconds:g} s")
        self.seconds = seconds


@dataclass
class Drained:
    """What one pass did, in items."""

    delivered: int = 0
    failed: int = 0
    dead: int = 0


class Outbox:
    """The outbox of a deployment. Processes and threads may all have one, on the same store."""

    def __init__(
        self,
        store: Store,
        couriers: Mapping[str, Courier],
        *,
        clock: Clock = SystemClock(),  # noqa: B008  has no state
        rng: random.Random | None = None,
    ) -> None:
        self._store = store
        self._couriers = couriers
        self._clock = clock
        self._rng = rng or random.SystemRandom()

    def drain(self, *, budget_s: float = BUDGET_S, only: ObjectId | None = None) -> Drained:
        """Deliver what is due, or one item of it; no delivery begins after `budget_s` seconds.

        A lane (one receiver, one vendor) that fails is left alone until the next pass: one that is away holds up
        nobody else. Raises `StoreUnavailable`.
        """
        report, shut = Drained(), set[str]()
        end = Deadline.after(budget_s, self._clock)
        while not end.over:
            item = self._claim(shut, only)
            if item is None:
                break
            crashpoints.visit(CLAIMED)
            if not self._deliver(item, report):
                shut.add(item["lane"])
        return report

    def _claim(self, shut: set[str], only: ObjectId | None) -> Document | None:
        now = self._store.now()
        wanted: dict[str, Any] = {"due_at": {"$lte": now}, "kind": {"$in": sorted(self._couriers)}}
        if shut:
            wanted["lane"] = {"$nin": sorted(shut)}
        if only is not None:
            wanted["_id"] = only
        if not self._store.find(COLLECTION, wanted, limit=1, fields=("due_at",)):
            return None  # the usual case, and a look is cheaper than a write that changes nothing
        changes = {"owner": ObjectId(), "due_at": now + timedelta(seconds=LEASE_S)}
        return self._store.update(COLLECTION, wanted, {"$set": changes, "$inc": {"attempts": 1}}, sort=[("due_at", 1)])

    def _deliver(self, item: Document, report: Drained) -> bool:
        """Whether the lane is open: the item was delivered, or it is not the lane's fault."""
        courier = self._couriers[item["kind"]]
        if item["due_at"] <= self._store.now():
            return True  # this process was stopped since it claimed: somebody else has the item now
        try:
            outcome = courier.deliver(item, Deadline.after(CALL_S, self._clock))
        except NotYet as later:
            self._put_off(item, later.seconds, attempts=item["attempts"] - 1)
            return True
        except GivenUp as refused:
            self._bury(item, courier, refused.code, report)
            return True
        except StoreUnavailable:
            raise  # the lease brings it back
        except Flow8Error as error:
            self._failed(item, courier, error, report)
            return False
        crashpoints.visit(DELIVERED)
        self._end(item, outcome)
        report.delivered += 1
        return True

    def _failed(self, item: Document, courier: Courier, error: Flow8Error, report: Drained) -> None:
        attempts, patience = item["attempts"], courier.patience
        if attempts >= patience.attempts:
            self._bury(item, courier, error.code, report)
            return
        report.failed += 1
        pause_s = max(patience.pause_s(attempts), error.retry_after or 0.0) * self._rng.uniform(0.9, 1.1)
        self._put_off(item, min(pause_s, 1.1 * patience.longest_s), error=error)

    def _put_off(
        self, item: Document, seconds: float, *, attempts: int | None = None, error: Flow8Error | None = None
    ) -> None:
        now = self._store.now()
        changes: dict[str, Any] = {"due_at": now + timedelta(seconds=seconds)}
        if attempts is not None:
            changes["attempts"] = attempts
        if error is not None:
            changes["last_error"] = {"code": error.code, "at": now}
        self._owned(item, {"$set": changes, "$unset": {"owner": ""}})

    def _bury(self, item: Document, courier: Courier, code: str, report: Drained) -> None:
        _log.error("%s %s could not be delivered in %d attempts: %s", item["kind"], item["_id"], item["attempts"], code)
        courier.gave_up(item, code)
        report.dead += 1
        self._end(item, DEAD, code=code)

    def _end(self, item: Document, outcome: str, *, code: str | None = None) -> None:
        now = self._store.now()
        changes: dict[str, Any] = {"ended": outcome, "ended_at": now, "expire_at": now + timedelta(days=KEPT_DAYS)}
        gone = {"due_at": "", "owner": ""}
        if code is not None:
            changes["last_error"] = {"code": code, "at": now}
        if outcome != DEAD:
            gone["sealed"] = ""  # a dead revocation may be asked for again
        self._owned(item, {"$set": changes, "$unset": gone})

    def _owned(self, item: Document, update: Mapping[str, Any]) -> None:
        wanted = {"_id": item["_id"], "company_id": item["company_id"], "owner": item["owner"]}
        self._store.update(COLLECTION, wanted, update)  # a miss: the lease was over, and somebody else has the item


def put(
    store: Store, item_id: ObjectId, *, company_id: ObjectId, kind: str, lane: str, due_in_s: float = 0.0, **fields: Any
) -> bool:
    """Put an item in; False where one with its id is, or was lately, there."""
    now = store.now()
    item = {"_id": item_id, "company_id": company_id, "kind": kind, "lane": lane, "attempts": 0, "created_at": now}
    try:
        store.insert(COLLECTION, {**item, "due_at": now + timedelta(seconds=due_in_s), **fields})
    except DuplicateKey:
        return False
    return True


def pending(store: Store, company_id: ObjectId, link_id: ObjectId) -> Sequence[Document]:
    """What is kept of a link, the earliest first, without what is sealed."""
    fields = ("kind", "attempts", "due_at", "created_at", "ended", "ended_at", "last_error")
    wanted = {"company_id": company_id, "link_id": link_id}
    return store.find(COLLECTION, wanted, sort=[("created_at", 1)], fields=fields)


def dead(store: Store) -> int:
    """How many items of the deployment were given up lately."""
    return store.count(COLLECTION, {"ended": DEAD})
