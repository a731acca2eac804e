"""Dotted paths through documents: looking up, projecting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from flow8_core.errors import ValidationFailed
from flow8_core.store.base import Document

Parts = tuple[str, ...]
ARRAYS = (list, tuple)


class Missing:
    """The type of `MISSING`: what a path leads to that the document does not have."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()
ARRAY: Final = object()  # what `scalar` gives where a path meets an array


@lru_cache(4096)
def split(path: Any) -> Parts:
    """`"a.b"` as `("a", "b")`. Raises `ValidationFailed` on what is no path."""
    if not isinstance(path, str) or "\x00" in path:
        raise ValidationFailed("A field path must be text without NUL.")
    parts = tuple(path.split("."))
    if not all(parts) or any(part.startswith("$") for part in parts):
        raise ValidationFailed(f"{path!r} is not a field path of the store's dialect.", path=path)
    return parts


def may_have_dollars(names: Iterable[Any]) -> bool:
    """False where none of these names begins with a dollar, for certain; asked at every write and filter."""
    try:
        return "$" in "".join(names)
    except TypeError:
        return True


def scalar(document: Mapping[str, Any], parts: Parts) -> Any:
    """The one value that a path leads to; `MISSING`; or `ARRAY` where it meets one, on its way or at its end."""
    value: Any = document.get(parts[0], MISSING)
    for part in parts[1:]:
        if isinstance(value, dict):
            value = value.get(part, MISSING)
        elif isinstance(value, ARRAYS):
            return ARRAY
        elif isinstance(value, Mapping):
            value = value.get(part, MISSING)
        else:
            return MISSING
    return ARRAY if isinstance(value, ARRAYS) else value


def lookup(document: Mapping[str, Any], parts: Parts) -> list[Any]:
    """The values that a path leads to: one, or one for each element of the arrays on the way; `MISSING` for none."""
    value: Any = document
    for depth, part in enumerate(parts):
        if isinstance(value, dict):
            value = value.get(part, MISSING)
        elif isinstance(value, ARRAYS):
            return _through_array(value, parts[depth:])
        elif isinstance(value, Mapping):
            value = value.get(part, MISSING)
        else:
            return [MISSING]
    return [value]


def _through_array(array: Sequence[Any], parts: Parts) -> list[Any]:
    found: list[Any] = []
    if parts[0].isdigit() and int(parts[0]) < len(array):
        element = array[int(parts[0])]
        found += lookup({parts[0]: element}, parts)
    for element in array:
        if isinstance(element, Mapping):
            found += lookup(element, parts)
    return found or [MISSING]


def narrowest(fields: Iterable[Parts]) -> list[str]:
    """The paths without those that lie within others: MongoDB refuses to be asked for both."""
    kept: list[Parts] = []
    for parts in sorted(fields):
        if not kept or parts[: len(kept[-1])] != kept[-1]:
            kept.append(parts)
    return [".".join(parts) for parts in kept]


def project(document: Document, fields: Iterable[Parts]) -> Document:
    """The `_id` and the given paths of a document, in the document's own order."""
    tree: dict[str, Any] = {"_id": None}
    for parts in fields:
        node = tree
        for part in parts[:-1]:
            node = node.setdefault(part, {})
            if node is None:
                break
        else:
            node[parts[-1]] = None
    return _keep(document, tree)


def _keep(document: Mapping[str, Any], tree: Mapping[str, Any]) -> Document:
    kept: Document = {}
    for name, value in document.items():
        if name not in tree:
            continue
        below = tree[name]
        if below is None:
            kept[name] = value
        elif isinstance(value, Mapping):
            kept[name] = _keep(value, below)
        elif isinstance(value, list):
            kept[name] = [_keep(item, below) for item in value if isinstance(item, Mapping)]
    return kept
