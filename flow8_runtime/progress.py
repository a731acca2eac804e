"""What the end of a step means for its play: the next group, the rest that is skipped, the play's own end.

All of these write to documents that their caller has just copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play, StepState
from flow8_runtime.heads import drop, headed
from flow8_runtime.states import BROKEN, LIVE_LIMIT, SUCCEEDED, TERMINAL


def end(state: StepState, status: str, now: datetime, *, error: Mapping[str, Any] | None = None) -> None:
    """Let a step end in this status."""
    state.update(status=status, finished_at=now)
    if error is not None:
        state["error"] = dict(error)
    else:
        drop(state, "error")


def gone_on(play: Play, flow: Flow, name: str, now: datetime) -> Play:
    """After a step has changed: what its end means for the rest of the play."""
    state = play["steps"][name]
    status = state["status"]
    if status not in TERMINAL:
        return headed(play, flow)
    on_error = flow.by_name[name].on_error
    if status == "failed" and on_error == "skip":
        state["status"] = "skipped"
    elif status in BROKEN and on_error == "fail":
        _skip_the_rest(play, now)
    elif status == "cancelled" and on_error == "fail" and "cancelled_at" not in play:
        _skip_after(play, flow, name, now)
    return settled(play, flow, now)


def _skip_the_rest(play: Play, now: datetime) -> None:
    """`play["steps"]` is this transition's own copy."""
    _skip(play, [name for name, step in play["steps"].items() if step["status"] == "waiting"], now)


def _skip_after(play: Play, flow: Flow, name: str, now: datetime) -> None:
    """As `_skip_the_rest`, but of later groups alone: a step can be cancelled long before its turn."""
    order = flow.by_name[name].order
    waiting = [name for name, step in play["steps"].items() if step["status"] == "waiting"]
    _skip(play, [name for name in waiting if flow.by_name[name].order > order], now)


def _skip(play: Play, names: list[str], now: datetime) -> None:
    for name in names:
        play["steps"][name] = {"status": "skipped", "finished_at": now}


def settled(play: Play, flow: Flow, now: datetime) -> Play:
    """Queue what may run now, go on to the next group where this one is over, end the play after the last.

    `play` and its `steps` are this transition's own copies.
    """
    steps = play["steps"]
    groups = flow.groups
    while True:
        names = groups[play["group"]]
        running = sum(steps[name]["status"] not in TERMINAL and steps[name]["status"] != "waiting" for name in names)
        for name in names:
            if running < LIVE_LIMIT and steps[name]["status"] == "waiting":
                steps[name] = {"status": "queued", "due_at": _first_due(play, flow, name, now)}
                running += 1
        if running:
            return headed(play, flow)
        if play["group"] + 1 == len(groups):
            play.update(status=_verdict(play, flow), completed_at=now)
            return headed(play, flow)
        play["group"] += 1


def _verdict(play: Play, flow: Flow) -> str:
    for name, step in play["steps"].items():
        status = step["status"]
        if status not in SUCCEEDED and not (status in BROKEN and flow.by_name[name].on_error != "fail"):
            return "FAIL"
    return "DONE"


def _first_due(play: Play, flow: Flow, name: str, now: datetime) -> datetime:
    defer = flow.by_name[name].defer_after_ms
    return now + timedelta(milliseconds=defer) if defer else inherited(play, now)


def inherited(play: Play, now: datetime) -> datetime:
    """A begun play stands where it stood: with a due time of its own each step would queue up behind all others."""
    created_at: datetime = play["created_at"]
    return min(created_at, now)
