"""Drains the ledger: takes what is due, runs it, goes on with each play's next step in place.

A wake-up keeps the process's Celery side busy for a short budget, so that others get wake-ups, too; the caller threads
(crew.py) work on as long as something is due. A thread hands in what a step came to and takes its next one by one
write, together with those of the threads that come at the same time (exchange.py). The step that it takes is prepared
before that, so that the same write can mark it `calling`: what is marked at a kill is what was about to be called.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from bson import ObjectId

from flow8_core import crashpoints
from flow8_core.clock import Clock
from flow8_core.errors import StoreUnavailable
from flow8_core.store import Store
from flow8_modules.effect import Effect
from flow8_runtime.attempt import DEADLINE_MARGIN_S
from flow8_runtime.crew import Crew
from flow8_runtime.exchange import Exchange, HandIn
from flow8_runtime.heads import lane
from flow8_runtime.in_flight import InFlight, Kept
from flow8_runtime.ledger import Claim, Landing, Ledger, Outcome
from flow8_runtime.lingering import Lingerer
from flow8_runtime.listener import Listener
from flow8_runtime.owners import Owner
from flow8_runtime.runner import Runner
from flow8_runtime.shares import Shares
from flow8_runtime.sparing import Sparing
from flow8_runtime.wakeup import DEFAULT_QUEUE, Wakeup

CLAIMED = crashpoints.register("engine.claimed", "the step is claimed, and mostly marked; nothing has been called")
BEFORE_LANDING = crashpoints.register("engine.before_landing", "the outcome is known to this process alone")
LANDED = crashpoints.register("engine.landed", "the outcome is in the ledger, and the play's next step is claimed")

MISSED_BEATS = 3
HAND_OVER_S, HAND_OVER_MOST_S = 0.05, 0.4  # as long as a message takes to reach another process; on a busy machine
HAND_OVER_EVERY_S = 0.25  # or processes that are all full would wake each other without end
AHEAD = 16  # steps that are called one after the other and landed by one write; at a kill all of them are repeated
HANGS_AFTER_S = DEADLINE_MARGIN_S / 2  # past its deadline; then its mark, and so its lease, still holds for a while

log = logging.getLogger("flow8.engine")


class Engine:
    """One process's drainer, serving these queues, the first before the others. `stopping` is asked before each step:
    what is in flight finishes, nothing new begins.

    `on_finished` hears of plays that are over and that somebody outside waits for. With a `listener` it lingers for
    `linger_s` seconds when all is done.
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
        threads: int = 64,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        listener: Listener | None = None,
        linger_s: float = 0.2,
        stopping: Callable[[], bool] = lambda: False,
        on_finished: Callable[[ObjectId], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._runner = runner
        self._wakeup = wakeup
        self._owner = owner
        self._clock = clock
        self._budget_s = budget_s
        self._queues = tuple(queues)
        self._stopping = stopping
        self._on_finished = on_finished
        self._in_flight = InFlight(clock)
        self._shares = Shares(threads)
        self._kept = Kept()
        self._exchange = Exchange(self._land, self._landed, self._lost, self._give_back, self._room)
        self._lingerer = (
            Lingerer(listener, wakeup, self._look, linger_s=linger_s, soon=self._soon) if listener else None
        )
        self._hands_over_at = 0.0
        self._hand_over_s = HAND_OVER_S
        self._worn = False
        self._harmless = False  # whether the step that was taken last was
        self._hung = 0
        self._crew = Crew(self._shift, most=threads, clock=clock)

    def drain(self, queue: str = DEFAULT_QUEUE) -> None:
        """Run what is due until nothing is, or the budget is spent; then wake another if more is due, or linger.

        Raises `StoreUnavailable` where the ledger cannot be asked; what was done by then is kept, and landed later.
        """
        self._wake(self._wakeup.answer, queue)
        if self._look():
            self._hand_over_s = HAND_OVER_S
            if self._lingerer is not None and not self._ending():
                self._lingerer.stay(queue)
        elif not self._ending():
            self._hand_over(queue)

    def _look(self) -> bool:
        """Take what is due for a budget's time; True where nothing is left to take, not for others either."""
        if self._ending():
            return False
        self._crew.begin()
        self._watch(self._clock.monotonic() + self._budget_s)
        return self._crew.is_dry and not self._ledger.candidates.more  # more than this process may hold, that is

    def _watch(self, until: float) -> None:
        self._crew.watch(until, self._ending, unsettled=self._exchange.held)

    def _stay(self, until: float) -> None:
        """Be there for the threads until then, whether they need it or not."""
        self._watch(until)
        time.sleep(max(0.0, until - self._clock.monotonic()))

    def _soon(self) -> float:
        """In how many seconds the next step is due that was seen not to be due yet."""
        moment = self._ledger.candidates.next_due()
        return math.inf if moment is None else max(0.0, (moment - self._ledger.now()).total_seconds())

    def _hand_over(self, queue: str) -> None:
        """Wake another process where more is due, now and then. Celery gives a message to the first one that is free,
        so this one is not for a moment, and for a longer one each time that it is woken itself."""
        self._stay(self._hands_over_at)  # later, and not never: the sweep is late
        if self._ledger.due((queue,)):
            self._hands_over_at = self._clock.monotonic() + HAND_OVER_EVERY_S
            self._wake(self._wakeup.ring, queue)
            self._stay(self._clock.monotonic() + self._hand_over_s)
            self._hand_over_s = min(2 * self._hand_over_s, HAND_OVER_MOST_S)

    def end_hung(self) -> None:
        """Tell the ledger of calls that are long past their deadline: each has cost its thread, and this process is to
        be replaced. Raises `StoreUnavailable`."""
        for claim in self._in_flight.overdue():
            log.error("step %s hangs long after its deadline; its thread is given up", claim.step_run_id)
            outcome = self._runner.overdue(claim)
            self._told(outcome, self._ledger.land([outcome], owner=self._owner.id, take_next=False))
            self._in_flight.give_up(claim)
            self._hung += 1
            self.wear_out()

    def wear_out(self) -> None:
        """Take up nothing new: this process is to be replaced once what is in flight has finished."""
        self._worn = True

    @property
    def worn_out(self) -> bool:
        """Whether this process has nothing left to do but to end: it is to be replaced, and nothing is in flight but
        what hangs."""
        in_hand = self._in_flight.live() or self._kept.all() or self._exchange.held()
        return self._worn and not in_hand and self._crew.at_work <= self._hung

    def _ending(self) -> bool:
        return self._worn or self._stopping()

    def renew(self, store: Store, *, lease_s: float) -> None:
        """Renew the leases of what is in flight or waits to be landed; the heartbeat calls it, from its own thread.

        A call that is not over long after its deadline hangs: its lease is left to end, so that the ledger hears of it.
        """
        claims = self._in_flight.live() + [outcome.claim for outcome in self._kept.all()] + self._exchange.held()
        if claims:
            self._ledger.renew(claims, until=store.now() + timedelta(seconds=lease_s))

    def settle(self) -> None:
        """See to what waits for a thread while all of them wait for their vendors; the heartbeat calls it."""
        if self._crew.all_slow and self._exchange.held():
            self._exchange.settle()

    def land_kept(self) -> None:
        """Land what could not be landed because the store was away. Raises `StoreUnavailable` where it still is.

        What cannot be landed for another reason is given up to its lease's end: it must not block those behind it.
        """
        for outcome in self._kept.all():
            landing = Landing()
            try:
                landing = self._ledger.land([outcome], owner=self._owner.id, take_next=False)
                self._told(outcome, landing)
            except StoreUnavailable:
                raise
            except Exception:
                log.exception("the outcome of %s cannot be landed", outcome.claim.step_run_id)
            self._kept.remove(outcome)
            for queue in {self._queue_of(outcome.claim), *landing.due.values()}:
                self._wake(self._wakeup.ring, queue)

    def close(self) -> None:
        """Wait for what is in flight; nothing new begins."""
        if self._lingerer is not None:
            self._lingerer.close()
        self._exchange.settle()  # in good time: a call may take long yet
        self._crew.end()
        self._exchange.settle()

    def _shift(self) -> None:
        """What a thread does: one step after the other, until there is none for it."""
        claim = self._next(None, leaves=False)
        while claim is not None:
            outcome = None
            try:
                outcome = self._run(claim)
            finally:
                if outcome is None:
                    self._shares.leave(claim.attempt_key)
            leaves = outcome is not None and self._crew.may_leave()
            claim = self._next(outcome, leaves=leaves)
            if leaves and claim is not None:
                self._crew.back()

    def _next(self, outcome: Outcome | None, *, leaves: bool) -> Claim | None:
        """Hand in an outcome; what this thread does next. One that leaves takes only what is next in its play."""
        go_on = not self._ending()  # asked now: the worker may have been told to stop during the call
        if outcome is None and not go_on:
            return None
        claim = None
        if outcome is not None and go_on and not leaves and self._can_wait(outcome):
            claim = self._exchange.defer(outcome)
        if claim is None:
            claim = self._swapped(HandIn(outcome, wants=go_on and not leaves))
            if claim is None and go_on and not leaves and not self._exchange.held():
                self._crew.dry()
        if not go_on or (claim is not None and claim.lost):  # it may cost this process its life: without neighbours
            self._exchange.settle()
        return claim

    def _swapped(self, hand_in: HandIn) -> Claim | None:
        try:
            self._exchange.swap(hand_in)
        except StoreUnavailable as error:
            if hand_in.outcome is not None:
                self._lost(hand_in.outcome, error)
            raise
        if hand_in.claim is not None:
            self._harmless = _harmless(hand_in.claim)
            if self._ledger.candidates.more:
                self._crew.share(harmless=self._harmless)
        return hand_in.claim

    def _can_wait(self, outcome: Outcome) -> bool:
        """Whether it may be landed a few calls later: nobody is the worse for it if it is never heard of."""
        return outcome.status == "done" and self._crew.at_once and _harmless(outcome.claim)

    def _room(self) -> int:
        """How many steps to take ahead."""
        return AHEAD if self._harmless and self._crew.at_once and self._ledger.candidates.more else 0

    def _land(self, outcomes: Sequence[Outcome], wanted: int, threads: int) -> Landing:
        go_on = not self._ending()
        for outcome in outcomes:
            self._shares.leave(outcome.claim.attempt_key)
        landing = self._ledger.land(
            outcomes,
            owner=self._owner.id,
            take_next=go_on,
            claim=wanted if go_on else 0,
            queues=self._queues,
            preparer=Sparing(self._runner, threads),
            shares=self._shares,
        )
        for claim in (*landing.next, *landing.claims):  # before the next one claims
            self._shares.take(claim.attempt_key, claim.company_id, self._lane(claim))
        return landing

    def _give_back(self, claims: list[Claim]) -> None:
        try:
            self._ledger.give_back(claims)
        except StoreUnavailable:
            raise
        except Exception:  # their leases end
            log.exception("%d steps cannot be given back", len(claims))
        for claim in claims:
            self._shares.leave(claim.attempt_key)
        for queue in {self._queue_of(claim) for claim in claims}:
            self._wake(self._wakeup.ring, queue)

    def _lane(self, claim: Claim) -> str:
        return lane(claim.play, self._ledger.flow(claim.play["definition"]), claim.step)

    def _run(self, claim: Claim) -> Outcome | None:
        flow = self._ledger.flow(claim.play["definition"])
        crashpoints.visit(CLAIMED)
        with (
            self._in_flight.of(claim, most_s=flow.step(claim.step).timeout_s + HANGS_AFTER_S),
            self._crew.calling(),
        ):
            try:
                outcome = self._runner.run(claim)
            except StoreUnavailable as error:  # before anything was called: the step is as due as it was
                outcome = Outcome(claim, "parked", error=error.to_dict(), due_at=claim.play["created_at"])
        if outcome is not None:
            crashpoints.visit(BEFORE_LANDING)
        return outcome

    def _landed(self, outcomes: Sequence[Outcome], landing: Landing) -> None:
        """Tell those outside whom a write concerns."""
        for outcome in outcomes:
            crashpoints.visit(LANDED)
            try:
                self._told(outcome, landing)
            except Exception:
                log.exception("nobody could be told that the play of %s is over", outcome.claim.step_run_id)
        self._wake_others(outcomes, landing)

    def _lost(self, outcome: Outcome, error: Exception) -> None:
        """What could not be landed: with the store away it is kept, else only its lease's end is left."""
        if isinstance(error, StoreUnavailable):
            self._kept.add(outcome)
        else:
            log.error("the outcome of %s cannot be landed", outcome.claim.step_run_id, exc_info=error)

    def _told(self, outcome: Outcome, landing: Landing) -> None:
        if outcome.claim.play_id in landing.finished and "origin" in outcome.claim.play:
            self._on_finished(outcome.claim.play_id)

    def _wake_others(self, outcomes: Sequence[Outcome], landing: Landing) -> None:
        """Those of another queue, for each play that has gone there; and those of ours, where there is more to do."""
        due = set(landing.due.values())
        for queue in due.difference(self._queues):
            self._wake(self._wakeup.ring, queue)
        if not self._ending() and (due.intersection(self._queues) or self._ledger.candidates.more):
            for queue in {self._queue_of(outcome.claim) for outcome in outcomes}:
                self._wake(self._wakeup.ring_at_leisure, queue)

    def _queue_of(self, claim: Claim) -> str:
        return self._ledger.flow(claim.play["definition"]).step(claim.step).queue

    def _wake(self, ring: Callable[[str], object], queue: str) -> None:
        """There is more than this process can do at once. A broker that is away does not stop a drain."""
        try:
            ring(queue)
        except StoreUnavailable:
            log.warning("the broker is away; draining on without it")


def _harmless(claim: Claim) -> bool:
    """Whether the step may be called again, should nobody hear of it."""
    return claim.prepared is not None and claim.prepared.effect is not Effect.ONCE
