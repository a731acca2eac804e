"""What must hold in every state that a search comes to, at every call, and from one state to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play, StepState
from flow8_runtime.states import BROKEN, LEASED, LIVE_PLAYS, LOST_LIMIT, READY, SUCCEEDED, TERMINAL

if TYPE_CHECKING:
    from tests.runtime.searching import Search, State, World

Attempt = tuple[str, int]

BAD = BROKEN | {"cancelled"}
PLAYS = LIVE_PLAYS | {"DONE", "FAIL"}
NAMES = READY | LEASED | SUCCEEDED | BAD | {"waiting"}


class Violation(AssertionError):
    """A promise was broken; the message ends with the path to it."""


def check_call(search: Search, state: State, attempt: Attempt) -> None:
    """At the moment of a call."""
    world, name = state.world, attempt[0]
    earlier = [other for other, _ in world.sent if other[0] == name]
    if earlier and search.effects[name] == "once" and search.flow.step(name).on_unknown == "fail":
        raise Violation(f"twice: {attempt} calls after {earlier}")
    if world.acknowledged is not None and attempt not in world.acknowledged:
        raise Violation(f"after the cancel: {attempt} calls, and the answer did not name it")
    if any(step == name and attempt not in told for step, told in world.stopped):
        raise Violation(f"after the step's cancel: {attempt} calls, and the answer did not name it")
    for group in search.flow.groups[: _group(search.flow, name)]:
        ended = {before: state.play["steps"][before]["status"] for before in group}
        if not set(ended.values()) <= TERMINAL:
            raise Violation(f"out of order: {attempt} calls before {ended} are over")
        if any(ended[before] in BAD and search.flow.step(before).on_error == "fail" for before in group):
            raise Violation(f"not skipped: {attempt} calls after {ended}")


def check(search: Search, state: State) -> None:
    """In every state."""
    play, world = state.play, state.world
    if len(world.sent) > 1:
        keys = {(attempt[0], key) for attempt, key in world.sent}
        if len(keys) != len({name for name, _ in keys}):
            raise Violation(f"two keys: {sorted(keys)}")
    statuses = _statuses(play)
    if not NAMES.issuperset(statuses.values()) or play["status"] not in PLAYS:
        raise Violation(f"no name: {play['status']} with {statuses}")
    if play["status"] not in LIVE_PLAYS:
        search.endings.add((play["status"], *statuses.values()))
        _check_ending(search, play, world)
    elif "due_at" not in play and "until" not in play and not search.rules.blind_sweep:
        raise Violation(f"no head: {statuses}")


def check_step(before: State, after: State) -> None:
    """From one state to the next: what has ended stays as it is, and no fence goes down."""
    if before.play is after.play or before.world.seen_by_sweep:  # that of a blind sweep leads anywhere
        return
    if before.play["status"] not in LIVE_PLAYS and after.play["status"] != before.play["status"]:
        raise Violation(f"goes on: the play was {before.play['status']}, and is {after.play['status']}")
    for name, was in before.play["steps"].items():
        step = after.play["steps"][name]
        if step is not was and was["status"] in TERMINAL and step["status"] != was["status"]:
            raise Violation(f"goes on: {name} was {was['status']}, and is {step['status']}")
        if step.get("n", 0) < was.get("n", 0):
            raise Violation(f"no fence: {name} was attempt {was['n']}, and is {step.get('n', 0)}")


def _check_ending(search: Search, play: Play, world: World) -> None:
    statuses = _statuses(play)
    if not set(statuses.values()) <= TERMINAL:
        raise Violation(f"over too early: {play['status']} with {statuses}")
    bad = [
        name
        for name, status in statuses.items()
        if status == "cancelled" or (status in BROKEN and search.flow.step(name).on_error == "fail")
    ]
    if (play["status"] == "FAIL") != bool(bad):
        raise Violation(f"not consistent: {play['status']} with {statuses}")
    for name, step in play["steps"].items():
        if step["status"] == "done" and (name, step["landed"], "done") not in world.rows:
            raise Violation(f"not its own outcome: {name} is done by attempt {step['landed']}, which has no such row")
        if not _explained(search, statuses, name, step, world):
            raise Violation(f"without a reason: {name} is {step} in {statuses}")


def _explained(search: Search, statuses: dict[str, str], name: str, step: StepState, world: World) -> bool:
    """Whether there is a reason for a step's having ended as it has."""
    status = step["status"]
    landed = {result for other, n, result in world.rows if (other, n) == (name, step.get("landed"))}
    if status == "skipped":
        own = "failed" in landed and search.flow.step(name).on_error == "skip"
        return own or bool({each for other, each in statuses.items() if other != name} & BAD)
    if status == "outcome_unknown":
        once = search.effects[name] == "once" and search.flow.step(name).on_unknown == "fail"
        return once and (status in landed or step.get("lost", 0) > 0)
    if status == "dead_letter":
        return bool(step["lost"] >= LOST_LIMIT)
    if status == "cancelled":
        return world.acknowledged is not None or any(name == stopped for stopped, _ in world.stopped)
    return status in landed


def _group(flow: Flow, name: str) -> int:
    return next(index for index, group in enumerate(flow.groups) if name in group)


def _statuses(play: Play) -> dict[str, str]:
    return {name: step["status"] for name, step in play["steps"].items()}
