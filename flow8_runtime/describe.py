"""A play as answers show it: `{play_id, status, seconds, steps: [...]}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flow8_runtime import notation
from flow8_runtime.definition import Flow, Step
from flow8_runtime.documents import Play, StepState


def describe(play: Play, flow: Flow, outputs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The play with its steps in the order of the flow. `seconds` is None while it runs; a step that waits for a link
    says so in `waiting_for` ("link:<id>").

    Without `outputs` (`Ledger.outputs`), outputs that are too large to lie in the play are left out.
    """
    completed = play.get("completed_at")
    return {
        "play_id": str(play["_id"]),
        "status": play["status"],
        "seconds": None if completed is None else (completed - play["created_at"]).total_seconds(),
        "steps": [_step(step, play["steps"][step.name], outputs) for step in flow.steps],
    }


def _step(step: Step, state: StepState, outputs: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "name": step.name,
        "module_ref": step.module_ref,
        "status": state["status"],
        "attempts": state.get("n", 0),
        "output": _output(step.name, state, outputs),
        "error": state.get("error"),
        **({"waiting_for": state["waiting_for"]} if "waiting_for" in state else {}),
    }


def _output(name: str, state: StepState, outputs: Mapping[str, Any] | None) -> Any:
    if "output" in state:
        return notation.loads(state["output"])
    return outputs[name] if outputs is not None and "output_ref" in state else None
