"""A play's heads: what queries find it by, recomputed at every write from the steps of its current group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bson import ObjectId

from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play
from flow8_runtime.states import LEASED, LIVE_PLAYS, READY, ROTATE_AFTER

HEADS = ("due_at", "until", "queue", "lane", "rank", "waiting_for", "rotate_at", "owners")
SEVERAL = "several"  # begins the head of a play that waits for more than one thing
OVER = ""  # the queue of a play that is over: a live one without a head is thereby found at once


def headed(play: Play, flow: Flow) -> Play:
    """The play with `rev` one up and its heads recomputed. `play` is this transition's own copy."""
    play["rev"] += 1
    drop(play, *HEADS)
    if play["status"] not in LIVE_PLAYS:
        play["queue"] = OVER
        return play
    steps = play["steps"]
    names = flow.groups[play["group"]]
    untils = [steps[name]["until"] for name in names if steps[name]["status"] in LEASED]
    if untils:
        play["until"] = min(untils)
        play["owners"] = sorted({steps[name]["owner"] for name in names if steps[name]["status"] in LEASED})
    waiting = {steps[name]["waiting_for"] for name in names if "waiting_for" in steps[name]}
    if waiting:
        play["waiting_for"] = _waiting_head(play["company_id"], waiting)
    due = [name for name in names if steps[name]["status"] in READY]
    if due:
        _set_due_heads(play, flow, due)
    return play


def waited_for(head: str) -> tuple[str, ...]:
    """What a play with this `waiting_for` waits for, each as its steps say it."""
    return tuple(head.split(" ")[1:]) if head.startswith(f"{SEVERAL}:") else (head,)


def several(company_id: ObjectId) -> dict[str, str]:
    """The condition on `waiting_for` of a company's plays that wait for more than one thing."""
    return {"$gte": f"{SEVERAL}:{company_id} ", "$lt": f"{SEVERAL}:{company_id}!"}


def _waiting_head(company_id: ObjectId, waiting: set[str]) -> str:
    """One text, and no list: an index over lists cannot be walked from each value to the next."""
    return min(waiting) if len(waiting) == 1 else " ".join([f"{SEVERAL}:{company_id}", *sorted(waiting)])


def _set_due_heads(play: Play, flow: Flow, due: list[str]) -> None:
    head = _head(play, due)
    lanes = {name: lane(play, flow, name) for name in due}
    play["due_at"] = play["steps"][head]["due_at"]
    play["queue"] = flow.by_name[head].queue
    play["lane"] = lanes[head]
    play["rank"] = 2 * min(flow.by_name[name].level for name in due) + (play["status"] == "NEW")
    others = [
        play["steps"][n]["due_at"] for n in due if lanes[n] != lanes[head] or flow.by_name[n].queue != play["queue"]
    ]
    if others:
        play["rotate_at"] = max(play["due_at"] + ROTATE_AFTER, min(others))


def _head(play: Play, names: Iterable[str]) -> str:
    """The step that has been due longest."""
    steps = play["steps"]
    return min((name for name in names if steps[name]["status"] in READY), key=lambda name: steps[name]["due_at"])


def lane(play: Play, flow: Flow, name: str) -> str:
    """What is slow or throttled together: a company's credential."""
    credential = play["steps"][name].get("credential")
    return f"{play['company_id']}:{credential}" if credential else first_lane(play, flow, name)


def first_lane(play: Play, flow: Flow, name: str) -> str:
    """The lane until the credential is known: a user's calls of a module, which mostly get the same one."""
    step = flow.by_name[name]
    own = step.credential_hint or f"{play['user_id']}:{step.module_ref}"
    return f"{play['company_id']}:{own}"


def credential_of(lane: str) -> str:
    """The credential that a lane is named after, as throttles know it; something that none has, before it is known."""
    return lane.partition(":")[2]


def drop(document: dict[str, Any], *keys: str) -> None:
    """Remove keys, where they are there."""
    for key in keys:
        document.pop(key, None)
