"""Filters: checked once, then asked of any number of documents. And sorting, by the same order of values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson.objectid import ObjectId

from flow8_core.errors import ValidationFailed
from flow8_core.store.base import Filter, Sort
from flow8_core.store.dialect import keys
from flow8_core.store.dialect.paths import ARRAYS, MISSING, Parts, lookup, split

Test = Callable[[Any], bool]

_NEVER_EQUAL_ACROSS = frozenset((str, bool, int, float, bytes, ObjectId))


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one path. `values` are what a planner needs: one value, or several for `$in`."""

    path: str
    parts: Parts
    operator: str
    values: tuple[Any, ...]
    holds: Callable[[list[Any]], bool]

    def matches(self, document: Mapping[str, Any]) -> bool:
        return self.holds(lookup(document, self.parts))


@dataclass(frozen=True, slots=True)
class Alternatives:
    """`$or`: at least one of several filters."""

    filters: tuple[Matcher, ...]

    def matches(self, document: Mapping[str, Any]) -> bool:
        return any(each.matches(document) for each in self.filters)


@dataclass(frozen=True, slots=True)
class Matcher:
    """A checked filter: all of `conditions` and all of `alternatives` must hold."""

    conditions: tuple[Condition, ...]
    alternatives: tuple[Alternatives, ...] = ()

    def matches(self, document: Mapping[str, Any]) -> bool:
        for condition in self.conditions:
            if not condition.holds(lookup(document, condition.parts)):
                return False
        return all(each.matches(document) for each in self.alternatives)


def compile_filter(filter: Filter) -> Matcher:  # noqa: A002 - the word of the interface
    """Check a filter. Raises `ValidationFailed` for an operator or value that the dialect does not have."""
    if not isinstance(filter, Mapping):
        raise ValidationFailed("A filter must be a mapping of paths to conditions.")
    conditions: list[Condition] = []
    alternatives: list[Alternatives] = []
    for path, value in filter.items():
        if path == "$and":
            for each in map(compile_filter, _branches(path, value)):
                conditions += each.conditions
                alternatives += each.alternatives
        elif path == "$or":
            alternatives.append(Alternatives(tuple(map(compile_filter, _branches(path, value)))))
        elif isinstance(path, str) and path.startswith("$"):
            raise ValidationFailed(f"{path} is not an operator of the store's dialect.", path=path)
        else:
            conditions += _conditions(path, value)
    return Matcher(tuple(conditions), tuple(alternatives))


def _branches(operator: str, value: Any) -> Sequence[Filter]:
    if not isinstance(value, ARRAYS) or not value:
        raise ValidationFailed(f"{operator} takes a list of at least one filter.", path=operator)
    return value


def _conditions(path: str, value: Any) -> list[Condition]:
    parts = split(path)
    if not is_operators(value):
        return [_condition(path, parts, "$eq", value)]
    return [_condition(path, parts, operator, operand) for operator, operand in value.items()]


def is_operators(value: Any) -> bool:
    """Whether this is a mapping of operators rather than a value. Raises `ValidationFailed` for a mixture."""
    if not isinstance(value, dict) and not isinstance(value, Mapping):
        return False
    dollars = sum(isinstance(name, str) and name[:1] == "$" for name in value)
    if 0 < dollars < len(value):
        raise ValidationFailed("Operators and plain fields cannot stand in one mapping.")
    return dollars > 0


def _condition(path: str, parts: Parts, operator: str, operand: Any) -> Condition:
    maker = _OPERATORS.get(operator)
    if maker is None:
        raise ValidationFailed(f"{operator} is not an operator of the store's dialect.", path=path)
    values = tuple(operand) if operator in ("$in", "$nin") and isinstance(operand, ARRAYS) else (operand,)
    return Condition(path, parts, operator, values, maker(operand))


def _any_value(test: Test) -> Callable[[list[Any]], bool]:
    """The test asked of each value that a path leads to, and of the elements where that is an array."""

    def holds(found: list[Any]) -> bool:
        for value in found:  # noqa: SIM110 - on every document's path
            if test(value) or (isinstance(value, ARRAYS) and any(map(test, value))):
                return True
        return False

    return holds


