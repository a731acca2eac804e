"""What the steps of a play have given, as expressions and answers see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flow8_core.errors import InternalError
from flow8_core.store import Store
from flow8_runtime import notation
from flow8_runtime.documents import STEP_RUNS, Play
from flow8_runtime.states import BROKEN, SUCCEEDED

FLOW8_STATES = {
    "done": "DONE",
    "skipped": "SKIP",
    "filtered": "FILTERED",
    "failed": "FAIL",
    "outcome_unknown": "FAIL",
    "dead_letter": "FAIL",
    "cancelled": "FAIL",
}


class Outputs(Mapping[str, Any]):
    """Outputs by step name: of the play's steps that ended well, and those that it was given from outside. Each is
    read when it is first asked for; a step that was skipped or filtered has an empty one."""

    def __init__(self, store: Store, play: Play) -> None:
        self._store = store
        self._steps = play["steps"]
        self._previous = play.get("previous")
        self._read: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._read:
            self._read[name] = self._output(name)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        yield from (name for name, state in self._steps.items() if state["status"] in SUCCEEDED)
        yield from (name for name in self._outside() if name not in self._steps)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _output(self, name: str) -> Any:
        state = self._steps.get(name)
        if state is None:
            return self._outside()[name]
        if state["status"] not in SUCCEEDED:
            raise KeyError(name)
        if "output_ref" in state:
            row = self._store.get(STEP_RUNS, state["output_ref"])
            if row is None:
                raise InternalError("An output is not in the store any more; has somebody removed it?", step=name)
            return notation.loads(row["output"])
        return notation.loads(state["output"]) if "output" in state else {}

    def _outside(self) -> dict[str, Any]:
        if self._previous is None:
            return {}
        if not isinstance(self._previous, dict):
            self._previous = notation.loads(self._previous)
        return self._previous


def states(play: Play) -> dict[str, str]:
    """How the play's steps ended, in flow8's words."""
    return {
        name: FLOW8_STATES[state["status"]]
        for name, state in play["steps"].items()
        if state["status"] in SUCCEEDED or state["status"] in BROKEN
    }
