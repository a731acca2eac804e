"""The drainer on a real ledger: no claim is dropped, one bad play stops nobody else, and a call ends its lease."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from bson import ObjectId

from flow8_core.clock import ManualClock, SystemClock
from flow8_modules.effect import Effect
from flow8_runtime import crew
from flow8_runtime.claims import Claim, Outcome, Prepared
from flow8_runtime.documents import FLOWS, PLAYS, Play
from flow8_runtime.engine import AHEAD, Engine
from flow8_runtime.ledger import Ledger
from flow8_runtime.listener import Listener
from flow8_runtime.owners import Owner
from flow8_runtime.sweep import Sweep
from flow8_runtime.wakeup import Wakeup
from tests.processes import until
from tests.runtime.kit import COMPANY, Silent, Watched, call, nothing_ahead, outcome, parallel, sequence, submit

Behaviour = Callable[[Claim], Outcome | None]


class Scripted:
    """A runner that does what a test says."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.ran: list[str] = []

    def prepare(self, claim: Claim) -> Prepared | None:
        return None

    ahead = staticmethod(nothing_ahead)

    def run(self, claim: Claim) -> Outcome | None:
        self.ran.append(claim.step)
        return self.behaviour(claim)


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return Owner(tmp_path)


def engine_of(ledger: Ledger, owner: Owner, runner: Scripted, *, budget_s: float = 5.0, **more: object) -> Engine:
    return Engine(
        ledger=ledger,
        runner=runner,  # type: ignore[arg-type]
        wakeup=more.pop("wakeup", Silent()),  # type: ignore[arg-type]
        owner=owner,
        clock=more.pop("clock", ManualClock()),  # type: ignore[arg-type]
        budget_s=budget_s,
        **more,  # type: ignore[arg-type]
    )


def drained(engine: Engine) -> None:
    """Drain, and wait for the threads' ends."""
    engine.drain()
    engine.close()


def leased(watched: Watched) -> list[str]:
    plays = watched.find(PLAYS, {"until": {"$gt": watched.now() - timedelta(days=1)}})
    return [
        name for play in plays for name, state in play["steps"].items() if state["status"] in ("claimed", "calling")
    ]


def forget(ledger: Ledger, watched: Watched, play_id: ObjectId) -> None:
    """Take a play's definition away from under it."""
    watched.delete(FLOWS, {"_id": ledger.get(play_id, company_id=COMPANY)["definition"]})
    ledger._flows.clear()


def test_a_landing_that_brings_two_claims_drops_none(ledger: Ledger, watched: Watched, owner: Owner) -> None:
    submit(ledger, parallel("a", "b", join="after"))
    first, second = ledger.claim(2, owner="another")
    submit(ledger, sequence("elsewhere"))
    ledger.give_back([first])

    def behaviour(claim: Claim) -> Outcome | None:
        marked = call(ledger, claim)
        if claim.step == "a":
            watched.before_batch = lambda: Ledger(watched).land([outcome(second)], owner="another", take_next=False)
        assert marked is not None
        return outcome(marked)

    runner = Scripted(behaviour)
    drained(engine_of(ledger, owner, runner))

    assert sorted(runner.ran) == ["a", "after", "elsewhere"]
    assert leased(watched) == []


@dataclass(frozen=True)
class AsIs:
    """A step that is prepared, and may be in doubt at a kill."""

    effect: Effect
    until: datetime
    credential: None = None


class Quick(Scripted):
    """Prepares its steps as of this effect, and tells how many were in doubt at each call."""

    def __init__(self, ledger: Ledger, behaviour: Behaviour = outcome, *, effect: Effect = Effect.KEYED) -> None:
        super().__init__(behaviour)
        self.ledger = ledger
        self.effect = effect
        self.threads: set[threading.Thread] = set()
        self.in_doubt: list[int] = []

    def prepare(self, claim: Claim) -> Prepared | None:
        return AsIs(self.effect_of(claim), self.ledger.now() + timedelta(minutes=1))

    def effect_of(self, claim: Claim) -> Effect:
        return self.effect

    def run(self, claim: Claim) -> Outcome | None:
        self.threads.add(threading.current_thread())
        self.in_doubt.append(len(calling(self.ledger)))
        return super().run(claim)


def calling(ledger: Ledger) -> list[Play]:
    plays = ledger._store.find(PLAYS, {"until": {"$gt": datetime(2000, 1, 1, tzinfo=UTC)}})
    return [play for play in plays if any(state["status"] == "calling" for state in play["steps"].values())]


