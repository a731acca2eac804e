"""The pass that finds what nobody speaks for any more. Everything by compare-and-set: several at once are harmless.

(1) leases that are over, and owners that are dead -> lease end; an attempt that had written its row is landed instead.
(2) steps whose link works again, or is gone for good -> queued. (3) a head that nobody takes -> behind the next lane
of its play. (4) what is due -> wake. (5) a play without any head that is not over -> recomputed and reported: there
must be none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId

from flow8_core.store import Store
from flow8_runtime import documents, transitions
from flow8_runtime.claims import result_of
from flow8_runtime.definition import Flow
from flow8_runtime.documents import PLAYS, STEP_RUNS, Play
from flow8_runtime.ledger import Ledger
from flow8_runtime.plays import Change, readable
from flow8_runtime.states import LEASED, LIVE_PLAYS, Stale

BATCH = 200  # plays of each kind that one pass looks at
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = logging.getLogger("flow8.sweep")


@dataclass
class SweepReport:
    """What one pass did, in plays or steps. `orphans` must be 0."""

    requeued: int = 0
    landed: int = 0
    unknown: int = 0
    dead_letters: int = 0
    released: int = 0
    rotated: int = 0
    orphans: int = 0
    due: set[str] = field(default_factory=set)
    finished: list[ObjectId] = field(default_factory=list)


class Sweep:
    """One sweep. `dead(owner)` says whether an owner is known to be dead, `link_settled(company_id, link_id)` whether
    waiting for a link has an end: it can be used, or never will be."""

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        *,
        dead: Callable[[str], bool] = lambda _: False,
        link_settled: Callable[[ObjectId, str], bool] = lambda _company, _link: False,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._dead = dead
        self._link_settled = link_settled

    def run(self) -> SweepReport:
        """One pass. Raises `StoreUnavailable`."""
        report = SweepReport()
        now = self._ledger.now()
        self._take_back(report, now)
        self._release(report)
        self._rotate(report, now)
        self._adopt_orphans(report, now)
        report.due = self._ledger.candidates.due_queues(now=now)
        return report

    def _take_back(self, report: SweepReport, now: datetime) -> None:
        """(1) The plays in flight are never more than there are callers, so all of them are looked at."""
        verdicts: dict[str, bool] = {}
        suspects: list[ObjectId] = []
        for play in self._store.find(PLAYS, {"until": {"$gt": EPOCH}}, fields=("until", "owners")):
            for owner in play["owners"]:
                if owner not in verdicts:
                    verdicts[owner] = self._dead(owner)
            if play["until"] <= now or any(verdicts[owner] for owner in play["owners"]):
                suspects.append(play["_id"])
        for start in range(0, len(suspects), BATCH):
            plays = self._readable(self._store.find(PLAYS, {"_id": {"$in": suspects[start : start + BATCH]}}))
            endings = [_LeaseEnds(self._ledger, self._store, verdicts, now) for _ in plays]
            self._commit(
                [Change(play, ending.apply) for play, ending in zip(plays, endings, strict=True)], report, endings
            )

    def _release(self, report: SweepReport) -> None:
        """(2)"""
        for company_id, waiting_for in list(self._ledger.waits.each()):
            kind, _, link_id = waiting_for.partition(":")
            if kind == "link" and self._link_settled(company_id, link_id):
                report.released += self._ledger.release(link_id, company_id=company_id)

    def _rotate(self, report: SweepReport, now: datetime) -> None:
        """(3)"""
        found = self._store.find(PLAYS, {"rotate_at": {"$lte": now}}, sort=[("rotate_at", 1)], limit=BATCH)
        plays = self._readable(found)
        changes = [self._changed(play, lambda play, flow: transitions.rotate(play, flow, now=now)) for play in plays]
        report.rotated += self._count(changes)

    def _adopt_orphans(self, report: SweepReport, now: datetime) -> None:
        """(5)"""
        headless = {"queue": None, "lane": None, "rank": None, "due_at": None, "until": None}
        plays = self._readable(self._store.find(PLAYS, headless, limit=BATCH))
        changes = [self._changed(play, lambda play, flow: transitions.recompute(play, flow, now=now)) for play in plays]
        report.orphans = self._count(changes)
        if report.orphans:
            log.error("%d plays had neither a due time nor a lease; they have been taken up again", report.orphans)

    def _readable(self, plays: Sequence[Play]) -> list[Play]:
        return [play for play in plays if readable(play, self._ledger.flow)]

    def _changed(self, play: Play, transition: Callable[[Play, Flow], Play]) -> Change:
        flow = self._ledger.flow(play["definition"])
        return Change(play, lambda play: transition(play, flow), once=True)

    def _count(self, changes: list[Change]) -> int:
        return sum(play is not None for play in self._ledger.plays.commit(changes))

    def _commit(self, changes: list[Change], report: SweepReport, endings: list[_LeaseEnds]) -> None:
        for play, ending in zip(self._ledger.plays.commit(changes), endings, strict=True):
            if play is None:
                continue
            for status in ending.came_to:
                _tell(report, status)
            if play["status"] not in LIVE_PLAYS:
                report.finished.append(play["_id"])


class _LeaseEnds:
    """The lease ends of one play, and what they came to on the version that was tried last."""

    def __init__(self, ledger: Ledger, store: Store, dead: dict[str, bool], now: datetime) -> None:
        self._ledger = ledger
        self._store = store
        self._dead = dead
        self._now = now
        self.came_to: list[str] = []

    def apply(self, play: Play) -> Play:
        """End each lease of the play that is over. Raises `Stale` where none is."""
        flow = self._ledger.flow(play["definition"])
        self.came_to = []
        new = play
        for name in flow.groups[play["group"]]:
            state = play["steps"][name]
            if state["status"] in LEASED:
                new = self._end(new, flow, name, state)
        if new is play:
            raise Stale
        return new

    def _end(self, play: Play, flow: Flow, name: str, state: dict[str, Any]) -> Play:
        dead = self._dead.get(state["owner"], False)
        if not dead and state["until"] > self._now:
            return play
        try:
            new = self._landed(play, flow, name, state["n"])
            landed = new is not None
            new = new or transitions.lease_end(play, flow, name, now=self._now, dead=dead)
        except Stale:
            return play
        self.came_to.append("landed" if landed else new["steps"][name]["status"])
        return new

    def _landed(self, play: Play, flow: Flow, name: str, n: int) -> Play | None:
        """The play with this attempt landed, where its row is there: its owner was lost between the two writes."""
        row = self._store.get(STEP_RUNS, documents.attempt_id(play["_id"], name, n))
        return None if row is None else transitions.land(play, flow, name, n, result_of(row), now=self._now)


def _tell(report: SweepReport, status: str) -> None:
    if status == "landed":
        report.landed += 1
    elif status == "queued":
        report.requeued += 1
    elif status == "outcome_unknown":
        report.unknown += 1
    elif status == "dead_letter":
        report.dead_letters += 1
