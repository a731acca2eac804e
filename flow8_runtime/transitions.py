"""The state machine of a play, as pure functions: a play document and a flow in, a new play document out.

    waiting -> queued -> claimed -> calling -> done | failed | skipped | filtered | outcome_unknown
                 ^          |          |
                 +----------+--- lease end (at the third: dead_letter)
                 +-- parked <----------+--- 429, retry, a link that must be reconnected

`cancelled` is reached from every state but `calling` and the terminal ones. Each function raises `Stale` where its
condition does not hold (any more), leaves its argument as it is and copies only what it changes, so that the caller
writes the result by one compare-and-set on `rev`. Moments are the store's.

What holds them together: `n` goes up with each claim and is the fence; `open` lists the `calling` marks whose outcome
nobody has heard; `landed` is the n whose outcome counts. The members of a group run to their ends whatever becomes of
their neighbours; a failure under `on_error: fail` skips what has not been queued by then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

from flow8_core.errors import Cancelled, DeadLetter, OutcomeUnknown
from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play, StepState
from flow8_runtime.heads import drop, headed, lane
from flow8_runtime.progress import end, gone_on, inherited, settled
from flow8_runtime.states import (
    GRACE,
    INLINE_LIMIT,
    INLINE_TOTAL,
    LEASED,
    LINK_PARK,
    LIVE_PLAYS,
    LOST_LIMIT,
    ONCE,
    PARK_MAX,
    READY,
    TERMINAL,
    Result,
    Stale,
)


def begin(play: Play, flow: Flow, *, now: datetime) -> Play:
    """A new play with its first group queued. `play` carries the identity (documents.py) and nothing of the machine."""
    new = {**play, "status": "NEW", "created_at": now, "group": 0, "rev": 0}
    new["steps"] = {step.name: {"status": "waiting"} for step in flow.steps}
    return settled(new, flow, now)


def claim(play: Play, flow: Flow, name: str, *, owner: str, now: datetime, until: datetime) -> Play:
    """Take a step that is due. It gets the next n."""
    step = play["steps"][name]
    if play["status"] not in LIVE_PLAYS or step["status"] not in READY or step["due_at"] > now:
        raise Stale
    new, state = _change(play, name)
    state.update(status="claimed", n=step.get("n", 0) + 1, owner=owner, until=until)
    state.setdefault("started_at", now)
    drop(state, "due_at", "waiting_for")
    if new["status"] == "NEW":
        new.update(status="RUN", started_at=now)
    return headed(new, flow)


def call(play: Play, flow: Flow, name: str, n: int, *, until: datetime, effect: str, credential: str | None) -> Play:
    """Mark a claimed step as about to be called. Repeating the mark is harmless."""
    step = play["steps"][name]
    if step["status"] not in LEASED or step["n"] != n:
        raise Stale
    new, state = _change(play, name)
    state.update(status="calling", until=until, effect=effect)
    if n not in step.get("open", ()):
        state["open"] = [*step.get("open", ()), n]
    if credential is not None:
        state["credential"] = credential
    return headed(new, flow)


def land(play: Play, flow: Flow, name: str, n: int, result: Result, *, now: datetime) -> Play:
    """Write down what attempt `n` came to, and go on with the play.

    It counts while the step is claimed or calling with this n, or queued again without a newer claim.
    """
    step = play["steps"][name]
    if not _may_land(step, n):
        raise Stale
    new, state = _change(play, name)
    state["landed"] = n
    if n in state.get("open", ()):
        state["open"] = [other for other in state["open"] if other != n]
    drop(state, "owner", "until", "due_at", "waiting_for", "effect")
    if result.credential is not None:
        state["credential"] = result.credential
    if result.status == "parked":
        _park(new, name, result, now)
    else:
        end(state, result.status, now, error=result.error)
        if result.output is not None:
            _keep_output(new, state, result.output, result.row)
    return gone_on(new, flow, name, now)


def lease_end(play: Play, flow: Flow, name: str, *, now: datetime, dead: bool = False) -> Play:
    """Take a step back whose lease is over, or whose owner is known to be dead.

    A ONCE call is given up only when a late answer has had its grace; with a dead owner there will be none.
    """
    step = play["steps"][name]
    if step["status"] not in LEASED or not (dead or step["until"] <= now):
        raise Stale
    doubtful = step["status"] == "calling" and step.get("effect", ONCE) == ONCE
    gives_up = doubtful and flow.step(name).on_unknown != "retry"
    if gives_up and not dead and step["until"] + GRACE > now:
        raise Stale
    new, state = _change(play, name)
    lost = state["lost"] = step.get("lost", 0) + 1
    drop(state, "owner", "until", "effect")
    if gives_up:
        end(state, "outcome_unknown", now, error=_error(OutcomeUnknown, UNHEARD, name))
    elif is_cancelled(play, name):
        end(state, "cancelled", now, error=_cancelled(play, name))
    elif lost >= LOST_LIMIT:
        end(state, "dead_letter", now, error=_error(DeadLetter, LOST, name))
    else:
        state.update(status="queued", due_at=inherited(play, now))
    return gone_on(new, flow, name, now)


def renew(play: Play, flow: Flow, name: str, n: int, *, until: datetime) -> Play:
    """Let the lease of attempt `n` last longer; it never gets shorter."""
    step = play["steps"][name]
    if step["status"] not in LEASED or step["n"] != n or step["until"] >= until:
        raise Stale
    new, state = _change(play, name)
    state["until"] = until
    return headed(new, flow)


def give_back(play: Play, flow: Flow, name: str, n: int, *, now: datetime, uncalled: bool = False) -> Play:
    """Return a claim that will not be used. `uncalled`: even where it is marked, for its holder knows that the mark was
    followed by no call; where a cancellation has named that mark, the step is cancelled now."""
    step = play["steps"][name]
    status = step["status"]
    marked = status == "calling" and uncalled
    if not (status == "claimed" or marked) or step["n"] != n:
        raise Stale
    new, state = _change(play, name)
    drop(state, "owner", "until", "effect")
    if marked:
        state["open"] = [other for other in state["open"] if other != n]
    if is_cancelled(play, name):
        end(state, "cancelled", now, error=_cancelled(play, name))
        return gone_on(new, flow, name, now)
    state.update(status="queued", due_at=inherited(play, now))
    return headed(new, flow)


def postpone(play: Play, flow: Flow, name: str, *, until: datetime) -> Play:
    """Let a step that is ready become due later: its credential was told to wait."""
    step = play["steps"][name]
    if step["status"] not in READY or step["due_at"] >= until:
        raise Stale
    new, state = _change(play, name)
    state["due_at"] = until
    return headed(new, flow)


def defer(play: Play, *, until: datetime) -> Play:
    """Let all that is ready become due later, without the flow: for a play whose definition cannot be read. Its heads
    are worked out again by whoever can."""
    steps = {
        name: {**state, "due_at": max(state["due_at"], until)} if state["status"] in READY else state
        for name, state in play["steps"].items()
    }
    new = {**play, "steps": steps, "due_at": until, "rev": play["rev"] + 1}
    drop(new, "rotate_at")
    return new


def make_due(play: Play, flow: Flow, name: str, *, now: datetime) -> Play:
    """Let a queued or parked step become due now."""
    step = play["steps"].get(name)
    if step is None or step["status"] not in READY or step["due_at"] <= now:
        raise Stale
    new, state = _change(play, name)
    state["due_at"] = now
    return headed(new, flow)


def release(play: Play, flow: Flow, waiting_for: str, *, now: datetime) -> Play:
    """Queue every step that waits for this (such as "link:<id>")."""
    names = [name for name in flow.groups[play["group"]] if play["steps"][name].get("waiting_for") == waiting_for]
    if not names:
        raise Stale
    new = play
    for name in names:
        new, state = _change(new, name)
        state.update(status="queued", due_at=now)
        del state["waiting_for"]
    return headed(new, flow)


def rotate(play: Play, flow: Flow, *, now: datetime) -> Play:
    """Send the lane at the head behind another one of this play that is due, for nobody takes what it has."""
    if play.get("rotate_at") is None or play["rotate_at"] > now:
        raise Stale
    new = {**play, "steps": dict(play["steps"])}
    for name in ready(play, flow, now=now, queues=(play["queue"],)):
        if lane(play, flow, name) == play["lane"]:
            new["steps"][name] = {**play["steps"][name], "due_at": now}
    return headed(new, flow)


def cancel(play: Play, flow: Flow, *, now: datetime) -> Play:
    """Cancel what has not called yet. What `open_calls` names of the new document may still leave, and nothing else."""
    if play["status"] not in LIVE_PLAYS or "cancelled_at" in play:
        raise Stale
    new = {**play, "cancelled_at": now, "steps": dict(play["steps"])}
    for name, step in play["steps"].items():
        if step["status"] != "calling" and step["status"] not in TERMINAL:
            state = new["steps"][name] = dict(step)
            drop(state, "owner", "until", "due_at", "waiting_for")
            end(state, "cancelled", now, error=_error(Cancelled, CANCELLED, name))
    return settled(new, flow, now)


def cancel_step(play: Play, flow: Flow, name: str, *, now: datetime) -> Play:
    """Cancel one step that has not called yet; one that is calling may still take effect, and is not called again.

    For its play it is as if it had failed: under `on_error: fail` what comes later is skipped.
    """
    step = play["steps"][name]
    if play["status"] not in LIVE_PLAYS or step["status"] in TERMINAL or is_cancelled(play, name):
        raise Stale
    new, state = _change(play, name)
    state["cancelled_at"] = now
    if step["status"] == "calling":
        return headed(new, flow)
    drop(state, "owner", "until", "due_at", "waiting_for")
    end(state, "cancelled", now, error=_error(Cancelled, STEP_CANCELLED, name))
    return gone_on(new, flow, name, now)


def is_cancelled(play: Play, name: str) -> bool:
    """Whether this step may not be called any more: its play was cancelled, or it was itself."""
    return "cancelled_at" in play or "cancelled_at" in play["steps"][name]


def recompute(play: Play, flow: Flow, *, now: datetime) -> Play:
    """The heads and the way on worked out anew: for a play that has no head although it is not over."""
    if play["status"] not in LIVE_PLAYS:
        raise Stale
    return settled({**play, "steps": dict(play["steps"])}, flow, now)


def ready(play: Play, flow: Flow, *, now: datetime, queues: Collection[str]) -> Iterable[str]:
    """The steps that may be claimed now: by priority, then the longest due first."""
    if play["status"] not in LIVE_PLAYS:
        return ()
    steps = play["steps"]
    names = [
        name
        for name in flow.groups[play["group"]]
        if steps[name]["status"] in READY and steps[name]["due_at"] <= now and flow.by_name[name].queue in queues
    ]
    if len(names) < 2:
        return names
    return sorted(names, key=lambda name: (flow.by_name[name].level, steps[name]["due_at"]))


def open_calls(play: Play) -> list[tuple[str, int]]:
    """The calls, as (step, n), that have begun and whose outcome nobody has heard."""
    return [(name, n) for name, step in play["steps"].items() for n in step.get("open", ())]


UNHEARD = (
    "The worker was lost while it called the service: it is not known whether the call took effect. Look there, then "
    "run the step again by hand, or set on_unknown: retry where happening twice does no harm."
)
LOST = f"The step was started {LOST_LIMIT} times and never heard of again; look at the worker's log for what ends it."
PARKED_OUT = f"The step was parked for {PARK_MAX // timedelta(hours=1)} hours. What it waited for last: "
STEP_CANCELLED = "The step was cancelled before it called its service."
CANCELLED = "The play was cancelled before this step called its service."


def _may_land(step: StepState, n: int) -> bool:
    if step.get("n") != n:
        return False
    return step["status"] in LEASED or (step["status"] == "queued" and step.get("landed") != n)


def _park(play: Play, name: str, result: Result, now: datetime) -> None:
    state = play["steps"][name]
    if is_cancelled(play, name):
        end(state, "cancelled", now, error=result.error)
        return
    parked_out = state.setdefault("parked_at", now) + PARK_MAX
    if now >= parked_out:
        error = dict(result.error or {})
        end(state, "failed", now, error={**error, "message": PARKED_OUT + str(error.get("message", "unknown"))})
        return
    due_at = result.due_at or (now + LINK_PARK)
    state.update(status="parked", due_at=min(max(due_at, now), parked_out))
    if result.error is not None:
        state["error"] = result.error
    if result.waiting_for is not None:
        state["waiting_for"] = result.waiting_for
    counter = "retries" if result.counts else "parks"
    state[counter] = state.get(counter, 0) + 1


def _keep_output(play: Play, state: StepState, output: str, row: str | None) -> None:
    inlined = play.get("inlined", 0) + len(output)
    if row is not None and (len(output) > INLINE_LIMIT or inlined > INLINE_TOTAL):
        state["output_ref"] = row
    else:
        state["output"] = output
        play["inlined"] = inlined


def _change(play: Play, name: str) -> tuple[Play, StepState]:
    """Copies of the play, of its table of steps, and of one step: what a transition may write to."""
    state = dict(play["steps"][name])
    return {**play, "steps": {**play["steps"], name: state}}, state


def _cancelled(play: Play, name: str) -> dict[str, Any]:
    return _error(Cancelled, CANCELLED if "cancelled_at" in play else STEP_CANCELLED, name)


def _error(kind: type[Cancelled | DeadLetter | OutcomeUnknown], message: str, step: str) -> dict[str, Any]:
    return kind(message, step=step).to_dict()
