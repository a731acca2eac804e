"""What the tests of the ledger share: small flows, a machine to drive by hand, and an empty ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from flow8_core.clock import Clock
from flow8_core.store import Store
from flow8_modules.effect import Effect
from flow8_runtime import documents, throttles, transitions
from flow8_runtime.claims import Claim, Outcome, Status
from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play
from flow8_runtime.ledger import Ledger
from flow8_runtime.throttles import Throttles
from flow8_runtime.transitions import Result

COMPANY = ObjectId("64b000000000000000000001")
USER = ObjectId("64b000000000000000000002")
PLAY = ObjectId("64b000000000000000000003")
START = datetime.fromisoformat("2026-04-04T10:00:00+00:00")
LEASE = timedelta(seconds=30)

DOWN = {"code": "provider_unavailable", "message": "The service does not answer.", "retryable": True}


def step(name: str, order: int = 1, **more: Any) -> dict[str, Any]:
    """A step's definition."""
    return {"name": name, "module_ref": "slack-message", "order": order, **more}


def flow_of(*steps: Mapping[str, Any]) -> Flow:
    """A flow of these steps."""
    return Flow.parse({"name": "test", "steps": list(steps)})


def sequence(*names: str, **more: Any) -> Flow:
    """Steps one after the other."""
    return flow_of(*(step(name, order, **more) for order, name in enumerate(names)))


def parallel(*names: str, join: str | None = None, **more: Any) -> Flow:
    """Steps of one group, and perhaps one that follows them."""
    after = [step(join, 2, **more)] if join else []
    return flow_of(*(step(name, 1, **more) for name in names), *after)


def identity() -> Play:
    """What a new play document brings along."""
    return {"_id": PLAY, "company_id": COMPANY, "user_id": USER, "name": "test", "definition": "d", "args": "{}"}


class Machine:
    """One play driven by hand through the pure functions, with a clock that moves when told to."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.now = START
        self.play = transitions.begin(identity(), flow, now=self.now)

    def advance(self, seconds: float) -> Machine:
        self.now += timedelta(seconds=seconds)
        return self

    def claim(self, name: str, owner: str = "w1") -> int:
        self.play = transitions.claim(self.play, self.flow, name, owner=owner, now=self.now, until=self.now + LEASE)
        return self.n(name)

    def call(
        self, name: str, n: int | None = None, *, effect: Effect = Effect.ONCE, credential: str | None = None
    ) -> int:
        n = self.n(name) if n is None else n
        self.play = transitions.call(
            self.play, self.flow, name, n, until=self.now + LEASE, effect=effect.value, credential=credential
        )
        return n

    def begin(self, name: str, owner: str = "w1", *, effect: Effect = Effect.ONCE) -> int:
        """Claim and mark."""
        return self.call(name, self.claim(name, owner), effect=effect)

    def land(self, name: str, status: str = "done", n: int | None = None, **more: Any) -> str:
        """Land an outcome; the step's status after it."""
        n = self.n(name) if n is None else n
        if status == "done":
            more.setdefault("output", "{}")
        self.play = transitions.land(self.play, self.flow, name, n, Result(status, **more), now=self.now)
        return self.status(name)

    def run(self, name: str, status: str = "done", **more: Any) -> str:
        """A whole attempt."""
        self.begin(name)
        return self.land(name, status, **more)

    def lease_end(self, name: str, *, dead: bool = False) -> str:
        self.play = transitions.lease_end(self.play, self.flow, name, now=self.now, dead=dead)
        return self.status(name)

    def cancel(self) -> list[tuple[str, int]]:
        self.play = transitions.cancel(self.play, self.flow, now=self.now)
        return transitions.open_calls(self.play)

    def n(self, name: str) -> int:
        return int(self.play["steps"][name].get("n", 0))

    def status(self, name: str) -> str:
        return str(self.play["steps"][name]["status"])

    @property
    def statuses(self) -> dict[str, str]:
        return {name: state["status"] for name, state in self.play["steps"].items()}


def open_ledger(store: Store, *, clock: Clock | None = None, lease_s: float = 30.0) -> Ledger:
    """A ledger on an empty store, whose throttles are read with no cache in the way of the test's clock."""
    for name, indexes in (
        (documents.FLOWS, documents.FLOW_INDEXES),
        (documents.PLAYS, documents.PLAY_INDEXES),
        (documents.STEP_RUNS, documents.STEP_RUN_INDEXES),
        (throttles.COLLECTION, throttles.INDEXES),
    ):
        store.declare(name, indexes)
    return Ledger(store, lease_s=lease_s, throttles=Throttles(store, clock=clock) if clock else None)


def submit(ledger: Ledger, flow: Flow, args: Mapping[str, Any] | None = None, **more: Any) -> ObjectId:
    """A play of our company and user."""
    return ledger.submit(flow, args or {}, company_id=COMPANY, user_id=USER, **more)


def outcome(claim: Claim, status: Status = "done", **more: Any) -> Outcome:
    """An outcome of this claim; done ones have an output."""
    if status == "done":
        more.setdefault("output", {"step": claim.step})
    if status in ("failed", "parked"):
        more.setdefault("error", dict(DOWN))
    return Outcome(claim=claim, status=status, **more)


def call(ledger: Ledger, claim: Claim, *, effect: Effect = Effect.ONCE, seconds: float = 30.0) -> Claim | None:
    """Mark a claim."""
    return ledger.calling(claim, effect=effect, until=ledger.now() + timedelta(seconds=seconds), credential=None)


def run_all(ledger: Ledger, *, owner: str = "w1", most: int = 1000, queues: Sequence[str] = ("default",)) -> list[str]:
    """Drain as a worker with one thread does; the steps in the order in which they ran."""
    ran: list[str] = []
    claims = ledger.claim(1, owner=owner, queues=queues)
    while claims and len(ran) < most:
        marked = call(ledger, claims[0])
        assert marked is not None
        ran.append(marked.step)
        landing = ledger.land([outcome(marked)], owner=owner, claim=1, queues=queues)
        claims = landing.next or landing.claims
    return ran