def test_where_there_is_plenty_one_thread_calls_several_steps_before_it_lands_them(
    ledger: Ledger, watched: Watched, owner: Owner
) -> None:
    for _ in range(100):
        submit(ledger, sequence("a"))
    watched.calls.clear()
    runner = Quick(ledger)
    drained(engine_of(ledger, owner, runner))

    assert len(runner.ran) == 100
    assert len(runner.threads) == 1
    assert max(runner.in_doubt) == 1 + AHEAD
    assert watched.calls["batch"] <= 3 + 100 // AHEAD
    assert calling(ledger) == []


def test_no_more_steps_that_may_happen_once_are_marked_together_for_there_being_plenty(
    ledger: Ledger, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "SHARING_DOUBT", 2)
    for _ in range(100):
        submit(ledger, sequence("a"))
    runner = Quick(ledger, effect=Effect.ONCE)
    drained(engine_of(ledger, owner, runner))

    assert len(runner.ran) == 100
    assert max(runner.in_doubt) <= 2


class Mixed(Quick):
    """Each step of the effect that it is named after."""

    def effect_of(self, claim: Claim) -> Effect:
        return Effect(claim.step)


def test_of_mixed_steps_only_those_that_may_be_repeated_are_marked_ahead(ledger: Ledger, owner: Owner) -> None:
    for number in range(100):
        submit(ledger, sequence("once" if number % 2 else "keyed"))
    marked: list[int] = []

    def behaviour(claim: Claim) -> Outcome | None:
        marked.append(sum("once" in play["steps"] for play in calling(ledger)))
        assert claim.prepared is not None or call(ledger, claim) is not None
        return outcome(claim)

    runner = Mixed(ledger, behaviour)
    drained(engine_of(ledger, owner, runner))

    assert sorted(runner.ran) == 50 * ["keyed"] + 50 * ["once"]
    assert max(marked) <= crew.SHARING_DOUBT


class Standing(Quick):
    """Many plays, the tenth call of which takes until it `goes_on`."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger, self._answer)
        self.plays = [submit(ledger, sequence("a")) for _ in range(40)]
        self.goes_on = threading.Event()

    def _answer(self, claim: Claim) -> Outcome | None:
        if len(self.ran) == 10:
            assert self.goes_on.wait(20)
        return outcome(claim)

    def done(self) -> int:
        return sum(self.ledger.get(play, company_id=COMPANY)["status"] == "DONE" for play in self.plays)


@pytest.fixture
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No other thread is taken on where one stands in a call."""
    with monkeypatch.context() as patched:
        patched.setattr(crew, "STUCK_S", 60.0)
        yield patched


def test_a_call_that_takes_its_time_holds_up_nothing_that_was_called_before_it_or_taken_ahead(
    ledger: Ledger, owner: Owner
) -> None:
    runner = Standing(ledger)
    engine = engine_of(ledger, owner, runner, clock=SystemClock())
    engine.drain()

    until(lambda: runner.done() == 39, "all but the one that takes its time")
    runner.goes_on.set()
    engine.close()
    assert runner.done() == 40


def test_where_the_only_thread_is_in_a_call_the_heartbeat_sees_to_what_waits_for_it(
    ledger: Ledger, owner: Owner, nobody_else: pytest.MonkeyPatch
) -> None:
    runner = Standing(ledger)
    engine = engine_of(ledger, owner, runner, clock=SystemClock(), budget_s=0.2)
    engine.drain()
    assert len(calling(ledger)) > 2
    renewed = ledger.now() + timedelta(minutes=5)
    engine.renew(ledger._store, lease_s=300)
    assert all(play["until"] >= renewed for play in calling(ledger))
    nobody_else.undo()

    engine.settle()

    assert len(calling(ledger)) == 1
    assert runner.done() == 9
    runner.goes_on.set()
    engine.close()


@pytest.mark.usefixtures("nobody_else")
def test_a_worker_that_ends_waits_for_its_last_call_with_nothing_else_in_hand(ledger: Ledger, owner: Owner) -> None:
    runner, stopped = Standing(ledger), threading.Event()
    engine = engine_of(ledger, owner, runner, clock=SystemClock(), budget_s=0.2, stopping=stopped.is_set)
    engine.drain()
    stopped.set()
    ending = threading.Thread(target=engine.close)
    ending.start()

    until(lambda: len(calling(ledger)) == 1, "the others' return")
    assert runner.done() == 9
    runner.goes_on.set()
    ending.join(10)
    assert calling(ledger) == []
    assert len(runner.ran) == 10


