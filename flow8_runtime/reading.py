"""Checks a flow definition and builds it: every fault is collected with its path before any is raised.

Paths use the author's own spelling. Messages name keys and never echo values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from flow8_core.errors import ValidationFailed
from flow8_runtime import adapter, expressions, notation
from flow8_runtime.adapter import Spelled
from flow8_runtime.definition import DEFAULT_QUEUE, DEFAULT_TIMEOUT_S, Flow, RetryPolicy, Step
from flow8_runtime.filters import Filter, FilterGroup

STEP_LIMIT = 200
FILTER_LIMIT = 50
TIMEOUT_LIMIT_S = 3600.0
DEFER_LIMIT_MS = 30 * 24 * 3600 * 1000
DELAY_LIMIT_MS = 24 * 3600 * 1000
RETRY_LIMIT = 100
RETRIES_UNSAID = 3  # flow8's example; holds where a `retry` is written without a count
DEFAULT_RETRY = RetryPolicy()

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_QUEUE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MODULE_REF = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*(?:@[1-9][0-9]{0,5})?")
_ORDERS = (-1_000_000, 1_000_000)
_FLOW_KEYS = ("name", "steps", "description")
_STEP_KEYS = (
    "name", "module_ref", "order", "input_mapping", "component_config_ids", "filters", "timeout", "retry",
    "on_error", "on_unknown", "defer_after_ms", "queue", "description",
)  # fmt: skip
_RETRY_KEYS = ("max_retries", "initial_delay_ms", "max_delay_ms", "backoff_multiplier", "jitter_fraction")

N = TypeVar("N", int, float)


class FlowReader:
    """Reads one definition; make one for each. `previous`: as in `Flow.parse`; None takes any name as known."""

    def __init__(self, previous: Sequence[str] | None = ()) -> None:
        self._previous = None if previous is None else frozenset(previous)
        self._problems: list[tuple[str, str]] = []

    def flow(self, document: Any) -> Flow:
        """The flow. Raises `ValidationFailed` with all problems at once."""
        faults = notation.faults(document)
        if faults:
            raise ValidationFailed.from_problems(faults)
        given = self._object(document, "$", adapter.FLOW, _FLOW_KEYS)
        if given is None:
            raise ValidationFailed.from_problems(self._problems)
        self._text(given, "description", "")
        name = self._text(given, "name", "", required=True, most=200)
        steps = self._steps(given)
        if self._problems:
            raise ValidationFailed.from_problems(self._problems)
        return Flow(name, tuple(steps))

    def _steps(self, flow: Spelled) -> list[Step]:
        word = flow.written("steps")
        items = flow.values.get("steps")
        if not isinstance(items, list) or not items:
            self._problem(word, "must be a list of at least one step")
            return []
        if len(items) > STEP_LIMIT:
            self._problem(word, f"has more than {STEP_LIMIT} steps")
            return []
        read = [_StepReader(self._problems, f"{word}[{index}]", index).step(item) for index, item in enumerate(items)]
        self._check_orders(items, read)
        steps = [step for step in read if step is not None]
        self._check_names(read, word)
        if len(steps) == len(items):
            self._check_references(steps, items, word)
        return steps

    def _check_orders(self, items: list[Any], steps: Sequence[Step | None]) -> None:
        """An order for some steps leaves open where the others stand."""
        given = ["order" in item for item in items if isinstance(item, dict)]
        if any(given) and not all(given) and len(steps) == len(given):
            missing = given.index(False)
            self._problem(f"steps[{missing}].order", "is missing; give every step an order, or none")

    def _check_names(self, steps: Sequence[Step | None], word: str) -> None:
        seen: dict[str, int] = {}
        for index, step in enumerate(steps):
            if step is None:
                continue
            if step.name in seen:
                self._problem(f"{word}[{index}].name", f"is also the name of {word}[{seen[step.name]}]")
            seen.setdefault(step.name, index)

    def _check_references(self, steps: Sequence[Step], items: Sequence[Any], word: str) -> None:
        orders = {step.name: step.order for step in steps}
        for index, step in enumerate(steps):
            spelled = adapter.respell(items[index], adapter.STEP)
            for what, value in _texts(step):
                path = f"{word}[{index}].{spelled.written(what)}"
                for name, where in sorted(self._references(value, path)):
                    self._check_reference(name, where, step, orders)

    def _references(self, value: Any, path: str) -> set[tuple[str, str]]:
        try:
            return expressions.references(value, path=path)
        except ValidationFailed as error:
            self._problems += error.problems
            return set()

    def _check_reference(self, name: str, path: str, step: Step, orders: Mapping[str, int]) -> None:
        if name == expressions.ARGS or (name not in orders and (self._previous is None or name in self._previous)):
            return
        if name not in orders:
            self._problem(path, f"names a step {name} that the flow does not have")
        elif name == step.name:
            self._problem(path, "names its own step, whose output is not there yet")
        elif orders[name] >= step.order:
            self._problem(path, f"names step {name}, which does not run before this one")

    def _object(self, value: Any, path: str, names: Mapping[str, str], keys: Sequence[str]) -> Spelled | None:
        return _object(self._problems, value, path, names, keys)

    def _text(self, given: Spelled, key: str, path: str, *, required: bool = False, most: int = 10_000) -> str:
        return _text(self._problems, given, key, path, required=required, most=most)

    def _problem(self, path: str, message: str) -> None:
        self._problems.append((path, message))


class _StepReader:
    """Reads one step."""

    def __init__(self, problems: list[tuple[str, str]], path: str, index: int) -> None:
        self._problems = problems
        self._path = path
        self._index = index

    def step(self, document: Any) -> Step | None:
        """The step, or None where it has no name or module to speak of; problems are noted."""
        before = len(self._problems)
        given = _object(self._problems, document, self._path, adapter.STEP, _STEP_KEYS)
        if given is None:
            return None
        _text(self._problems, given, "description", self._path)
        mapping, link_id = self._input_mapping(given)
        step = Step(
            name=self._name(given),
            module_ref=self._module_ref(given),
            order=self._number(given, "order", self._path, self._index + 1, _ORDERS),
            input_mapping=mapping,
            link_id=link_id,
            component_config_ids=self._component_ids(given),
            filters=self._filters(given),
            timeout_s=self._timeout(given),
            retry=self._retry(given),
            on_error=self._choice(given, "on_error", ("fail", "continue", "skip")),
            on_unknown=self._choice(given, "on_unknown", ("fail", "retry")),
            defer_after_ms=self._number(given, "defer_after_ms", self._path, 0, (0, DEFER_LIMIT_MS)),
            queue=self._queue(given),
        )
        return step if len(self._problems) == before else None

    def _name(self, given: Spelled) -> str:
        name = _text(self._problems, given, "name", self._path, required=True)
        if name and not _NAME.fullmatch(name):
            self._problem(given, "name", "must be 1 to 64 letters, digits, hyphens or underscores")
        elif name == expressions.ARGS:
            self._problem(given, "name", "must not be args: expressions mean the play's arguments by it")
        return name

    def _module_ref(self, given: Spelled) -> str:
        ref = _text(self._problems, given, "module_ref", self._path, required=True)
        if ref and (len(ref) > 100 or not _MODULE_REF.fullmatch(ref)):
            self._problem(given, "module_ref", "must read like slack-message or slack-message@1")
        return ref

    def _input_mapping(self, given: Spelled) -> tuple[dict[str, Any], str | None]:
        value = given.values.get("input_mapping", {})
        if not isinstance(value, dict):
            self._problem(given, "input_mapping", "must be an object")
            return {}, None
        link_id = value.get("link_id")
        if link_id is not None and (not isinstance(link_id, str) or not 1 <= len(link_id) <= 512):
            self._problem(given, "input_mapping", "must be a link's id, as text", below=".link_id")
            link_id = None
        return {key: item for key, item in value.items() if key != "link_id"}, link_id

    def _component_ids(self, given: Spelled) -> dict[str, str]:
        value = given.values.get("component_config_ids") or {}
        if not isinstance(value, dict):
            self._problem(given, "component_config_ids", "must be an object of component ids by kind")
            return {}
        for kind, item in value.items():
            if not isinstance(item, str) or not 1 <= len(item) <= 512:
                self._problem(given, "component_config_ids", "must be a component's id, as text", below=f".{kind[:64]}")
        return value

    def _filters(self, given: Spelled) -> FilterGroup | None:
        value = given.values.get("filters")
        if value is None:
            return None
        path = f"{self._path}.filters"
        group = _object(self._problems, value, path, {}, ("operator", "filters"))
        if group is None:
            return None
        operator = group.values.get("operator", "AND")
        if operator not in ("AND", "OR"):
            self._problems.append((f"{path}.operator", "must be AND or OR"))
            operator = "AND"
        items = group.values.get("filters")
        if not isinstance(items, list) or len(items) > FILTER_LIMIT:
            self._problems.append((f"{path}.filters", f"must be a list of at most {FILTER_LIMIT} filters"))
            items = []
        filters = [self._filter(item, f"{path}.filters[{index}]") for index, item in enumerate(items)]
        return FilterGroup(operator, tuple(each for each in filters if each is not None))

    def _filter(self, value: Any, path: str) -> Filter | None:
        if isinstance(value, dict):
            value = adapter.without_equals(value)
        given = _object(self._problems, value, path, adapter.FILTER, ("expression", "value"))
        if given is None:
            return None
        expression = _text(self._problems, given, "expression", path, required=True)
        if expression and not _is_expression(expression):
            self._problems.append(
                (f"{path}.{given.written('expression')}", "must be {{ $prev.<step>.<path> }}; there is no CEL")
            )
            return None
        if "value" not in given.values:
            self._problems.append((f"{path}.value", "is missing"))
        return Filter(expression, given.values.get("value"))

    def _timeout(self, given: Spelled) -> float:
        return self._number(given, "timeout", self._path, DEFAULT_TIMEOUT_S, (0.001, TIMEOUT_LIMIT_S))

    def _retry(self, given: Spelled) -> RetryPolicy:
        value = given.values.get("retry")
        if value is None:
            return DEFAULT_RETRY
        path = f"{self._path}.retry"
        retry = _object(self._problems, value, path, adapter.RETRY, _RETRY_KEYS)
        if retry is None:
            return DEFAULT_RETRY
        fraction = {**retry.values, "jitter_fraction": adapter.jitter(retry.values.get("jitter_fraction", 0.2))}
        spelled = Spelled(fraction, retry.spelling, ())
        delays = (0, DELAY_LIMIT_MS)
        longest = self._number(spelled, "max_delay_ms", path, 0, delays)
        multiplier = self._number(spelled, "backoff_multiplier", path, 0.0, (0.0, 100.0))
        return RetryPolicy(
            max_retries=self._number(spelled, "max_retries", path, RETRIES_UNSAID, (0, RETRY_LIMIT)),
            initial_delay_ms=self._number(spelled, "initial_delay_ms", path, DEFAULT_RETRY.initial_delay_ms, delays),
            max_delay_ms=longest or DEFAULT_RETRY.max_delay_ms,  # 0 is how an engine in Go says "not set"
            backoff_multiplier=multiplier or DEFAULT_RETRY.backoff_multiplier,
            jitter_fraction=self._number(spelled, "jitter_fraction", path, 0.2, (0.0, 1.0)),
        )

    def _queue(self, given: Spelled) -> str:
        queue = given.values.get("queue", DEFAULT_QUEUE)
        if not isinstance(queue, str) or not _QUEUE.fullmatch(queue):
            self._problem(given, "queue", "must be 1 to 64 letters, digits, dots, hyphens or underscores")
            return DEFAULT_QUEUE
        return queue

    def _choice(self, given: Spelled, key: str, choices: tuple[str, ...]) -> Any:
        value = given.values.get(key, choices[0])
        if value not in choices:
            self._problem(given, key, f"must be {', '.join(choices[:-1])} or {choices[-1]}")
            return choices[0]
        return value

    def _number(self, given: Spelled, key: str, path: str, default: N, limits: tuple[N, N]) -> N:
        value = given.values.get(key, default)
        kinds = (int, float) if isinstance(default, float) else int
        if isinstance(value, bool) or not isinstance(value, kinds) or not limits[0] <= value <= limits[1]:
            what = "a number" if isinstance(default, float) else "a whole number"
            self._problems.append((f"{path}.{given.written(key)}", f"must be {what} from {limits[0]} to {limits[1]}"))
            return default
        return type(default)(value)

    def _problem(self, given: Spelled, key: str, message: str, *, below: str = "") -> None:
        self._problems.append((f"{self._path}.{given.written(key)}{below}", message))


def _object(
    problems: list[tuple[str, str]], value: Any, path: str, names: Mapping[str, str], keys: Sequence[str]
) -> Spelled | None:
    if not isinstance(value, dict):
        problems.append((path, "must be an object"))
        return None
    spelled = adapter.respell(value, names)
    top = "" if path == "$" else path
    problems += [
        (_below(top, key), f"says again what {spelled.written(names.get(key, key))} says") for key in spelled.twice
    ]
    problems += [
        (_below(top, written), "is not known here") for key, written in spelled.spelling.items() if key not in keys
    ]
    return spelled


def _below(path: str, key: str) -> str:
    return notation.member(path, key).removeprefix(".")


def _text(
    problems: list[tuple[str, str]], given: Spelled, key: str, path: str, *, required: bool = False, most: int = 10_000
) -> str:
    value = given.values.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        what = "is missing" if value is None else f"must be text of 1 to {most} characters"
        problems.append((_below(path, given.written(key)), what))
        return ""
    return value


def _is_expression(text: str) -> bool:
    return text.strip().startswith(("{{", "$prev."))


def _texts(step: Step) -> list[tuple[str, Any]]:
    """What of a step may hold expressions, by the key in which it stands."""
    mapping = dict(step.input_mapping) | ({"link_id": step.link_id} if step.link_id else {})
    found: list[tuple[str, Any]] = [
        ("input_mapping", mapping),
        ("component_config_ids", dict(step.component_config_ids)),
    ]
    if step.filters is not None:
        braced = [
            {"expression": "{{" + expressions.bare(each.expression) + "}}", "value": each.value}
            for each in step.filters.filters
        ]
        found.append(("filters", {"filters": braced}))
    return found
