"""Filters: checked once, then asked of any number of documents. And sorting, by the same order of values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from bson.objectid import ObjectId

from flow8_core.errors import ValidationFailed
from flow8_core.store.base import Filter, Sort
from flow8_core.store.dialect import keys
from flow8_core.store.dialect.paths import ARRAYS, MISSING, Parts, lookup, may_have_dollars, split

Operator = Callable[["Condition", list[Any]], bool]  # of all values that a path leads to

_SAME_TYPE_ONLY = frozenset((str, bool, int, float, bytes, ObjectId))
_NO_CHOICES: frozenset[bytes] = frozenset()
_NO_MAPPINGS = _SAME_TYPE_ONLY | {type(None), datetime, list}


class Condition:
    """One operator on one path, and what it compares with: `value` and its sort `key`; for `$in` the keys of all its
    `choices`."""

    __slots__ = ("choices", "key", "operator", "parts", "path", "value")

    def __init__(self, path: str, operator: str, value: Any) -> None:
        self.path = path
        self.parts = split(path)
        self.operator = operator
        self.value = value
        self.choices = _NO_CHOICES
        if operator == "$eq":
            self.key = keys.encode(value)
            return
        if operator not in _OPERATORS:
            raise ValidationFailed(f"{operator} is not an operator of the store's dialect.", path=path)
        self.key = b""
        if operator in ("$in", "$nin"):
            self.choices = _choices(value)
        elif operator != "$exists":
            self.key = keys.encode(value)
        elif not isinstance(value, bool):
            raise ValidationFailed("$exists takes true or false.")

    def holds(self, document: Mapping[str, Any]) -> bool:
        """Whether what the path leads to passes: one of the values, or of the elements where one is an array."""
        if self.operator == "$eq" and len(self.parts) == 1:  # what every compare-and-set asks
            value = document.get(self.path, MISSING)
            kind = type(value)
            if kind is type(self.value) and kind in _SAME_TYPE_ONLY:
                return bool(value == self.value)
        return _OPERATORS[self.operator](self, lookup(document, self.parts))


class Alternatives(NamedTuple):
    """`$or`: at least one of several filters."""

    filters: tuple[Matcher, ...]

    def matches(self, document: Mapping[str, Any]) -> bool:
        return any(each.matches(document) for each in self.filters)


class Matcher(NamedTuple):
    """A checked filter: all of `conditions` and all of `alternatives` must hold. `one` is the sort key of the only
    `_id` that can match, where they say so."""

    conditions: tuple[Condition, ...]
    alternatives: tuple[Alternatives, ...] = ()
    one: bytes | None = None

    def matches(self, document: Mapping[str, Any]) -> bool:
        for condition in self.conditions:
            if not condition.holds(document):
                return False
        return not self.alternatives or all(each.matches(document) for each in self.alternatives)

    def without(self, settled: Collection[Condition]) -> Matcher:
        """What is left to be asked once these conditions are known to hold."""
        return Matcher(tuple(each for each in self.conditions if each not in settled), self.alternatives)


def compile_filter(filter: Filter) -> Matcher:  # noqa: A002 - the word of the interface
    """Check a filter. Raises `ValidationFailed` for an operator or value that the dialect does not have."""
    if type(filter) is not dict and not isinstance(filter, Mapping):
        raise ValidationFailed("A filter must be a mapping of paths to conditions.")
    conditions: list[Condition] = []
    alternatives: list[Alternatives] = []
    one: bytes | None = None
    for path, value in filter.items():
        if type(value) in _SAME_TYPE_ONLY and isinstance(path, str) and path[:1] != "$":  # what nearly all filters say
            condition = Condition(path, "$eq", value)
            conditions.append(condition)
            if path == "_id":
                one = condition.key
        elif path == "$and":
            for each in map(compile_filter, _branches(path, value)):
                conditions += each.conditions
                alternatives += each.alternatives
        elif path == "$or":
            alternatives.append(Alternatives(tuple(map(compile_filter, _branches(path, value)))))
        elif isinstance(path, str) and path.startswith("$"):
            raise ValidationFailed(f"{path} is not an operator of the store's dialect.", path=path)
        else:
            conditions += _conditions(path, value)
            if path == "_id" and conditions[-1].operator == "$eq":
                one = conditions[-1].key
    return Matcher(tuple(conditions), tuple(alternatives), one)


def _branches(operator: str, value: Any) -> Sequence[Filter]:
    if not isinstance(value, ARRAYS) or not value:
        raise ValidationFailed(f"{operator} takes a list of at least one filter.", path=operator)
    return value


def _conditions(path: str, value: Any) -> list[Condition]:
    if not is_operators(value):
        return [Condition(path, "$eq", value)]
    return [Condition(path, operator, operand) for operator, operand in value.items()]


def is_operators(value: Any) -> bool:
    """Whether this is a mapping of operators rather than a value. Raises `ValidationFailed` for a mixture."""
    if type(value) in _NO_MAPPINGS or (not isinstance(value, dict) and not isinstance(value, Mapping)):
        return False
    if not may_have_dollars(value):
        return False
    dollars = [name for name in value if isinstance(name, str) and name[:1] == "$"]
    if dollars and len(dollars) < len(value):
        raise ValidationFailed("Operators and plain fields cannot stand in one mapping.")
    return bool(dollars)


def _choices(value: Any) -> frozenset[bytes]:
    if not isinstance(value, ARRAYS):
        raise ValidationFailed("$in and $nin take a list.")
    return frozenset(map(keys.encode, value))


def _any(test: Callable[[Condition, Any], bool]) -> Operator:
    """The test asked of each value that a path leads to, and of the elements where that is an array."""

    def passes(condition: Condition, found: list[Any]) -> bool:
        for value in found:
            if test(condition, value):
                return True
            if isinstance(value, ARRAYS) and any(test(condition, element) for element in value):
                return True
        return False

    return passes


def _not(operator: Operator) -> Operator:
    return lambda condition, found: not operator(condition, found)


def _equals(condition: Condition, value: Any) -> bool:
    operand = condition.value
    if operand is None:
        return value is None or value is MISSING
    kind = type(operand)
    if type(value) is kind and kind in _SAME_TYPE_ONLY and value == operand:
        return True
    if kind in _SAME_TYPE_ONLY and not isinstance(value, int | float | bytes):
        return False
    return _key(value) == condition.key


def _is_in(condition: Condition, value: Any) -> bool:
    return _key(value) in condition.choices


def _within(*, below: bool, inclusive: bool) -> Callable[[Condition, Any], bool]:
    def test(condition: Condition, value: Any) -> bool:
        key, bound = _key(value), condition.key
        if key == bound:
            return inclusive
        if key[0] != bound[0] or keys.NAN in (key, bound):
            return False
        return key < bound if below else key > bound

    return test


def _exists(condition: Condition, found: list[Any]) -> bool:
    return any(value is not MISSING for value in found) is condition.value


def _key(value: Any) -> bytes:
    """The key of a stored value; types that the dialect does not know are equal to nothing."""
    try:
        return keys.encode(value)
    except ValidationFailed:
        return b"\xff"


_OPERATORS: dict[str, Operator] = {
    "$eq": _any(_equals),
    "$ne": _not(_any(_equals)),
    "$in": _any(_is_in),
    "$nin": _not(_any(_is_in)),
    "$gt": _any(_within(below=False, inclusive=False)),
    "$gte": _any(_within(below=False, inclusive=True)),
    "$lt": _any(_within(below=True, inclusive=False)),
    "$lte": _any(_within(below=True, inclusive=True)),
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
    if len(ordered) < 2:
        return ordered
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
