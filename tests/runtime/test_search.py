"""The state machine searched exhaustively, and its promises shown to be needed: each mutant is found out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flow8_runtime import progress, transitions
from flow8_runtime.claiming import Claiming
from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play
from flow8_runtime.states import TERMINAL, Stale
from tests.runtime.kit import flow_of, parallel, sequence, step
from tests.runtime.searching import Budget, Engine, Rules, Search, Violation

ROOT = Path(__file__).parents[2]
EVERYTHING = Budget(crashes=1, timeouts=1, failures=1, throttles=1, cancels=1)
ONE_STEP = Budget(crashes=1, timeouts=1, throttles=1, step_cancels=1)
LOSSES = Budget(crashes=1, timeouts=1)
CANCELLED = LOSSES._replace(cancels=1)
JOIN = parallel("a", "b", join="c")


@pytest.mark.parametrize(
    ("flow", "effects", "budget", "least"),
    [
        (sequence("a", "b"), {"a": "once", "b": "once"}, EVERYTHING, 3_000),
        (sequence("a", "b"), {"a": "keyed", "b": "once"}, EVERYTHING, 10_000),
        (sequence("a", "b"), {"a": "repeatable", "b": "repeatable"}, CANCELLED, 2_500),
        pytest.param(
            sequence("a", "b"), {"a": "repeatable", "b": "repeatable"}, EVERYTHING, 15_000, marks=pytest.mark.proof
        ),
        (sequence("a"), {"a": "keyed"}, Budget(crashes=3, timeouts=1, failures=1, cancels=1), 3_000),
        pytest.param(
            JOIN,
            {"a": "once", "b": "keyed", "c": "once"},
            EVERYTHING._replace(failures=0),
            10_000,
            marks=pytest.mark.proof,
        ),
        (JOIN, {"a": "once", "b": "once", "c": "keyed"}, Budget(crashes=1, failures=1, throttles=1), 1_000),
        (JOIN, {"a": "keyed", "b": "repeatable", "c": "keyed"}, LOSSES, 3_000),
        (sequence("a", "b", on_error="continue"), {"a": "once", "b": "once"}, EVERYTHING, 3_000),
        (parallel("a", "b", join="c", on_error="skip"), {"a": "once", "b": "read", "c": "once"}, LOSSES, 3_000),
        pytest.param(
            sequence("a", "b", "c"),
            {"a": "keyed", "b": "once", "c": "keyed"},
            ONE_STEP,
            10_000,
            marks=pytest.mark.proof,
        ),
        pytest.param(
            sequence("a", "b", on_error="continue"),
            {"a": "keyed", "b": "once"},
            ONE_STEP._replace(cancels=1),
            10_000,
            marks=pytest.mark.proof,
        ),
        (JOIN, {"a": "keyed", "b": "once", "c": "once"}, Budget(0, timeouts=1, step_cancels=1), 1_500),
        (JOIN, {"a": "keyed", "b": "once", "c": "once"}, Budget(1, timeouts=0, step_cancels=1), 1_000),
        pytest.param(
            JOIN,
            {"a": "keyed", "b": "once", "c": "once"},
            ONE_STEP._replace(throttles=0),
            5_000,
            marks=pytest.mark.proof,
        ),
        (sequence("a", "b", on_unknown="retry"), {"a": "once", "b": "once"}, LOSSES, 1_000),
    ],
)
def test_no_interleaving_breaks_a_promise(flow: Flow, effects: dict[str, str], budget: Budget, least: int) -> None:
    search = Search(flow, effects, budget).run()

    assert search.states >= least, "the search has become smaller than it was"


A, ALL = frozenset("a"), frozenset("abc")
TWO_LINKS = flow_of(step("a", input_mapping={"link_id": "1"}), step("b", input_mapping={"link_id": "2"}), step("c", 2))
TWO_QUEUES = flow_of(step("a", queue="unserved"), step("b"), step("c"))
CANCELLED_UNUSED = Budget(0, 0, cancels=1, returns=1)
TAKE = Claiming.take
ENGINE = Budget(crashes=1, timeouts=1, throttles=1, returns=1)


@pytest.mark.parametrize(
    ("flow", "effects", "engine", "budget", "least"),
    [
        (sequence("a", "b"), {"a": "once", "b": "keyed"}, Engine(ALL), Budget(1, 1, cancels=1, returns=1), 1_500),
        (sequence("a", "b"), {"a": "keyed", "b": "once"}, Engine(A), Budget(0, 1, step_cancels=1, returns=1), 800),
        (sequence("a", "b", on_unknown="retry"), {"a": "once", "b": "once"}, Engine(ALL), Budget(doubts=1), 2_500),
        (sequence("a", "b"), {"a": "once", "b": "keyed"}, Engine(), Budget(0, 1, filters=1, waits=1, doubts=1), 2_000),
        (sequence("a", "b"), {"a": "once", "b": "keyed"}, Engine(), Budget(1, 0, waits=1, cancels=1), 400),
        (sequence("a", "b", on_error="skip"), {"a": "once", "b": "keyed"}, Engine(), Budget(1, 0, 2, filters=1), 200),
        (JOIN, {"a": "once", "b": "keyed", "c": "once"}, Engine(ALL, one_process=True), Budget(returns=1), 4_000),
        (TWO_LINKS, {"a": "once", "b": "keyed", "c": "once"}, Engine(ALL, shares=True), Budget(1, 0, returns=1), 500),
        (TWO_LINKS, {"a": "keyed", "b": "once", "c": "read"}, Engine(shares=True), Budget(0, 0, waits=2), 350),
        (TWO_QUEUES, {"a": "once", "b": "once", "c": "keyed"}, Engine(ALL, shares=True), Budget(1, 0, 0, 1), 500),
    ],
)
def test_no_interleaving_of_what_the_engine_writes_breaks_a_promise(
    flow: Flow, effects: dict[str, str], engine: Engine, budget: Budget, least: int
) -> None:
    search = Search(flow, effects, budget, engine=engine).run()

    assert search.states >= least, "the search has become smaller than it was"


@pytest.mark.proof
@pytest.mark.parametrize(
    ("flow", "effects", "engine", "budget", "least"),
    [
        (sequence("a", "b"), {"a": "once", "b": "keyed"}, Engine(ALL), ENGINE._replace(cancels=1), 10_000),
        (sequence("a", "b"), {"a": "keyed", "b": "once"}, Engine(A), ENGINE._replace(step_cancels=1), 20_000),
        (JOIN, {"a": "keyed", "b": "once", "c": "once"}, Engine(ALL, one_process=True), ENGINE, 10_000),
        (TWO_LINKS, {"a": "once", "b": "keyed", "c": "once"}, Engine(A, shares=True), Budget(1, 1, waits=1), 5_000),
    ],
)
def test_no_interleaving_of_more_that_the_engine_writes_breaks_a_promise(
    flow: Flow, effects: dict[str, str], engine: Engine, budget: Budget, least: int
) -> None:
    search = Search(flow, effects, budget, engine=engine).run()

    assert search.states >= least, "the search has become smaller than it was"


def test_without_mishaps_every_interleaving_ends_well() -> None:
    search = Search(JOIN, {"a": "once", "b": "once", "c": "once"}, Budget(crashes=0, timeouts=0)).run()

    assert search.endings == {("DONE", "done", "done", "done")}


def test_a_lost_once_call_ends_in_outcome_unknown_and_nothing_else() -> None:
    search = Search(sequence("a"), {"a": "once"}, Budget(crashes=1, timeouts=0)).run()

    assert search.endings == {("DONE", "done"), ("FAIL", "outcome_unknown")}


def test_three_losses_end_in_a_dead_letter() -> None:
    search = Search(sequence("a"), {"a": "keyed"}, Budget(crashes=3, timeouts=0)).run()

    assert search.endings == {("DONE", "done"), ("FAIL", "dead_letter")}


# ---- Mutants: what broke in prototypes. Each takes one rule away; the search must see it.


def _unmarked(play: Play, *_: Any, **__: Any) -> Play:
    return {**play, "rev": play["rev"] + 1}


def _once_is_queued_again(play: Play, flow: Flow, name: str, **more: Any) -> Play:
    forgotten = {**play["steps"][name], "effect": "read"}
    return transitions.lease_end({**play, "steps": {**play["steps"], name: forgotten}}, flow, name, **more)


def _no_fence(play: Play, flow: Flow, name: str, n: int, *rest: Any, **more: Any) -> Play:
    return transitions.land(play, flow, name, play["steps"][name].get("n", n), *rest, **more)


def _late_results(play: Play, flow: Flow, name: str, n: int, *rest: Any, **more: Any) -> Play:
    step = play["steps"][name]
    if step["status"] == "outcome_unknown" and step["n"] == n:
        done = {**step, "status": "done", "landed": n}
        return {**play, "steps": {**play["steps"], name: done}, "rev": play["rev"] + 1}
    return transitions.land(play, flow, name, n, *rest, **more)


def _blind_to_the_cancel(play: Play) -> Play:
    return {key: value for key, value in play.items() if key != "cancelled_at"}


def _lease_end_ignores_cancel(play: Play, flow: Flow, name: str, **more: Any) -> Play:
    return transitions.lease_end(_blind_to_the_cancel(play), flow, name, **more)


def _429_ignores_cancel(play: Play, flow: Flow, name: str, n: int, *rest: Any, **more: Any) -> Play:
    return transitions.land(_blind_to_the_cancel(play), flow, name, n, *rest, **more)


def _acknowledged_by_status(play: Play) -> list[tuple[str, int]]:
    return [(name, step["n"]) for name, step in play["steps"].items() if step["status"] == "calling"]


def _forgets_the_steps_cancel(play: Play, flow: Flow, name: str, *rest: Any, **more: Any) -> Play:
    steps = {key: {k: v for k, v in step.items() if k != "cancelled_at"} for key, step in play["steps"].items()}
    return transitions.lease_end({**play, "steps": steps}, flow, name, *rest, **more)


@pytest.mark.parametrize(
    ("broken", "rules", "effect", "budget"),
    [
        ("twice", Rules(call=_unmarked), "once", Budget(crashes=1, timeouts=0)),
        ("twice", Rules(lease_end=_once_is_queued_again), "once", Budget(crashes=1, timeouts=0)),
        ("twice", Rules(blind_sweep=True), "once", Budget(crashes=0, timeouts=1)),
        ("not its own outcome", Rules(land=_no_fence), "keyed", Budget(crashes=0, timeouts=1)),
        ("two keys", Rules(key=lambda attempt: f"{attempt}"), "keyed", Budget(crashes=1, timeouts=0)),
        ("goes on", Rules(land=_late_results), "once", Budget(crashes=0, timeouts=1)),
        ("after the cancel", Rules(lease_end=_lease_end_ignores_cancel), "keyed", Budget(timeouts=1, cancels=1)),
        ("after the cancel", Rules(land=_429_ignores_cancel), "once", Budget(0, 0, throttles=1, cancels=1)),
        ("after the step", Rules(lease_end=_forgets_the_steps_cancel), "keyed", Budget(0, timeouts=1, step_cancels=1)),
        ("after the cancel", Rules(acknowledged=_acknowledged_by_status), "keyed", Budget(0, timeouts=1, cancels=1)),
    ],
    ids=[
        "no calling mark", "once queued again", "sweep without a condition", "no fence", "n in the key",
        "late result", "lease end ignores cancel", "429 ignores cancel", "lease end ignores step",
        "cancel acknowledged by status",
    ],
)  # fmt: skip
def test_the_search_finds_what_broke(broken: str, rules: Rules, effect: str, budget: Budget) -> None:
    flow = sequence("a")

    with pytest.raises(Violation, match=broken):
        Search(flow, {"a": effect}, budget, rules).run()


def test_the_search_finds_a_step_that_nobody_speaks_for() -> None:
    def forgets_the_next_group(play: Play, flow: Flow, name: str, n: int, *rest: Any, **more: Any) -> Play:
        new = transitions.land(play, flow, name, n, *rest, **more)
        waiting = {key: {"status": "waiting"} if key == "b" else step for key, step in new["steps"].items()}
        return {key: value for key, value in new.items() if key != "due_at"} | {"steps": waiting, "group": 0}

    with pytest.raises(Violation, match=r"no head|lost"):
        Search(
            flow_of(step("a"), step("b", 2)), {"a": "once", "b": "once"}, LOSSES, Rules(land=forgets_the_next_group)
        ).run()


# ---- The same for what the engine composes


def _queued_again_although_cancelled(play: Play, flow: Flow, name: str, *rest: Any, **more: Any) -> Play:
    given = transitions.give_back(_blind_to_the_cancel(play), flow, name, *rest, **more)
    return given | {"cancelled_at": play["cancelled_at"]} if "cancelled_at" in play else given


def _named_and_never_told_of(play: Play, flow: Flow, name: str, *rest: Any, **more: Any) -> Play:
    if "cancelled_at" in play:
        raise Stale
    return transitions.give_back(play, flow, name, *rest, **more)


def _rotates_nothing(play: Play, *_: Any, **__: Any) -> Play:
    return {**play, "rev": play["rev"] + 1}


def _releases_without_heads(play: Play, *rest: Any, **more: Any) -> Play:
    new = transitions.release(play, *rest, **more)
    return {key: value for key, value in new.items() if key not in ("due_at", "queue", "lane", "rank")}


def _knows_no_on_unknown(play: Play, _: Flow, *rest: Any, **more: Any) -> Play:
    return transitions.lease_end(play, sequence("a"), *rest, **more)


def _takes_two(self: Claiming, play: Play, flow: Flow, most: int, *rest: Any, **more: Any) -> Any:
    return TAKE(self, play, flow, most + 1, *rest, **more)


@pytest.mark.parametrize(
    ("broken", "flow", "rules", "budget"),
    [
        ("after the cancel", sequence("a"), Rules(give_back=_queued_again_although_cancelled), CANCELLED_UNUSED),
        ("lost", sequence("a"), Rules(give_back=_named_and_never_told_of), CANCELLED_UNUSED),
        ("lost", TWO_QUEUES, Rules(rotate=_rotates_nothing), Budget(0, 0)),
        ("no head", sequence("a"), Rules(release=_releases_without_heads), Budget(0, 0, waits=1)),
        ("without a reason", sequence("a", on_unknown="retry"), Rules(lease_end=_knows_no_on_unknown), LOSSES),
    ],
    ids=["give back ignores cancel", "give back forgets cancel", "no rotation", "release without heads", "on_unknown"],
)
def test_the_search_of_what_the_engine_writes_finds_what_broke(
    broken: str, flow: Flow, rules: Rules, budget: Budget
) -> None:
    effects = {"a": "keyed" if budget.cancels else "once", "b": "keyed", "c": "keyed"}
    prepares = frozenset[str]() if budget.waits else ALL

    with pytest.raises(Violation, match=broken):
        Search(flow, effects, budget, rules, Engine(prepares)).run()


@pytest.mark.parametrize(
    ("broken", "target", "name", "what"),
    [
        ("twice", transitions, "call", _unmarked),
        ("nobody's", Claiming, "take", _takes_two),
        ("not consistent", progress, "SUCCEEDED", frozenset({"done", "skipped"})),
        ("over too early", progress, "TERMINAL", TERMINAL | {"calling"}),
        ("not skipped", progress, "_skip_the_rest", lambda _play, _now: None),
    ],
    ids=["claim without mark", "takes two", "filtered is broken", "calling is over", "goes on after a failure"],
)
def test_the_search_of_what_the_engine_writes_finds_what_broke_in_its_parts(
    broken: str, target: object, name: str, what: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, name, what)
    prepares = frozenset[str]() if name == "SUCCEEDED" else ALL
    budget = Budget(crashes=1, timeouts=0, failures=1, filters=1)

    with pytest.raises(Violation, match=broken):
        Search(JOIN, {"a": "once", "b": "once", "c": "once"}, budget, engine=Engine(prepares)).run()


# ---- The picture


def test_the_picture_in_the_docs_shows_what_becomes_of_a_step_and_nothing_else() -> None:
    text = (ROOT / "docs" / "runtime.md").read_text(encoding="utf-8")
    drawn = {(before, after) for before, after in re.findall(r"^    (\w+) --> (\w+)", text, re.MULTILINE)}
    in_one_write = {("queued", "calling"), ("parked", "calling")}  # claimed in between
    seen: set[tuple[str, str]] = set()

    def watched(transition: Callable[..., Play]) -> Callable[..., Play]:
        def run(play: Play, *rest: Any, **more: Any) -> Play:
            new = transition(play, *rest, **more)
            for name, state in new["steps"].items():
                seen.add((play["steps"][name]["status"], state["status"]))
            return new

        return run

    names = ("claim", "call", "land", "lease_end", "cancel", "cancel_step", "give_back", "release", "make_due")
    rules = Rules(**{name: watched(getattr(transitions, name)) for name in names})
    for budget in (
        Budget(3, 0, failures=1),
        Budget(1, 0, 0, 1, 1, 1, 1),
        Budget(0, 0, 0, 0, filters=1, waits=1, doubts=1),
    ):
        for on_error, effect in (("fail", "once"), ("skip", "keyed")):
            Search(sequence("a", "b", on_error=on_error), {"a": effect, "b": "once"}, budget, rules).run()

    assert {edge for edge in seen if edge[0] != edge[1]} == drawn - in_one_write
