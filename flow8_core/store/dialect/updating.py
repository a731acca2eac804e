"""Updates: checked once, then applied to a document."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from bson.objectid import ObjectId

from flow8_core.errors import ValidationFailed
from flow8_core.store.base import Document
from flow8_core.store.dialect import keys
from flow8_core.store.dialect.matching import Matcher, compile_filter, is_operators
from flow8_core.store.dialect.paths import MISSING, Missing, Parts, scalar, split

_INT64 = 1 << 63
SIMPLE = frozenset((type(None), Missing, bool, int, str, datetime, ObjectId))
Operator = Callable[[Any, Any], Any]


class Change(NamedTuple):
    """A checked update: either a `replacement`, or `steps` of (operator, path, operand)."""

    replacement: Document | None
    steps: tuple[tuple[str, Parts, Any], ...] = ()

    def may_move(self, document: Mapping[str, Any], paths: Iterable[Parts]) -> bool:
        """Whether what these paths lead to in the document may become something else."""
        if self.replacement is None:
            return any(parts[0] == touched[0] for parts in paths for _, touched, _ in self.steps)
        new = self.replacement
        for parts in paths:  # at every write, for every index
            if len(parts) == 1:
                before, after = document.get(parts[0], MISSING), new.get(parts[0], MISSING)
            else:
                before, after = scalar(document, parts), scalar(new, parts)
            if before is not after and _differ(before, after):
                return True
        return False

    def apply(self, document: Document, *, inserting: bool = False) -> Document:
        """The changed document; the argument is used up. Raises `ValidationFailed` where a value does not fit."""
        if self.replacement is not None:
            return _replaced(document, self.replacement)
        own = document.get("_id", MISSING)
        for operator, parts, operand in self.steps:
            if operator != "$setOnInsert" or inserting:
                _apply(document, operator, parts, operand)
        if own is not MISSING and document.get("_id", MISSING) is not own:
            _check_same_id(own, document.get("_id"))
        return document


def compile_update(update: Mapping[str, Any]) -> Change:
    """Check an update. Raises `ValidationFailed` for an unknown operator, a mixture, or paths that collide."""
    if not isinstance(update, dict | Mapping) or not update:
        raise ValidationFailed("An update needs operators or a whole document.")
    if not is_operators(update):
        return Change(dict(update))
    steps: list[tuple[str, Parts, Any]] = []
    for operator, fields in update.items():
        if operator not in _OPERATORS:
            raise ValidationFailed(f"{operator} is not an operator of the store's dialect.", path=operator)
        if not isinstance(fields, Mapping):
            raise ValidationFailed(f"{operator} takes a mapping of paths to values.", path=operator)
        for path, operand in fields.items():
            _check_operand(operator, path, operand)
            steps.append((operator, split(path), operand))
    if not steps:
        raise ValidationFailed("The update changes nothing.")
    _check_collisions([parts for _, parts, _ in steps])
    return Change(None, tuple(steps))


def upserted(matcher: Matcher, change: Change) -> Document:
    """The document that an upsert inserts: the filter's equalities, then the update; a new ObjectId where no `_id`."""
    seed: Document = {}
    for condition in matcher.conditions:
        if condition.operator == "$eq" and (change.replacement is None or condition.path == "_id"):
            _set(seed, condition.parts, copy.deepcopy(condition.value))
    document = change.apply(seed, inserting=True)
    return document if "_id" in document else {"_id": ObjectId(), **document}


def _replaced(document: Mapping[str, Any], replacement: Document) -> Document:
    if "_id" not in document:
        return replacement
    own = document["_id"]
    if "_id" not in replacement:
        return {"_id": own, **replacement}
    _check_same_id(own, replacement["_id"])
    return replacement


def _differ(one: Any, other: Any) -> bool:
    """False where two values are the same for certain: 1 and True are equal in Python, and not here."""
    return type(one) is not type(other) or type(one) not in SIMPLE or one != other


def _check_same_id(own: Any, other: Any) -> None:
    if own != other and keys.encode(own) != keys.encode(other):
        raise ValidationFailed("An update cannot change the _id.", path="_id")


