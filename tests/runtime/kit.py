"""What the tests of the ledger share: small flows, a machine to drive by hand, and an empty ledger."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from flow8_core.clock import Clock
from flow8_core.errors import StoreUnavailable
from flow8_core.store import Document, Filter, Index, Op, Sort, Store
from flow8_modules.effect import Effect
from flow8_runtime import documents, throttles, transitions
from flow8_runtime.claims import Claim, Outcome, Status
from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play
from flow8_runtime.ledger import Ledger
from flow8_runtime.states import Result
from flow8_runtime.throttles import Throttles
from flow8_runtime.wakeup import Wakeup

COMPANY = ObjectId("64b000000000000000000001")
USER = ObjectId("64b000000000000000000002")
PLAY = ObjectId("64b000000000000000000003")
START = datetime.fromisoformat("2026-04-04T10:00:00+00:00")
LEASE = timedelta(seconds=30)

DOWN = {"code": "provider_unavailable", "message": "The service does not answer.", "retryable": True}


def nothing_ahead(_: object) -> AbstractContextManager[None]:
    """The `ahead` of a preparer that reads nothing."""
    return nullcontext()


@dataclass(frozen=True)
class Prepares:
    """A preparer that asks this."""

    prepare: Callable[[Claim], Any]
    ahead = staticmethod(nothing_ahead)


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

    def cancel_step(self, name: str) -> str:
        """Cancel one step; its status after it."""
        self.play = transitions.cancel_step(self.play, self.flow, name, now=self.now)
        return self.status(name)

    def n(self, name: str) -> int:
        return int(self.play["steps"][name].get("n", 0))

    def status(self, name: str) -> str:
        return str(self.play["steps"][name]["status"])

    @property
    def statuses(self) -> dict[str, str]:
        return {name: state["status"] for name, state in self.play["steps"].items()}


class Watched:
    """A store whose clock can be moved on (and, given a `clock`, moves by nothing else), whose calls are counted, and
    which can lose an answer or break off in the midst of a batch."""

    def __init__(self, store: Store, *, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or store
        self._ahead = timedelta()
        self.calls: Counter[str] = Counter()
        self.read = 0  # documents
        self.lose_answers = 0
        self.cut_after: int | None = None  # operations of the next batch; the rest of it is never heard of
        self.before_batch: Callable[[], object] | None = None  # what somebody else does at that moment, once

    def advance(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)

    def now(self) -> datetime:
        return self._clock.now() + self._ahead

    def batch(self, ops: Sequence[Op]) -> list[bool]:
        self.calls["batch"] += 1
        if self.before_batch is not None:
            rival, self.before_batch = self.before_batch, None
            rival()
        if self.cut_after is not None:
            ops, self.cut_after = ops[: self.cut_after], None
            self.lose_answers += 1
        applied = self._store.batch(ops) if ops else []
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreUnavailable("The answer was lost.")
        return applied

    def declare(self, collection: str, indexes: Sequence[Index], *, durable: bool = False) -> None:
        self._store.declare(collection, indexes, durable=durable)

    def insert(self, collection: str, document: Mapping[str, Any]) -> None:
        self.calls["insert"] += 1
        self._store.insert(collection, document)

    def get(self, collection: str, id: Any) -> Document | None:  # noqa: A002
        self.calls["get"] += 1
        return self._store.get(collection, id)

    def find(
        self,
        collection: str,
        filter: Filter,  # noqa: A002
        *,
        sort: Sort = (),
        limit: int = 0,
        fields: Sequence[str] = (),
    ) -> list[Document]:
        self.calls["find"] += 1
        found = self._store.find(collection, filter, sort=sort, limit=limit, fields=fields)
        self.read += len(found)
        return found

    def update(
        self,
        collection: str,
        filter: Filter,  # noqa: A002
        update: Mapping[str, Any],
        *,
        sort: Sort = (),
        upsert: bool = False,
    ) -> Document | None:
        self.calls["update"] += 1
        return self._store.update(collection, filter, update, sort=sort, upsert=upsert)

    def delete(self, collection: str, filter: Filter, *, sort: Sort = ()) -> Document | None:  # noqa: A002
        self.calls["delete"] += 1
        return self._store.delete(collection, filter, sort=sort)

    def count(self, collection: str, filter: Filter) -> int:  # noqa: A002
        return self._store.count(collection, filter)

    def close(self) -> None:
        self._store.close()


class Silent(Wakeup):
    """No broker: nobody is to be woken here."""

    def __init__(self) -> None:
        pass

    def ring(self, queue: str = "default") -> bool:
        return True

    ring_at_leisure = ring

    def answer(self, queue: str = "default") -> None:
        return


def open_ledger(store: Store, *, lease_s: float = 30.0, throttles_clock: Clock | None = None) -> Ledger:
    """A ledger on an empty store."""
    for name, indexes in (
        (documents.FLOWS, documents.FLOW_INDEXES),
        (documents.PLAYS, documents.PLAY_INDEXES),
        (documents.STEP_RUNS, documents.STEP_RUN_INDEXES),
        (throttles.COLLECTION, throttles.INDEXES),
    ):
        store.declare(name, indexes)
    return Ledger(store, lease_s=lease_s, throttles=Throttles(store, clock=throttles_clock), rng=random.Random(1))


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
    """Drain as a worker with one thread does, `most` steps; the steps in the order in which they ran."""
    ran: list[str] = []
    claims = ledger.claim(1, owner=owner, queues=queues)
    while claims:
        marked = call(ledger, claims[0])
        assert marked is not None
        ran.append(marked.step)
        more = len(ran) < most
        landing = ledger.land([outcome(marked)], owner=owner, take_next=more, claim=int(more), queues=queues)
        claims = landing.next or landing.claims
    return ran


def in_threads(count: int, work: Callable[[str], None]) -> None:
    """Work in so many threads at once, each with a name of its own; what one raises fails the test."""
    failures: list[BaseException] = []

    def guarded(name: str) -> None:
        try:
            work(name)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(str(index),)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def lose(ledger: Ledger, claim: Claim) -> None:
    """Its lease ends unheard."""
    flow = ledger.flow(claim.play["definition"])
    ledger.plays.change(
        claim.play, lambda play: transitions.lease_end(play, flow, claim.step, now=ledger.now(), dead=True)
    )
