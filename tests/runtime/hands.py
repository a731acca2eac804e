"""A worker process reduced to what it has in hand: claims, calls under way, and outcomes that it alone knows.

It does by single calls of the ledger what the engine's threads do, so that a history may stop it between any two.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flow8_core.clock import Clock
from flow8_core.errors import StoreUnavailable
from flow8_modules.effect import Effect
from flow8_runtime.claims import Claim, Outcome
from flow8_runtime.heads import lane
from flow8_runtime.ledger import Ledger
from flow8_runtime.shares import Shares
from flow8_runtime.throttles import Throttles
from tests.runtime.kit import LEASE, Prepares, Watched, outcome
from tests.runtime.witness import Witness, effect_of

SLOTS = 4
LINKS = ("1", "2")

# What an attempt may come to: before its call, and after it. With each whether the call has happened, or may have.
BEFORE = ("failed", "filtered", "parked", "waiting")
AFTER = {"done": True, "failed": True, "retry": False, "429": False, "outcome_unknown": True}


@dataclass(frozen=True)
class Marked:
    """A step that could be prepared before its claim was written."""

    until: datetime
    effect: Effect
    credential: str | None


@dataclass(eq=False)
class Held:
    """A claim in hand. `marked`: it may be called; `outcome`: what it came to, which no ledger has heard of yet."""

    claim: Claim
    marked: bool
    called: bool = False
    outcome: Outcome | None = None


class Worker:
    """A process that is killed and forked anew as `kill` says; each time with an empty mind and another owner's id."""

    def __init__(self, number: int, store: Watched, clock: Clock, witness: Witness, queues: tuple[str, ...]) -> None:
        self._number = number
        self._store = store
        self._clock = clock
        self._witness = witness
        self._queues = queues
        self._born = -1
        self.kill()

    def kill(self) -> str:
        """Die, and be replaced. Returns the dead owner."""
        dead = f"w{self._number}.{self._born}"
        self._born += 1
        self.owner = f"w{self._number}.{self._born}"
        self.held: list[Held] = []
        self._shares = Shares(SLOTS)
        throttles = Throttles(self._store, clock=self._clock)
        self.ledger = Ledger(self._store, throttles=throttles, rng=random.Random(self._number))
        return dead

    @property
    def known(self) -> list[Held]:
        """What is over, and is to be landed."""
        return [held for held in self.held if held.outcome is not None]

    def claim(self, most: int, *, prepared: bool) -> None:
        """Take what is due."""
        self.land(most, prepared=prepared, only=[])

    def land(self, most: int, *, prepared: bool, take_next: bool = True, only: list[Held] | None = None) -> None:
        """Hand in all that is known (or `only` these) and take up to `most` steps, by one write.

        Where the answer is lost, what is known is kept; what was taken by that write, nobody knows of.
        """
        handed = self.known if only is None else only
        for held in handed:
            self._shares.leave(held.claim.attempt_key)
        try:
            landing = self.ledger.land(
                [held.outcome for held in handed if held.outcome is not None],
                owner=self.owner,
                take_next=take_next,
                claim=min(most, SLOTS - len(self.held) + len(handed)),
                queues=self._queues,
                preparer=Prepares(self._prepare) if prepared else None,
                shares=self._shares,
            )
        except StoreUnavailable:
            return
        self.held = [held for held in self.held if held not in handed]
        for claim in (*landing.next, *landing.claims):
            flow = self.ledger.flow(claim.play["definition"])
            self._shares.take(claim.attempt_key, claim.company_id, lane(claim.play, flow, claim.step))
            self.held.append(Held(claim, marked=claim.prepared is not None))

    def go_on(self, held: Held, came_to: str) -> None:
        """The next thing that happens to a claim: it is over before its call, or marked; it is called; it is over."""
        if held.outcome is not None:
            self.land(0, prepared=True, only=[held])
        elif held.called:
            came_to = came_to if came_to in AFTER else "done"
            self._over(held, came_to, happened=AFTER[came_to])
        elif held.marked:
            self._witness.calls(held.claim)
            held.called = True
        elif came_to in BEFORE:
            self._over(held, came_to, happened=False)
        else:
            self._mark(held)

    def give_back(self, held: Held) -> None:
        """Return a claim that has not been called, nor will be, whether the ledger has heard of it or not."""
        self._drop(held)
        with suppress(StoreUnavailable):
            self.ledger.give_back([held.claim])

    def beat(self) -> None:
        """Renew what is in hand."""
        self.ledger.renew([held.claim for held in self.held], until=self.ledger.now() + LEASE)

    def _mark(self, held: Held) -> None:
        until, effect = self.ledger.now() + LEASE, effect_of(held.claim.step)
        self._witness.marked.add(held.claim.attempt_key)
        try:
            claim = self.ledger.calling(held.claim, effect=effect, until=until, credential=None)
        except StoreUnavailable:  # whether it is marked or not, it is not called
            held.outcome = outcome(held.claim, "parked", due_at=held.claim.play["created_at"])
            self._witness.answered(held.claim, "parked", happened=False)
            return
        if claim is None:
            self._drop(held)
        else:
            self._witness.marks(claim)
            held.claim, held.marked = claim, True

    def _over(self, held: Held, came_to: str, *, happened: bool) -> None:
        if came_to == "outcome_unknown" and not self._may_be_unknown(held.claim):
            came_to = "done"
        now = self.ledger.now()
        link = LINKS[len(held.claim.step) % len(LINKS)]
        more: dict[str, Any] = {
            "parked": {"due_at": now + timedelta(seconds=1)},
            "waiting": {"waiting_for": f"link:{link}", "credential": f"link:{link}"},
            "retry": {"due_at": now + timedelta(seconds=5), "counts": True},
            "429": {
                "due_at": now + timedelta(seconds=20),
                "credential": f"link:{link}",
                "throttle": (f"link:{link}", now + timedelta(seconds=20)),
                "throttles_lane": True,
            },
        }.get(came_to, {})
        status = "parked" if more else came_to
        held.outcome = outcome(held.claim, status, **more)
        self._witness.answered(held.claim, status, happened=happened)

    def _may_be_unknown(self, claim: Claim) -> bool:
        step = self.ledger.flow(claim.play["definition"]).step(claim.step)
        return effect_of(claim.step) is Effect.ONCE and step.on_unknown == "fail"

    def _prepare(self, claim: Claim) -> Marked:
        self._witness.marked.add(claim.attempt_key)
        return Marked(self.ledger.now() + LEASE, effect_of(claim.step), None)

    def _drop(self, held: Held) -> None:
        self._shares.leave(held.claim.attempt_key)
        self.held.remove(held)


def at_once(store: Watched, first: Callable[[], object], second: Callable[[], object] | None) -> None:
    """Two act at once: the second one after the first has read, and before it writes."""
    store.before_batch = second
    try:
        first()
    finally:
        store.before_batch = None
