"""What the control API is told, turned into a frozen dataclass; what the dataclass does not know is refused."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class BadControl(ValueError):
    """The control call is wrong; the message says how."""


_read = functools.cache(get_type_hints)


def _hints(model: Any) -> dict[str, Any]:
    """The annotations of a class, which are read once: that takes a millisecond, and a reset builds many."""
    return _read(model)


def build(model: type[T], values: Mapping[str, Any], *, base: T | None = None) -> T:
    """A `model` (a frozen dataclass) of `values`, on top of `base` where there is one. What parts of it that are
    dataclasses know counts as its own. Raises BadControl."""
    hints = _hints(model)
    parts = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    owners = {name: part for part, hint in parts.items() for name in _hints(hint)}
    own = {name: hint for name, hint in hints.items() if name not in parts}
    unknown = sorted(set(values) - {*own, *owners})
    if unknown:
        raise BadControl(f"{model.__name__} has no {', '.join(unknown)}; it has {', '.join((*own, *owners))}.")
    for name in set(values) & set(own):
        if not fits(values[name], own[name]):
            raise BadControl(f"{name} must be {own[name]}.")
    frozen = {n: tuple(values[n]) if isinstance(values[n], list) else values[n] for n in values if n in own}
    try:
        whole = dataclasses.replace(base, **frozen) if base is not None else model(**frozen)  # type: ignore[type-var]
    except TypeError as error:
        raise BadControl(f"{model.__name__}: {error}.") from None
    for part, hint in parts.items():
        inner = {name: value for name, value in values.items() if owners.get(name) == part}
        if inner:
            whole = dataclasses.replace(whole, **{part: build(hint, inner, base=getattr(whole, part))})  # type: ignore[type-var,arg-type]
    return whole


def shown(settings: Any) -> dict[str, Any]:
    """Settings as `build` takes them: those of their parts stand beside their own."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        flat |= shown(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return flat


def fits(value: object, hint: Any) -> bool:
    """Whether a JSON value is of the annotated type; JSON's lists stand for tuples, whole numbers for floats."""
    if hint is Any:
        return True
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(fits(item, get_args(hint)[0]) for item in value)
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, origin or hint)