def _equal(operand: Any) -> Callable[[list[Any]], bool]:
    return _any_value(_equality(operand))


def _equality(operand: Any) -> Test:
    if operand is None:
        return lambda value: value is None or value is MISSING
    expected = keys.encode(operand)
    kind = type(operand)
    if kind not in _NEVER_EQUAL_ACROSS:
        return lambda value: _key(value) == expected

    def test(value: Any) -> bool:
        if type(value) is kind:
            return bool(value == operand) or (value != value and _key(value) == expected)  # noqa: PLR0124 - NaN
        return isinstance(value, int | float | bytes) and _key(value) == expected

    return test


def _in(operand: Any) -> Callable[[list[Any]], bool]:
    if not isinstance(operand, ARRAYS):
        raise ValidationFailed("$in and $nin take a list.")
    expected = frozenset(map(keys.encode, operand))
    return _any_value(lambda value: _key(value) in expected)


def _negated(maker: Callable[[Any], Callable[[list[Any]], bool]]) -> Callable[[Any], Callable[[list[Any]], bool]]:
    def make(operand: Any) -> Callable[[list[Any]], bool]:
        holds = maker(operand)
        return lambda found: not holds(found)

    return make


def _range(below: bool, inclusive: bool) -> Callable[[Any], Callable[[list[Any]], bool]]:
    def make(operand: Any) -> Callable[[list[Any]], bool]:
        bound = keys.encode(operand)
        if bound == keys.NAN:
            return _any_value(lambda value: inclusive and _key(value) == bound)

        def test(value: Any) -> bool:
            key = _key(value)
            if key[0] != bound[0] or key == keys.NAN:
                return False
            return (inclusive and key == bound) or (key < bound if below else key > bound)

        return _any_value(test)

    return make


def _exists(operand: Any) -> Callable[[list[Any]], bool]:
    if not isinstance(operand, bool):
        raise ValidationFailed("$exists takes true or false.")
    return lambda found: any(value is not MISSING for value in found) is operand


def _key(value: Any) -> bytes:
    """The key of a stored value; types that the dialect does not know are equal to nothing."""
    try:
        return keys.encode(value)
    except ValidationFailed:
        return b"\xff"


_OPERATORS: dict[str, Callable[[Any], Callable[[list[Any]], bool]]] = {
    "$eq": _equal,
    "$ne": _negated(_equal),
    "$in": _in,
    "$nin": _negated(_in),
    "$gt": _range(below=False, inclusive=False),
    "$gte": _range(below=False, inclusive=True),
    "$lt": _range(below=True, inclusive=False),
    "$lte": _range(below=True, inclusive=True),
    "$exists": _exists,
}


def compile_sort(sort: Sort) -> tuple[tuple[Parts, int], ...]:
    """Check a sort order. Raises `ValidationFailed`."""
    checked = tuple((split(path), direction) for path, direction in sort)
    if any(direction not in (1, -1) for _, direction in checked):
        raise ValidationFailed("A sort direction is 1 or -1.")
    return checked


def check_limit(limit: int) -> None:
    """Raises `ValidationFailed` for what is no number of documents; 0 means all."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise ValidationFailed("A limit is a number of documents, or 0 for all.")


def in_order(documents: Sequence[Any], sort: Sort, *, document: Callable[[Any], Mapping[str, Any]]) -> list[Any]:
    """The items sorted as MongoDB sorts; `document` gives an item's document. Equal ones keep their order."""
    ordered = list(documents)
    for parts, direction in reversed(compile_sort(sort)):
        ordered.sort(key=lambda item, p=parts, d=direction: sort_key(document(item), p, d), reverse=direction < 0)  # type: ignore[misc]
    return ordered


def sort_key(document: Mapping[str, Any], parts: Parts, direction: int) -> bytes:
    """What a document is sorted by: of an array its least element, or its greatest when descending."""
    candidates: list[bytes] = []
    for value in lookup(document, parts):
        if isinstance(value, ARRAYS):
            candidates += map(_key, value) if value else (keys.EMPTY_ARRAY,)
        else:
            candidates.append(_key(value))
    return min(candidates) if direction > 0 else max(candidates)
