"""Random histories of the ledger on both stores: whatever happens in whatever order, its promises hold, and in the end
everything has ended.

Workers claim, mark, call, land, give back, beat, stand still and die; leases end, sweeps come two at a time, answers
are lost and batches break off; people cancel, reconnect links and push steps. The witness (witness.py) sees all calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from flow8_core.clock import ManualClock
from flow8_core.store import Delete, Store
from flow8_runtime.definition import Flow
from flow8_runtime.documents import PLAYS, STEP_RUNS
from flow8_runtime.ledger import Ledger
from flow8_runtime.states import GRACE, PARK_MAX
from flow8_runtime.sweep import Sweep
from flow8_runtime.throttles import COLLECTION as THROTTLES
from tests.environment import rounds
from tests.runtime.hands import AFTER, BEFORE, LINKS, SLOTS, Worker, at_once
from tests.runtime.kit import LEASE, USER, Watched, flow_of, open_ledger, parallel, sequence, step
from tests.runtime.witness import Witness

COMPANIES = (ObjectId("64b00000000000000000000a"), ObjectId("64b00000000000000000000b"))
PLAYS_AT_MOST = 4
FLOWS: tuple[Flow, ...] = (
    sequence("once", "keyed", "once2"),
    sequence("keyed", "read", "once"),
    parallel("once", "keyed", join="read"),
    sequence("once", "keyed", on_error="continue"),
    parallel("keyed", "once", join="once2", on_error="skip"),
    sequence("once", "keyed", on_unknown="retry"),
    flow_of(step("once", queue="slow"), step("keyed", priority="high"), step("read", 2)),
    flow_of(step("once", input_mapping={"link_id": "1"}), step("put", input_mapping={"link_id": "2"}), step("read", 2)),
)

PICKS = st.integers(0, 7)
CAME_TO = st.sampled_from(["done"] * 8 + ["failed", *BEFORE, *AFTER])
RIVALS = st.sampled_from(["", "", "", "sweep", "claim", "land", "lapse", "cancel", "stop", "connect"])
MISHAPS = st.sampled_from(["", "", "", "", "answer lost", "cut off", "dies at the write"])
WRITES = st.sampled_from(["claims", "lands", "lands", "lands and stops", "gives back"])
FATES = st.sampled_from(["dies", "stands still", "stands still, but for the grace"])
WISHES = st.sampled_from(["cancels", "stops", "stops", "connects", "revokes", "pushes"])
DELAYS = st.sampled_from([1, 3, 31, 31, 45, 700, PARK_MAX.total_seconds()])


class Histories(RuleBasedStateMachine):
    """One history. `store` outlives it, and is left empty."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.store = Watched(store, clock=self.clock)
        self.people = open_ledger(self.store, throttles_clock=self.clock)
        self.witness = Witness(self.store)
        self.workers = [
            Worker(number, self.store, self.clock, self.witness, queues)
            for number, queues in enumerate([("default",), ("default", "slow")])
        ]
        self.sweepers = [Ledger(self.store), Ledger(self.store)]
        self.dead: set[str] = set()
        self.works_with: set[str] = set()  # links that can be used
        self.orphans = 0
        self.stalls_at = self.wakes_for = 0

    @initialize(flows=st.lists(st.sampled_from(FLOWS), min_size=1, max_size=2), stalls_at=PICKS, wakes_for=PICKS)
    def begins(self, flows: list[Flow], stalls_at: int, wakes_for: int) -> None:
        self.stalls_at, self.wakes_for = stalls_at, wakes_for
        for flow, company in zip(flows, COMPANIES, strict=False):
            self.submit(flow, company)

    @precondition(lambda self: len(self.witness.flows) < PLAYS_AT_MOST)
    @rule(flow=st.sampled_from(FLOWS), company=st.sampled_from(COMPANIES))
    def submit(self, flow: Flow, company: ObjectId) -> None:
        play_id = ObjectId(f"64b0000000000000000001{len(self.witness.flows):02}")
        for _ in range(2):  # the second time is harmless
            self.people.submit(flow, {}, company_id=company, user_id=USER, play_id=play_id)
        self.witness.flows[play_id] = flow

    @rule(who=PICKS, which=PICKS, came_to=CAME_TO, times=st.integers(1, 5), prepared=st.booleans(), mishap=MISHAPS)
    def works(self, who: int, which: int, came_to: str, times: int, *, prepared: bool, mishap: str) -> None:
        """A worker takes something, if it has nothing, and goes on with it: to before its call, to after it, or on."""
        worker = self.workers[who % 2]
        if not worker.held:
            worker.claim(1, prepared=prepared)
        held = worker.held[which % len(worker.held)] if worker.held else None
        for _ in range(times - 1):
            if held in worker.held:
                worker.go_on(held, came_to)
        if held in worker.held:
            with self.suffering(worker, mishap):
                worker.go_on(held, came_to)

    works_on = works_much = works  # as likely as three others

    @rule(what=WRITES, who=PICKS, most=st.integers(0, SLOTS), prepared=st.booleans(), rival=RIVALS, mishap=MISHAPS)
    def writes(self, what: str, who: int, most: int, *, prepared: bool, rival: str, mishap: str) -> None:
        """A worker writes, and somebody else at once; the answer may be lost, or the worker."""
        worker = self.workers[who % 2]
        fresh = [held for held in worker.held if not held.called and held.outcome is None]
        acts: dict[str, Callable[[], None]] = {
            "claims": lambda: worker.claim(most + 1, prepared=prepared),
            "lands": lambda: worker.land(most, prepared=prepared),
            "lands and stops": lambda: worker.land(0, prepared=prepared, take_next=False),
            "gives back": lambda: worker.give_back(fresh[most % len(fresh)]) if fresh else None,
        }
        with self.suffering(worker, mishap):
            at_once(self.store, acts[what], self.rival(rival, who + 1))

    @rule(what=FATES, who=PICKS)
    def suffers(self, what: str, who: int) -> None:
        """A worker dies, or stands still until every lease is over that nobody renews; the other one takes over."""
        worker, other = self.workers[who % 2], self.workers[(who + 1) % 2]
        if what == "dies":
            self.dead.add(worker.kill())
        else:
            other.beat()
            self.clock.advance(LEASE.total_seconds() / 2)
            other.beat()
            self.clock.advance(LEASE.total_seconds() / 2 + GRACE.total_seconds() * (what == "stands still"))
        self.sweep(who)

    @rule(seconds=DELAYS, who=PICKS, rival=RIVALS)
    def time_passes(self, seconds: float, who: int, rival: str) -> None:
        """Leases end, whoever lives; and a sweep finds that, or two do."""
        self.clock.advance(seconds)
        at_once(self.store, lambda: self.sweep(who), self.rival(rival, who))

    @rule(what=WISHES, which=PICKS, rival=RIVALS)
    def somebody(self, what: str, which: int, rival: str) -> None:
        """A person wants something."""
        link = LINKS[which % len(LINKS)]
        acts: dict[str, Callable[[], object]] = {
            "cancels": lambda: self.cancel(which),
            "stops": lambda: self.stop(which),
            "connects": lambda: self.connect(link),
            "revokes": lambda: self.works_with.discard(link),
            "pushes": lambda: self.push(which),
        }
        at_once(self.store, acts[what], self.rival(rival, which))

    def check_invariants(self, *args: object, **more: object) -> None:
        """After each rule."""
        super().check_invariants(*args, **more)
        self.witness.look()
        assert self.orphans == 0, "a sweep found a play that nobody would have taken up"

    def teardown(self) -> None:
        """Everything that was begun ends; and whoever stood still all the while wakes up, and goes on where it was."""
        try:
            self.end_all()
            self.finish(self.workers[0])
            self.witness.look()
        finally:  # the next history begins with an empty store
            for collection in (PLAYS, STEP_RUNS, THROTTLES):
                left = self.store.find(collection, {}, fields=("_id",))
                self.store.batch([Delete(collection, {"_id": each["_id"]}) for each in left])

    @contextmanager
    def suffering(self, worker: Worker, mishap: str) -> Iterator[None]:
        """What may become of a write."""
        self.store.lose_answers = int(mishap == "answer lost")
        self.store.cut_after = 1 if mishap in ("cut off", "dies at the write") else None
        yield
        self.store.lose_answers, self.store.cut_after = 0, None
        if mishap == "dies at the write":
            self.dead.add(worker.kill())

    def end_all(self) -> None:
        """One worker takes something and stands still; the other one drains, as often as it takes, and meanwhile the
        first one wakes up for a moment."""
        self.workers[0].claim(SLOTS, prepared=self.stalls_at % 2 == 0)
        self.go_on(self.workers[0], self.stalls_at // 2)
        self.clock.advance(LEASE.total_seconds() + GRACE.total_seconds())
        for turn in range(40):
            self.works_with.update(LINKS)
            self.sweep(0)
            self.workers[1].claim(SLOTS, prepared=turn % 2 == 0)
            self.go_on(self.workers[0], self.wakes_for // 2)
            self.finish(self.workers[1])
            self.witness.look()
            if self.witness.over:
                return
            self.clock.advance(300)
        raise AssertionError(f"lost: {[self.store.get(PLAYS, play_id) for play_id in self.witness.flows]}")

    def go_on(self, worker: Worker, times: int) -> None:
        """Go on with all that a worker has in hand, so many times."""
        for held in list(worker.held) * times:
            if held in worker.held:
                worker.go_on(held, "done")

    def finish(self, worker: Worker) -> None:
        """Do all that a worker has in hand, and what follows from it."""
        while worker.held:
            for held in list(worker.held):
                while held in worker.held and held.outcome is None:
                    worker.go_on(held, "done")
            worker.land(SLOTS, prepared=True)

    def rival(self, what: str, other: int) -> Callable[[], object] | None:
        """What somebody else does in between. Nothing happens to what they write."""
        worker = self.workers[other % 2]
        acts: dict[str, Callable[[], object]] = {
            "sweep": lambda: self.sweep(other + 1),
            "claim": lambda: worker.claim(1, prepared=True),
            "land": lambda: worker.land(1, prepared=False),
            "lapse": lambda: (self.clock.advance(31), self.sweep(other + 1)),
            "cancel": lambda: self.cancel(other),
            "stop": lambda: self.stop(other),
            "connect": lambda: self.connect(LINKS[other % 2]),
        }
        if what not in acts:
            return None

        def act() -> None:
            mishaps = self.store.lose_answers, self.store.cut_after
            self.store.lose_answers, self.store.cut_after = 0, None
            acts[what]()
            self.store.lose_answers, self.store.cut_after = mishaps

        return act

    def sweep(self, who: int) -> None:
        """A pass of one of two sweepers."""
        sweep = Sweep(
            self.sweepers[who % 2],
            self.store,
            dead=lambda owner: owner in self.dead,
            link_settled=lambda _company, link: link in self.works_with,
        )
        self.orphans += sweep.run().orphans

    def cancel(self, which: int) -> None:
        play_id, company_id = self.play(which)
        self.witness.was_cancelled(self.people.cancel(play_id, company_id=company_id))

    def stop(self, which: int) -> None:
        play_id, name = self.step(which)
        company_id = self.play(which)[1]
        self.witness.was_cancelled(self.people.cancel_step(play_id, name, company_id=company_id), step=name)

    def push(self, which: int) -> None:
        play_id, name = self.step(which)
        self.people.make_due(f"{play_id}:{name}")

    def connect(self, link: str) -> None:
        self.works_with.add(link)
        for company_id in COMPANIES:
            self.people.release(link, company_id=company_id)

    def play(self, which: int) -> tuple[ObjectId, ObjectId]:
        """One of the plays, and its company."""
        play_id = list(self.witness.flows)[which % len(self.witness.flows)]
        play = self.people.plays.read(play_id)
        assert play is not None
        return play_id, play["company_id"]

    def step(self, which: int) -> tuple[ObjectId, str]:
        """A step of one of the plays."""
        play_id = self.play(which)[0]
        names = list(self.witness.flows[play_id].by_name)
        return play_id, names[which % len(names)]


def run(store: Store, *, histories: int, length: int) -> None:
    run_state_machine_as_test(
        lambda: Histories(store),
        settings=settings(
            max_examples=histories,
            stateful_step_count=length,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


def test_no_history_breaks_a_promise(store: Store, store_url: str) -> None:
    run(store, histories=30 if store_url.startswith("sqlite") else 6, length=30)


@pytest.mark.proof
@pytest.mark.timeout(900)
def test_no_long_history_breaks_a_promise(store: Store, store_url: str) -> None:
    full = 2_000 if store_url.startswith("sqlite") else 600
    run(store, histories=rounds(full, short=full // 20), length=80)
