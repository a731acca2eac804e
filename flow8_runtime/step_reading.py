"""Checks one step of a flow definition, and builds it."""

from __future__ import annotations

import re
from typing import Any

from flow8_runtime import adapter, expressions
from flow8_runtime.adapter import Spelled
from flow8_runtime.definition import DEFAULT_QUEUE, DEFAULT_TIMEOUT_S, RetryPolicy, Step
from flow8_runtime.filters import Filter, FilterGroup
from flow8_runtime.problems import Problems, below

FILTER_LIMIT = 50
TIMEOUTS_S = (0.001, 3600.0)
ORDERS = (-1_000_000, 1_000_000)
DEFERS_MS = (0, 30 * 24 * 3600 * 1000)
DELAYS_MS = (0, 24 * 3600 * 1000)
RETRIES = (0, 100)
RETRIES_UNSAID = 3  # flow8's example; holds where a `retry` is written without a count
DEFAULT_RETRY = RetryPolicy()
PRIORITIES = ("normal", "high", "low")  # the default first

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_QUEUE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MODULE_REF = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*(?:@[1-9][0-9]{0,5})?")
_KEYS = (
    "name", "module_ref", "order", "input_mapping", "component_config_ids", "filters", "timeout", "retry",
    "on_error", "on_unknown", "defer_after_ms", "queue", "priority", "description",
)  # fmt: skip
_RETRY_KEYS = ("max_retries", "initial_delay_ms", "max_delay_ms", "backoff_multiplier", "jitter_fraction")


