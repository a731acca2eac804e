"""Drains the ledger: takes what is due, runs it, goes on with each play's next step in place, for a short budget.

One thread a process. `Engine` is the small interface that the worker sees; how it drains is this file's own business.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from bson import ObjectId

from flow8_core import crashpoints
from flow8_core.clock import Clock
from flow8_core.errors import StoreUnavailable
from flow8_core.store import Store
from flow8_runtime.ledger import Claim, Landing, Ledger, Outcome
from flow8_runtime.owners import Owner
from flow8_runtime.runner import DEADLINE_MARGIN_S, Runner
from flow8_runtime.wakeup import DEFAULT_QUEUE, Wakeup

CLAIMED = crashpoints.register("engine.claimed", "the step is claimed; nothing has been called")
BEFORE_LANDING = crashpoints.register("engine.before_landing", "the outcome is known to this process alone")
LANDED = crashpoints.register("engine.landed", "the outcome is in the ledger, and the play's next step is claimed")

MISSED_BEATS = 3

log = logging.getLogger("flow8.engine")


@dataclass
class Drained:
    """What one drain came to."""

    steps: int = 0
    finished: list[ObjectId] = field(default_factory=list)


class Engine:
    """One process's drainer. `stopping` is asked before each step: what is in flight finishes, nothing new begins.

    `on_finished` hears of plays that are over and that somebody outside waits for.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        runner: Runner,
        wakeup: Wakeup,
        owner: Owner,
        clock: Clock,
        budget_s: float,
        stopping: Callable[[], bool] = lambda: False,
        on_finished: Callable[[ObjectId], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._runner = runner
        self._wakeup = wakeup
        self._owner = owner
        self._clock = clock
        self._budget_s = budget_s
        self._stopping = stopping
        self._on_finished = on_finished
        self._in_flight = InFlight(clock)
        self._kept = Kept()

    def drain(self, queue: str = DEFAULT_QUEUE) -> Drained:
        """Run what is due in `queue` until nothing is, or the budget is spent; then wake another if more is due.

        Raises `StoreUnavailable` where the ledger cannot be asked; what was done by then is kept, and landed later.
        """
        self._wake(self._wakeup.answer, queue)
        ends = self._clock.monotonic() + self._budget_s
        drained = Drained()
        claims = self._ledger.claim(1, owner=self._owner.id, queues=(queue,))
        while claims:
            crashpoints.visit(CLAIMED)
            claims = self._run_one(claims[0], queue, drained, in_time=self._clock.monotonic() < ends)
        if self._ledger.due((queue,)):
            self._wake(self._wakeup.ring, queue)
        return drained

    def renew(self, store: Store, *, lease_s: float) -> None:
        """Renew the leases of what is in flight or waits to be landed; the heartbeat calls it, from its own thread.

        A call that is not over long after its deadline hangs: its lease is left to end, so that the ledger hears of it.
        """
        claims = self._in_flight.all() + [outcome.claim for outcome, _ in self._kept.all()]
        if claims:
            self._ledger.renew(claims, until=store.now() + timedelta(seconds=lease_s))

    def land_kept(self) -> None:
        """Land what could not be landed because the store was away. Raises `StoreUnavailable` where it still is.

        What cannot be landed for another reason is given up to its lease's end: it must not block those behind it.
        """
        for outcome, queue in self._kept.all():
            try:
                self._told(outcome, self._ledger.land([outcome], owner=self._owner.id, take_next=False))
            except StoreUnavailable:
                raise
            except Exception:
                log.exception("the outcome of %s cannot be landed", outcome.claim.step_run_id)
            self._kept.remove(outcome, queue)
            self._wake(self._wakeup.ring, queue)

    def _run_one(self, claim: Claim, queue: str, drained: Drained, *, in_time: bool) -> list[Claim]:
        timeout_s = self._ledger.flow(claim.play["definition"]).step(claim.step).timeout_s
        with self._in_flight.of(claim, most_s=timeout_s + DEADLINE_MARGIN_S):
            outcome = self._run(claim)
        drained.steps += 1
        go_on = in_time and not self._stopping()  # asked now: the worker may have been told to stop during the call
        if outcome is None:
            return self._ledger.claim(1, owner=self._owner.id, queues=(queue,)) if go_on else []
        crashpoints.visit(BEFORE_LANDING)
        return self._land(outcome, queue, drained, go_on=go_on)

    def _run(self, claim: Claim) -> Outcome | None:
        try:
            return self._runner.run(claim)
        except StoreUnavailable as error:  # before anything was called: the step is as due as it was
            return Outcome(claim, "parked", error=error.to_dict(), due_at=claim.play["created_at"])

    def _land(self, outcome: Outcome, queue: str, drained: Drained, *, go_on: bool) -> list[Claim]:
        try:
            landing = self._ledger.land(
                [outcome], owner=self._owner.id, take_next=go_on, claim=1 if go_on else 0, queues=(queue,)
            )
        except StoreUnavailable:
            self._kept.add(outcome, queue)
            raise
        crashpoints.visit(LANDED)
        self._told(outcome, landing)
        drained.finished += landing.finished
        if landing.claims and go_on:
            self._wake(self._wakeup.ring_at_leisure, queue)
        taken = landing.next + landing.claims
        if len(taken) > 1:  # the play was moved on in between, and gave a step beside the one claimed elsewhere
            self._ledger.give_back(taken[1:])
        return taken[:1]

    def _told(self, outcome: Outcome, landing: Landing) -> None:
        if landing.finished and "origin" in outcome.claim.play:
            self._on_finished(outcome.claim.play_id)

    def _wake(self, ring: Callable[[str], object], queue: str) -> None:
        """There is more than this process can do at once. A broker that is away does not stop a drain."""
        try:
            ring(queue)
        except StoreUnavailable:
            log.warning("the broker is away; draining on without it")


class InFlight:
    """The claims that this process is working on, for the heartbeat."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._claims: dict[tuple[ObjectId, str], tuple[Claim, float]] = {}
        self._lock = threading.Lock()

    def of(self, claim: Claim, *, most_s: float) -> _Entry:
        """A context in which the claim counts as in flight, for at most so many seconds."""
        return _Entry(self, claim, self._clock.monotonic() + most_s)

    def add(self, claim: Claim, ends: float) -> None:
        with self._lock:
            self._claims[claim.play_id, claim.step] = claim, ends

    def remove(self, claim: Claim) -> None:
        with self._lock:
            self._claims.pop((claim.play_id, claim.step), None)

    def all(self) -> list[Claim]:
        """All claims in flight, as of now."""
        now = self._clock.monotonic()
        with self._lock:
            return [claim for claim, ends in self._claims.values() if now < ends]


class Kept:
    """Outcomes that no ledger has heard of yet, each with the queue that its step came from."""

    def __init__(self) -> None:
        self._outcomes: list[tuple[Outcome, str]] = []
        self._lock = threading.Lock()

    def add(self, outcome: Outcome, queue: str) -> None:
        with self._lock:
            self._outcomes.append((outcome, queue))

    def remove(self, outcome: Outcome, queue: str) -> None:
        """Forget one; harmless where the heartbeat and the end of the process both landed it."""
        with self._lock, suppress(ValueError):
            self._outcomes.remove((outcome, queue))

    def all(self) -> list[tuple[Outcome, str]]:
        """All of them, as of now."""
        with self._lock:
            return list(self._outcomes)


@dataclass
class _Entry:
    claims: InFlight
    claim: Claim
    ends: float

    def __enter__(self) -> None:
        self.claims.add(self.claim, self.ends)

    def __exit__(self, *_: object) -> None:
        self.claims.remove(self.claim)
