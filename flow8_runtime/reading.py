"""Checks a flow definition as a whole, and builds it: every fault is collected with its path before any is raised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flow8_core.errors import ValidationFailed
from flow8_runtime import adapter, expressions, notation
from flow8_runtime.adapter import Spelled
from flow8_runtime.definition import Flow, Step
from flow8_runtime.problems import Problems, below
from flow8_runtime.step_reading import PRIORITIES, StepReader

STEP_LIMIT = 200
_KEYS = ("name", "steps", "priority", "description")


@dataclass(frozen=True)
class Placed:
    """A step with its place in the definition."""

    step: Step
    path: str
    spelled: Spelled

    def at(self, key: str) -> str:
        """The path of a member, as its author spelled it."""
        return below(self.path, self.spelled.written(key))


@dataclass(frozen=True)
class Draft:
    """A definition as far as it can be read: its steps, with defaults for what is wrong in them, and all problems as
    (path, message)."""

    name: str
    steps: Sequence[Placed]
    problems: Sequence[tuple[str, str]]


class FlowReader:
    """Reads one definition; make one for each. `previous`: as in `Flow.parse`; None takes any name as known."""

    def __init__(self, previous: Sequence[str] | None = ()) -> None:
        self._previous = None if previous is None else frozenset(previous)
        self._problems = Problems()
        self._word = "steps"

    def flow(self, document: Any) -> Flow:
        """The flow. Raises `ValidationFailed` with all problems at once."""
        draft = self.draft(document)
        self._problems.check()
        return Flow(draft.name, tuple(placed.step for placed in draft.steps))

    def draft(self, document: Any) -> Draft:
        """What of a definition can be read, and everything that is wrong with it."""
        found = self._problems.found
        found += notation.faults(document)
        # what is no JSON, or beyond all measure, is not looked at further
        given = None if found else self._problems.object(document, "", adapter.FLOW, _KEYS)
        if given is None:
            return Draft("", (), found)
        if "description" in given.values:
            self._problems.text(given, "description", "", most=10_000)
        name = self._problems.text(given, "name", "")
        self._word = given.written("steps")
        priority = self._problems.choice(given, "priority", "", PRIORITIES)
        return Draft(name, self._steps(given.values.get("steps"), priority), found)

    def _steps(self, items: Any, priority: str) -> list[Placed]:
        if not isinstance(items, list) or not 1 <= len(items) <= STEP_LIMIT:
            self._problems.add(self._word, f"must be a list of 1 to {STEP_LIMIT} steps")
            return []
        readers = [StepReader(self._problems, self._at(index), index, priority=priority) for index in range(len(items))]
        read = [reader.step(item) for reader, item in zip(readers, items, strict=True)]
        placed = [
            Placed(step, self._at(index), adapter.respell(items[index], adapter.STEP))
            for index, step in enumerate(read)
            if step is not None
        ]
        self._check_orders(items)
        self._check_names(read)
        self._check_references(placed, certain=all(reader.placed for reader in readers))
        return placed

    def _check_orders(self, items: Sequence[Any]) -> None:
        """An order for some steps leaves open where the others stand."""
        without = [index for index, item in enumerate(items) if isinstance(item, dict) and "order" not in item]
        if without and any(isinstance(item, dict) and "order" in item for item in items):
            self._problems.add(f"{self._at(without[0])}.order", "is missing; give every step an order, or none")

    def _check_names(self, steps: Sequence[Step | None]) -> None:
        seen: dict[str, int] = {}
        for index, step in enumerate(steps):
            if step is not None and step.name and seen.setdefault(step.name, index) != index:
                self._problems.add(f"{self._at(index)}.name", f"is also the name of {self._at(seen[step.name])}")

    def _check_references(self, steps: Sequence[Placed], *, certain: bool) -> None:
        """What expressions name is judged only where it is certain which steps there are, and in which order."""
        orders = {placed.step.name: placed.step.order for placed in steps}
        for placed in steps:
            for key, value in _with_expressions(placed.step):
                for name, path in self._references(value, placed.at(key)):
                    if certain:
                        self._check_reference(name, path, placed.step, orders)

    def _references(self, value: Any, path: str) -> list[tuple[str, str]]:
        try:
            return sorted(expressions.references(value, path=path))
        except ValidationFailed as error:
            self._problems.found += error.problems
            return []

    def _check_reference(self, name: str, path: str, step: Step, orders: Mapping[str, int]) -> None:
        if name == expressions.ARGS or (name not in orders and (self._previous is None or name in self._previous)):
            return
        if name not in orders:
            self._problems.add(path, f"names a step {name} that the flow does not have")
        elif name == step.name:
            self._problems.add(path, "names its own step, whose output is not there yet")
        elif orders[name] >= step.order:
            self._problems.add(path, f"names step {name}, which does not run before this one")

    def _at(self, index: int) -> str:
        return f"{self._word}[{index}]"


def _with_expressions(step: Step) -> Iterator[tuple[str, Any]]:
    """What of a step may hold expressions, by the key in which it stands."""
    yield "input_mapping", {**step.input_mapping, "link_id": step.link_id}
    yield "component_config_ids", dict(step.component_config_ids)
    if step.filters is not None:
        filters = [
            {"expression": "{{" + expressions.bare(each.expression) + "}}", "value": each.value}
            for each in step.filters.filters
        ]
        yield "filters", {"filters": filters}