class StepReader:
    """Reads the step that stands at `path`, `index` steps from the first; `priority` is the flow's."""

    def __init__(self, problems: Problems, path: str, index: int, *, priority: str = PRIORITIES[0]) -> None:
        self._problems = problems
        self._path = path
        self._index = index
        self._priorities = (priority, *(word for word in PRIORITIES if word != priority))
        self.placed = False  # whether name and order are known

    def step(self, document: Any) -> Step | None:
        """The step, with defaults for what is wrong in it, which is noted; None where it is no object."""
        given = self._problems.object(document, self._path, adapter.STEP, _KEYS)
        if given is None:
            return None
        if "description" in given.values:
            self._problems.text(given, "description", self._path, most=10_000)
        before = len(self._problems.found)
        name = self._name(given)
        order = self._problems.number(given, "order", self._path, self._index + 1, ORDERS)
        self.placed = len(self._problems.found) == before
        mapping, link_id = self._input_mapping(given)
        return Step(
            name=name,
            module_ref=self._module_ref(given),
            order=order,
            input_mapping=mapping,
            link_id=link_id,
            component_config_ids=self._component_ids(given),
            filters=self._filters(given),
            timeout_s=self._problems.number(given, "timeout", self._path, DEFAULT_TIMEOUT_S, TIMEOUTS_S),
            retry=self._retry(given),
            on_error=self._problems.choice(given, "on_error", self._path, ("fail", "continue", "skip")),
            on_unknown=self._problems.choice(given, "on_unknown", self._path, ("fail", "retry")),
            defer_after_ms=self._problems.number(given, "defer_after_ms", self._path, 0, DEFERS_MS),
            queue=self._queue(given),
            priority=self._problems.choice(given, "priority", self._path, self._priorities),
        )

    def _name(self, given: Spelled) -> str:
        name = self._problems.text(given, "name", self._path)
        if name and not _NAME.fullmatch(name):
            self._problem(given, "name", "must be 1 to 64 letters, digits, hyphens or underscores")
        elif name == expressions.ARGS:
            self._problem(given, "name", "must not be args: expressions mean the play's arguments by it")
        return name

    def _module_ref(self, given: Spelled) -> str:
        ref = self._problems.text(given, "module_ref", self._path, most=100)
        if ref and not _MODULE_REF.fullmatch(ref):
            self._problem(given, "module_ref", "must read like slack-message or slack-message@1")
        return ref

    def _input_mapping(self, given: Spelled) -> tuple[dict[str, Any], str | None]:
        value = given.values.get("input_mapping", {})
        if not isinstance(value, dict):
            self._problem(given, "input_mapping", "must be an object")
            return {}, None
        link_id = value.get("link_id")
        if link_id is not None and not _is_id(link_id):
            self._problem(given, "input_mapping", "must be a link's id, as text", member="link_id")
            link_id = None
        return {key: item for key, item in value.items() if key != "link_id"}, link_id

    def _component_ids(self, given: Spelled) -> dict[str, str]:
        value = given.values.get("component_config_ids")
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._problem(given, "component_config_ids", "must be an object of component ids by kind")
            return {}
        for kind, item in value.items():
            if not _is_id(item):
                self._problem(given, "component_config_ids", "must be a component's id, as text", member=kind)
        return value

    def _filters(self, given: Spelled) -> FilterGroup | None:
        value = given.values.get("filters")
        path = below(self._path, given.written("filters"))
        group = None if value is None else self._problems.object(value, path, {}, ("operator", "filters"))
        if group is None:
            return None
        operator = self._problems.choice(group, "operator", path, ("AND", "OR"))
        items = group.values.get("filters")
        if not isinstance(items, list) or len(items) > FILTER_LIMIT:
            self._problems.add(f"{path}.filters", f"must be a list of at most {FILTER_LIMIT} filters")
            items = []
        filters = [self._filter(item, f"{path}.filters[{index}]") for index, item in enumerate(items)]
        return FilterGroup(operator, tuple(each for each in filters if each is not None))

    def _filter(self, value: Any, path: str) -> Filter | None:
        if isinstance(value, dict):
            value = adapter.without_equals(value)
        given = self._problems.object(value, path, adapter.FILTER, ("expression", "value"))
        if given is None:
            return None
        expression = self._problems.text(given, "expression", path, most=expressions.EXPRESSION_LIMIT + 10)
        readable = expression.strip().startswith(("{{", "$prev."))
        if expression and not readable:
            self._problems.add(below(path, given.written("expression")), "must be {{ $prev.<step>.<path> }}, not CEL")
        if "value" not in given.values:
            self._problems.add(f"{path}.value", "is missing")
        return Filter(expression, given.values.get("value")) if readable else None

    def _retry(self, given: Spelled) -> RetryPolicy:
        value = given.values.get("retry")
        path = below(self._path, given.written("retry"))
        retry = None if value is None else self._problems.object(value, path, adapter.RETRY, _RETRY_KEYS)
        if retry is None:
            return DEFAULT_RETRY
        number = self._problems.number
        longest = number(retry, "max_delay_ms", path, 0, DELAYS_MS)
        multiplier = number(retry, "backoff_multiplier", path, 0.0, (0.0, 100.0))
        return RetryPolicy(
            max_retries=number(retry, "max_retries", path, RETRIES_UNSAID, RETRIES),
            initial_delay_ms=number(retry, "initial_delay_ms", path, DEFAULT_RETRY.initial_delay_ms, DELAYS_MS),
            max_delay_ms=longest or DEFAULT_RETRY.max_delay_ms,  # 0 is how an engine in Go says "not set"
            backoff_multiplier=multiplier or DEFAULT_RETRY.backoff_multiplier,
            jitter_fraction=number(
                adapter.with_fraction(retry), "jitter_fraction", path, DEFAULT_RETRY.jitter_fraction, (0.0, 1.0)
            ),
        )

    def _queue(self, given: Spelled) -> str:
        queue = given.values.get("queue", DEFAULT_QUEUE)
        if isinstance(queue, str) and _QUEUE.fullmatch(queue):
            return queue
        self._problem(given, "queue", "must be 1 to 64 letters, digits, dots, hyphens or underscores")
        return DEFAULT_QUEUE

    def _problem(self, given: Spelled, key: str, message: str, *, member: str | None = None) -> None:
        path = below(self._path, given.written(key))
        self._problems.add(path if member is None else below(path, member), message)


def _is_id(value: Any) -> bool:
    """Text, perhaps an expression; a mapping here would be an operator in a query."""
    return isinstance(value, str) and 1 <= len(value) <= 600
