"""What the control API is told, turned into a frozen dataclass; what the dataclass does not know is refused."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class BadControl(ValueError):
    """The control call is wrong; the message says how."""


def build(model: type[T], values: Mapping[str, Any], *, base: T | None = None) -> T:
    """A `model` (a frozen dataclass) of `values`, on top of `base` where there is one. Raises BadControl."""
    hints = get_type_hints(model)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise BadControl(f"{model.__name__} has no {', '.join(unknown)}; it has {', '.join(hints)}.")
    for name, value in values.items():
        if not fits(value, hints[name]):
            raise BadControl(f"{name} must be {hints[name]}.")
    frozen = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return dataclasses.replace(base, **frozen) if base is not None else model(**frozen)  # type: ignore[type-var]
    except TypeError as error:
        raise BadControl(f"{model.__name__}: {error}.") from None


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
