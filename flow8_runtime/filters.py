"""A step's filters: the step runs where they hold, and is `filtered` where they do not.

A filter compares what an expression leads to with a value. A path that leads nowhere counts as null. Numbers and truth
values may stand as text on one side ("200" equals 200, "false" equals false), as flow8's own flows write them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from flow8_runtime import expressions
from flow8_runtime.scope import Scope


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition: `expression` with or without braces, and the `value` it must equal."""

    expression: str
    value: Any


@dataclass(frozen=True, slots=True)
class FilterGroup:
    """Conditions of which all (AND) or at least one (OR) must hold."""

    operator: Literal["AND", "OR"]
    filters: tuple[Filter, ...]


def passes(group: FilterGroup, scope: Scope) -> bool:
    """Whether the step runs. A group without filters passes. Raises `ValidationFailed` for what is no expression."""
    holds = [
        equal(
            expressions.lookup(each.expression, scope, path=f"filters.filters[{index}].expression"),
            expressions.resolve(each.value, scope, path=f"filters.filters[{index}].value"),
        )
        for index, each in enumerate(group.filters)
    ]
    return not holds or (all(holds) if group.operator == "AND" else any(holds))


def equal(left: Any, right: Any) -> bool:
    """Equality of JSON values; true and 1 are not equal, "1" and 1 are."""
    if isinstance(left, str) != isinstance(right, str):
        text, other = (left, right) if isinstance(left, str) else (right, left)
        return _reads_as(text, other)
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal_within(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal_within, left, right))
    return bool(left == right)


def equal_within(left: Any, right: Any) -> bool:
    """Equality inside of a list or object, where text stays text."""
    return isinstance(left, str) == isinstance(right, str) and equal(left, right)


def _reads_as(text: str, value: Any) -> bool:
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if isinstance(value, int | float):
        try:
            return len(text) <= 40 and float(text) == value
        except ValueError:
            return False
    return False