def _check_operand(operator: str, path: str, operand: Any) -> None:
    if operator == "$inc" and (isinstance(operand, bool) or not isinstance(operand, int | float)):
        raise ValidationFailed("$inc takes a number.", path=path)
    if operator in ("$push", "$addToSet", "$pull") and is_operators(operand):
        raise ValidationFailed(f"{operator} takes a plain value here, no operators.", path=path)
    if operator in ("$max", "$min", "$pull", "$addToSet"):
        keys.encode(operand)


def _check_collisions(paths: list[Parts]) -> None:
    ordered = sorted(paths)
    for first, second in pairwise(ordered):
        if second[: len(first)] == first:
            raise ValidationFailed("Two parts of an update change the same field.", path=".".join(second))


def _apply(document: Document, operator: str, parts: Parts, operand: Any) -> None:
    holder = _holder(document, parts, create=operator not in ("$unset", "$pull"))
    if holder is None:
        return
    name = parts[-1]
    if isinstance(holder, list):
        _apply_to_element(holder, operator, parts, operand)
        return
    old = holder.get(name, MISSING)
    new = _OPERATORS[operator](old, operand)
    if new is MISSING:
        holder.pop(name, None)
    else:
        holder[name] = new


def _apply_to_element(array: list[Any], operator: str, parts: Parts, operand: Any) -> None:
    if not parts[-1].isdigit():
        raise _not_a_mapping(parts)
    position = int(parts[-1])
    old = array[position] if position < len(array) else MISSING
    new = _OPERATORS[operator](old, operand)
    if new is MISSING:
        if old is not MISSING:
            array[position] = None
        return
    array.extend([None] * (position + 1 - len(array)))
    array[position] = new


def _holder(document: Document, parts: Parts, *, create: bool) -> dict[str, Any] | list[Any] | None:
    """What holds the path's last part; made on the way where `create` says so."""
    node: Any = document
    for part in parts[:-1]:
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                if create:
                    raise _not_a_mapping(parts)
                return None
            node = node[int(part)]
        elif part in node:
            node = node[part]
        elif create:
            node[part] = {}
            node = node[part]
        else:
            return None
        if not isinstance(node, dict | list):
            if create:
                raise _not_a_mapping(parts)
            return None
    return node  # type: ignore[no-any-return]


def _not_a_mapping(parts: Parts) -> ValidationFailed:
    path = ".".join(parts)
    return ValidationFailed(f"{path} cannot be written: something on its way holds no fields.", path=path)


def _set(document: Document, parts: Parts, value: Any) -> None:
    _apply(document, "$set", parts, value)


def _increase(old: Any, operand: Any) -> Any:
    if old is MISSING:
        return operand
    if isinstance(old, bool) or not isinstance(old, int | float):
        raise ValidationFailed("$inc needs a number in the field.")
    total = old + operand
    if isinstance(total, int) and not -_INT64 <= total < _INT64:
        raise ValidationFailed("$inc leaves the 64 bits of an integer.")
    return total


def _greater(old: Any, operand: Any) -> Any:
    return operand if old is MISSING or keys.encode(operand) > keys.encode(old) else old


def _lesser(old: Any, operand: Any) -> Any:
    return operand if old is MISSING or keys.encode(operand) < keys.encode(old) else old


def _array(old: Any, operator: str) -> list[Any]:
    if old is MISSING:
        return []
    if not isinstance(old, list):
        raise ValidationFailed(f"{operator} needs an array in the field.")
    return old


def _push(old: Any, operand: Any) -> Any:
    return [*_array(old, "$push"), operand]


def _add(old: Any, operand: Any) -> Any:
    array = _array(old, "$addToSet")
    key = keys.encode(operand)
    return array if any(keys.encode(item) == key for item in array) else [*array, operand]


def _pull(old: Any, operand: Any) -> Any:
    if old is MISSING:
        return MISSING
    array = _array(old, "$pull")
    if isinstance(operand, Mapping):
        fits = compile_filter(operand)
        return [item for item in array if not (isinstance(item, Mapping) and fits.matches(item))]
    key = keys.encode(operand)
    return [item for item in array if keys.encode(item) != key]


_OPERATORS: dict[str, Operator] = {
    "$set": lambda _, operand: operand,
    "$setOnInsert": lambda _, operand: operand,
    "$unset": lambda _, __: MISSING,
    "$inc": _increase,
    "$max": _greater,
    "$min": _lesser,
    "$push": _push,
    "$addToSet": _add,
    "$pull": _pull,
}
