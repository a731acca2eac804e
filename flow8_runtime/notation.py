"""JSON and YAML, read strictly: what one reader would take one way and the next another is refused.

Refused: duplicate keys, NaN and infinities, integers beyond 64 bits, text that is no Unicode, NUL, a byte order mark in
the middle, keys that are not text, and more depth, nodes or bytes than a limit. Of YAML the core schema of version 1.2
is read: `no`, `12:30:00` and `2026-04-05` are text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal, NoReturn

from flow8_core.errors import ValidationFailed
from flow8_runtime import core_yaml

Form = Literal["json", "yaml"]

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)  # dumps() would make one each time
PROBLEM_LIMIT = 100  # an author mends them in turns anyway

_INT64 = 1 << 63
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Limits:
    """How much of a value is accepted: levels of nesting, values in all, bytes as JSON."""

    depth: int = 32
    nodes: int = 100_000
    size: int = 1024 * 1024


def form_of(name: str) -> Form | None:
    """What a file's name says of its form; None where the text has to tell."""
    forms: dict[str, Form] = {".json": "json", ".yaml": "yaml", ".yml": "yaml"}
    return forms.get(PurePath(name).suffix.lower())


def read(data: bytes | str, *, form: Form | None = None, limits: Limits = Limits()) -> Any:
    """The value that a text holds; without a `form`, a text that begins with a brace or bracket is JSON.

    Raises `ValidationFailed` with the place of the fault.
    """
    text = _decoded(data, limits)
    if not text.strip():
        raise ValidationFailed("The document is empty.", path="$")
    guessed = form is None and text.lstrip()[0] in "{["
    if guessed or form == "json":
        value = _json(text, what="This begins like JSON and is none" if guessed else "This is not JSON")
    else:
        value = core_yaml.read(text, depth=limits.depth)
    problems = faults(value, limits=limits)
    if problems:
        raise ValidationFailed.from_problems(problems)
    return value


def faults(value: Any, *, path: str = "$", limits: Limits = Limits()) -> list[tuple[str, str]]:
    """What keeps a value from being strict JSON within the limits, as (path, message); empty where nothing does."""
    return [] if _sound(value, limits) else _Inspection(limits).run(value, path)


def dumps(value: Any) -> str:
    """The value as compact ASCII JSON, keys in their order. Raises `ValidationFailed` for what JSON cannot hold."""
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError):
        raise ValidationFailed("The value cannot be written as JSON.", path="$") from None


def loads(text: str) -> Any:
    """The value of a text that `dumps` has written."""
    return json.loads(text)


def canonical(value: Any) -> str:
    """One text for equal values: compact ASCII JSON with sorted keys."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)


def member(path: str, key: str) -> str:
    """The path of an object's member; a key that is no plain word is quoted, a long one cut."""
    return f"{path}.{key}" if _PLAIN_KEY.fullmatch(key) else f"{path}[{json.dumps(key[:64])}]"


def _sound(value: Any, limits: Limits) -> bool:
    """Whether nothing is wrong with a value: as `_Inspection` judges, level by level and without the paths, which cost
    most of the time and are wanted only where something is. What is not of the very types of JSON goes the long way."""
    nodes = size = 0
    level = [value]
    for depth in range(limits.depth + 1):
        below: list[Any] = []
        for node in level:
            kind = type(node)
            if kind is dict or kind is list:
                nodes += len(node)
                if depth >= limits.depth or nodes > limits.nodes:
                    return False
                below += node.values() if kind is dict else node
                texts: Iterable[Any] = node if kind is dict else ()
            elif kind is str:
                texts = (node,)
            elif node is None or kind is bool:
                size += 4
                continue
            elif kind in (int, float) and -_INT64 <= node < _INT64:
                size += 8
                continue
            else:
                return False
            for text in texts:
                length = _length(text)
                if length is None:
                    return False
                size += length
        if size > limits.size:
            return False
        if not below:
            return True
        level = below
    return False


def _length(text: Any) -> int | None:
    """The bytes of a text; None where it is no text, or not a sound one."""
    if type(text) is not str or "\x00" in text:
        return None
    try:
        return len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        return None


class _Inspection:
    """Walks a value once and stops at the first limit."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._nodes = 0
        self._size = 0
        self._problems: list[tuple[str, str]] = []

    def run(self, value: Any, path: str) -> list[tuple[str, str]]:
        rest: list[tuple[Any, str, int]] = [(value, path, 0)]
        while rest and len(self._problems) < PROBLEM_LIMIT:
            node, where, depth = rest.pop()
            if not isinstance(node, dict | list):
                self._scalar(node, where)
            elif depth >= self._limits.depth:
                self._problems.append((where, f"is nested deeper than {self._limits.depth} levels"))
            else:
                self._nodes += len(node)
                if self._nodes <= self._limits.nodes:  # or the children alone are a burden
                    rest += self._children(node, where, depth + 1)
            if self._nodes > self._limits.nodes or self._size > self._limits.size:
                self._problems.append(
                    (path, f"is larger than {self._limits.nodes} values or {self._limits.size} bytes")
                )
                break
        return self._problems

    def _children(self, node: dict[Any, Any] | list[Any], path: str, depth: int) -> Iterator[tuple[Any, str, int]]:
        """Last first, for they are taken from the end."""
        if isinstance(node, list):
            for index in range(len(node) - 1, -1, -1):
                yield node[index], f"{path}[{index}]", depth
            return
        for key, item in reversed(node.items()):
            if isinstance(key, str):
                where = member(path, key)
                self._text(key, where)
                yield item, where, depth
            else:
                self._problems.append((path, "has a key that is not text"))

    def _scalar(self, node: Any, path: str) -> None:
        if isinstance(node, str):
            self._text(node, path)
        elif node is None or isinstance(node, bool):
            self._size += 4
        elif isinstance(node, int):
            self._size += 8
            if not -_INT64 <= node < _INT64:
                self._problems.append((path, "is an integer beyond 64 bits"))
        elif isinstance(node, float):
            self._size += 8
            if node - node != 0:
                self._problems.append((path, "is not a finite number"))
        else:
            self._problems.append((path, "is of a type that JSON does not have"))

    def _text(self, text: str, path: str) -> None:
        try:
            self._size += len(text) if text.isascii() else len(text.encode())
        except UnicodeEncodeError:
            self._problems.append((path, "holds a lone surrogate, which is not Unicode"))
        if "\x00" in text:
            self._problems.append((path, "holds a NUL character"))


def _decoded(data: bytes | str, limits: Limits) -> str:
    if len(data) > limits.size:
        raise ValidationFailed(f"The document is larger than {limits.size} bytes.", path="$")
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValidationFailed("The document is not UTF-8 text.", path="$") from None


def _json(text: str, *, what: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        message = f"{what}: {error.msg} in line {error.lineno}, column {error.colno}."
        raise ValidationFailed(message, path="$") from None
    except RecursionError:
        raise ValidationFailed("The document is nested too deep.", path="$") from None
    except ValueError:  # an integer with thousands of digits
        raise ValidationFailed("The document holds a number that is too long.", path="$") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValidationFailed("A key stands twice in one object.", path=member("$", twice))
    return value


def _no_constant(_: str) -> NoReturn:
    raise ValidationFailed("NaN and Infinity are not JSON.", path="$")
