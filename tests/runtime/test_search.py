"""The state machine searched exhaustively, and its promises shown to be needed: each mutant is found out."""

from __future__ import annotations

from typing import Any

import pytest

from flow8_runtime import transitions
from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play
from tests.runtime.kit import flow_of, parallel, sequence, step
from tests.runtime.searching import Budget, Rules, Search, Violation

EVERYTHING = Budget(crashes=1, timeouts=1, failures=1, throttles=1, cancels=1)
ONE_STEP = Budget(crashes=1, timeouts=1, throttles=1, step_cancels=1)
LOSSES = Budget(crashes=1, timeouts=1)
JOIN = parallel("a", "b", join="c")


@pytest.mark.parametrize(
    ("flow", "effects", "budget", "least"),
    [
        (sequence("a", "b"), {"a": "once", "b": "once"}, EVERYTHING, 3_000),
        (sequence("a", "b"), {"a": "keyed", "b": "once"}, EVERYTHING, 10_000),
        (sequence("a", "b"), {"a": "repeatable", "b": "repeatable"}, EVERYTHING, 15_000),
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
        (JOIN, {"a": "keyed", "b": "once", "c": "once"}, ONE_STEP._replace(throttles=0), 5_000),
        (sequence("a", "b", on_unknown="retry"), {"a": "once", "b": "once"}, LOSSES, 1_000),
    ],
)
def test_no_interleaving_breaks_a_promise(flow: Flow, effects: dict[str, str], budget: Budget, least: int) -> None:
    search = Search(flow, effects, budget).run()

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
        ("not consistent", Rules(land=_late_results), "once", Budget(crashes=0, timeouts=1)),
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
