"""From a step's `input_mapping` to a module's `Input`: all faults at once, with JSON paths, no value repeated."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from flow8_core.errors import ValidationFailed
from flow8_modules.model import Fault, Input

MAX_DEPTH = 32
MAX_VALUES = 100_000
MAX_PROBLEMS = 20

_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]{0,63}")
_OWN_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not an input of this module",
    "dict_type": "should be an object",
    "model_type": "should be an object",
    "model_attributes_type": "should be an object",
    "list_type": "should be a list",
    "string_type": "should be text",
}

_Place = tuple[Any, Any] | None  # where a value stands: (the place of what holds it, its name or index)
AnyInput = TypeVar("AnyInput", bound=Input)


def parse(model: type[AnyInput], mapping: Mapping[str, Any], *, root: str = "input_mapping") -> AnyInput:
    """The mapping as an instance of `model`.

    Raises `ValidationFailed` with all problems; paths start at `root` ("input_mapping.attendees[0]").
    """
    problems = _hostile(mapping, root)
    if problems:
        raise ValidationFailed.from_problems(problems)
    try:
        return model.model_validate(mapping)
    except ValidationError as error:
        problems = [(_path(root, fault["loc"], fault), _say(fault)) for fault in error.errors(include_url=False)]
    raise ValidationFailed.from_problems(problems)


def read_json(text: str) -> Any:
    """A JSON text inside an input, read strictly. Raises `Fault` for anything but one proper JSON value."""
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError):
        raise Fault("is not proper JSON") from None
    for path, trouble in _hostile(value, "$"):
        raise Fault(f"holds JSON whose {path} {trouble}" if path != "$" else f"holds JSON that {trouble}")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _hostile(value: Any, root: str) -> list[tuple[str, str]]:
    """What no field may hold: JSON that a database, a log or a vendor's parser would trip over later."""
    return [] if _sound(value) else _problems(value, root)


def _sound(value: Any) -> bool:
    """Whether there is nothing to find, told level by level and without paths, which cost most of the time. What is not
    of the very types of JSON is left to `_problems` to judge."""
    if type(value) is not dict and type(value) is not list:
        return False
    seen = 0
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for node in level:
            seen += len(node)
            if seen > MAX_VALUES or (type(node) is dict and not all(map(_proper_name, node))):
                return False
            for item in node.values() if type(node) is dict else node:
                kind = type(item)
                if kind is dict or kind is list:
                    below.append(item)
                elif kind is str:
                    if not _encodes(item):
                        return False
                elif not (item is None or kind is bool or kind is int or (kind is float and math.isfinite(item))):
                    return False
        if not below:
            return True
        level = below
    return False


def _problems(value: Any, root: str) -> list[tuple[str, str]]:
    problems: list[tuple[str, str]] = []
    waiting: list[tuple[_Place, Any, int]] = [(None, value, 0)]
    seen = 0
    while waiting and len(problems) < MAX_PROBLEMS:
        place, item, depth = waiting.pop()
        if not isinstance(item, Mapping | list | tuple):
            if trouble := _trouble(item):
                problems.append((_render(root, place), trouble))
            continue
        seen += len(item)
        if seen > MAX_VALUES:
            return [*problems, (root, f"holds more than {MAX_VALUES:,} values")]
        if depth >= MAX_DEPTH:
            problems.append((_render(root, place), f"is nested deeper than {MAX_DEPTH} levels"))
            continue
        if isinstance(item, Mapping) and not all(map(_proper_name, item)):
            problems.append((_render(root, place), "has a name that is not proper text"))
        members = item.items() if isinstance(item, Mapping) else enumerate(item)
        waiting.extend(((place, part), each, depth + 1) for part, each in members if not _harmless(each))
    return problems


def _harmless(item: Any) -> bool:
    """Most values, told cheaply."""
    return item is None or item is True or item is False or type(item) is int or (type(item) is str and item.isascii())


def _render(root: str, place: _Place) -> str:
    parts = []
    while place is not None:
        place, part = place
        parts.append(part)
    for part in reversed(parts):
        root = _join(root, part)
    return root


def _trouble(item: Any) -> str | None:
    if isinstance(item, str):
        return None if _encodes(item) else "is not proper text (half of a surrogate pair)"
    if isinstance(item, float) and not math.isfinite(item):
        return "is not a finite number"
    if item is None or isinstance(item, bool | int | float):
        return None
    return "is not a JSON value"


def _proper_name(name: Any) -> bool:
    return isinstance(name, str) and "\x00" not in name and _encodes(name)


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _path(root: str, location: tuple[int | str, ...], fault: Any) -> str:
    path = root
    for part in location:
        path = _join(path, part)
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, Fault) and cause.field:
        path = f"{path}.{cause.field}"
    return path


def _join(path: str, part: Any) -> str:
    if isinstance(part, int) and not isinstance(part, bool):
        return f"{path}[{part}]"
    if isinstance(part, str) and _PLAIN_NAME.fullmatch(part):
        return f"{path}.{part}"
    return f"{path}[?]"  # a name that was pasted by mistake may be a secret


def _say(fault: Any) -> str:
    kind: str = fault["type"]
    if kind in _OWN_WORDS:
        return _OWN_WORDS[kind]
    if kind in ("value_error", "assertion_error"):
        cause = fault.get("ctx", {}).get("error")
        return cause.message if isinstance(cause, Fault) else "is not acceptable"
    if kind == "union_tag_invalid":  # pydantic's own text repeats the tag
        return "is of an unknown kind"
    message: str = fault["msg"]
    return message.replace("Input should", "should", 1)