def test_a_step_that_was_lost_is_called_with_nothing_else_in_hand(
    ledger: Ledger, watched: Watched, owner: Owner
) -> None:
    submit(ledger, sequence("lost"))
    assert len(ledger.claim(1, owner="dead")) == 1
    Sweep(ledger, watched, dead=lambda _: True, link_settled=lambda _company, _link: True).run()
    for _ in range(60):
        submit(ledger, sequence("a"))
    beside: list[int] = []

    def behaviour(claim: Claim) -> Outcome | None:
        if claim.step == "lost":
            beside.append(len(calling(ledger)) - 1)
        return outcome(claim)

    runner = Quick(ledger, behaviour)
    drained(engine_of(ledger, owner, runner))

    assert beside == [0]
    assert len(runner.ran) == 61


def test_nothing_of_a_credential_is_called_once_its_vendor_has_asked_for_patience(ledger: Ledger, owner: Owner) -> None:
    component = str(ObjectId())
    for _ in range(40):
        submit(ledger, sequence("a", component_config_ids={"request": component}))

    def behaviour(claim: Claim) -> Outcome | None:
        if len(runner.ran) < 20:
            return outcome(claim)
        until = ledger.now() + timedelta(hours=1)
        return outcome(claim, "parked", due_at=until, throttle=(f"component:{component}", until))

    runner = Quick(ledger, behaviour)
    drained(engine_of(ledger, owner, runner))

    assert len(runner.ran) == 20
    assert calling(ledger) == []


def test_a_worker_that_is_told_to_stop_gives_back_what_it_took_ahead(ledger: Ledger, owner: Owner) -> None:
    plays = [submit(ledger, sequence("a")) for _ in range(40)]
    runner = Quick(ledger)
    drained(engine_of(ledger, owner, runner, stopping=lambda: len(runner.ran) >= 10))

    statuses = [ledger.get(play, company_id=COMPANY)["steps"]["a"]["status"] for play in plays]
    assert statuses.count("done") == len(runner.ran) == 10
    assert statuses.count("queued") == 30


def test_what_was_handed_in_by_a_clock_that_goes_before_ours_is_done_in_a_moment(
    ledger: Ledger, watched: Watched, owner: Owner, redis_url: str
) -> None:
    watched.advance(0.2)
    submit(ledger, sequence("a"))
    watched.advance(-0.2)
    runner = Scripted(outcome)

    with redis.Redis.from_url(redis_url) as flags:
        listening = {"listener": Listener(flags), "wakeup": Wakeup(flags), "linger_s": 4.0, "clock": SystemClock()}
        engine = engine_of(ledger, owner, runner, **listening)
        engine.drain()
        until(lambda: runner.ran, "the only step", timeout=3)
        engine.close()


def test_a_play_whose_definition_is_gone_stops_nobody_else(ledger: Ledger, watched: Watched, owner: Owner) -> None:
    orphan = submit(ledger, sequence("x"))
    forget(ledger, watched, orphan)
    submit(ledger, sequence("other"))

    runner = Scripted(outcome)
    drained(engine_of(ledger, owner, runner))

    assert runner.ran == ["other"]
    assert not ledger.due()
    watched.advance(61)
    assert ledger.due()


@pytest.mark.parametrize("state", ["leased", "waiting", "two lanes"])
def test_a_play_whose_definition_is_gone_does_not_end_the_sweep(ledger: Ledger, watched: Watched, state: str) -> None:
    orphan = submit(ledger, parallel("x", "y"))
    submit(ledger, sequence("other"))
    claims = ledger.claim(3, owner="dead")
    if state != "leased":
        ledger.give_back([claim for claim in claims if claim.step == "x"])
        due = {"status": "parked", "waiting_for": "link:a"} if state == "waiting" else {}
        fields = {f"steps.x.{name}": value for name, value in due.items()} | {"waiting_for": "link:a"} if due else {}
        watched.update(PLAYS, {"_id": orphan}, {"$set": {"rotate_at": watched.now(), **fields}})
    forget(ledger, watched, orphan)

    report = Sweep(ledger, watched, dead=lambda _: True, link_settled=lambda _company, _link: True).run()

    assert report.requeued == 1
    assert report.due == {"default"}


def test_a_call_that_hangs_long_after_its_deadline_loses_its_lease(
    ledger: Ledger, watched: Watched, owner: Owner
) -> None:
    submit(ledger, sequence("a", timeout=20))
    clock = ManualClock()
    seen: list[bool] = []

    def behaviour(claim: Claim) -> Outcome | None:
        for seconds in (0, 20, 15):
            clock.advance(seconds)
            watched.advance(seconds)
            engine.renew(watched, lease_s=30)
            seen.append(watched.find(PLAYS, {})[0]["until"] > watched.now() + timedelta(seconds=25))
        return outcome(claim)

    engine = engine_of(ledger, owner, Scripted(behaviour), clock=clock)
    drained(engine)

    assert seen == [True, True, False]
