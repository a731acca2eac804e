"""flow8's expressions: `{{ $prev.<step>.<path> }}` and `{{ $prev.args.<path> }}`.

A path walks dicts by key and lists by index, and does nothing else: no attributes, calls, arithmetic or evaluation, and
what a value brings along is never read again as an expression. After a name: `.key`, `.0`, `[0]`, or `["any key"]` for
keys that hold a dot or a bracket. `$prev.<step>.state` is DONE, SKIP, FAIL or FILTERED where the output has none.

A string that is one expression keeps the value's type. Within a longer text, text stands as it is, null as nothing, and
everything else as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from flow8_core.errors import ValidationFailed
from flow8_runtime.scope import Scope

EXPRESSION_LIMIT = 512  # characters of one expression
PER_TEXT = 200  # expressions in one text
DEPTH_LIMIT = 64
SIZE_LIMIT = 16 * 1024 * 1024  # characters that one step's input may come to
ARGS = "args"
STATE = "state"

Keys = tuple[str | int, ...]

_OPEN, _CLOSE = "{{", "}}"
_ROOT = re.compile(r"\$prev\.([A-Za-z0-9_-]{1,64})(?=[.\[]|$)")
_KEY = re.compile(r"""\.([^\s.\[\]{}"'\\]+)|\[([0-9]{1,9})\]|\[("(?:[^"\\]|\\.)*")\]""")
_NESTED = (dict, list, tuple, Mapping)
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Expression:
    """One parsed expression: the step's name (or "args") and the keys below it."""

    step: str
    keys: Keys


def resolve(value: Any, scope: Scope, *, path: str = "$") -> Any:
    """The value with every expression in it replaced, at any depth. The argument stays as it is.

    `path` is where the value stands, for the messages. Raises `ValidationFailed` for text that is no expression, for a
    path that leads nowhere, and where the result would be larger than 16 Mi characters.
    """
    if value is None:
        return None
    return _Resolver(scope).value(value, path, 0)


def lookup(expression: str, scope: Scope, *, path: str = "$") -> Any:
    """The value of one expression, with or without its braces; None where the path leads nowhere.

    Raises `ValidationFailed` for what is no expression.
    """
    found = _walk(parse(bare(expression), path=path), scope)
    return None if found is _MISSING else found


def references(value: Any, *, path: str = "$") -> set[tuple[str, str]]:
    """Each (step, JSON path of the text that names it) in a value; the step is "args" for the play's arguments.

    Raises `ValidationFailed` with all texts that are no expressions, at once.
    """
    found: set[tuple[str, str]] = set()
    problems: list[tuple[str, str]] = []
    for text, where in _texts(value, path, 0):
        try:
            found.update((part.step, where) for part in _parts(text, where) if isinstance(part, Expression))
        except ValidationFailed as error:
            problems += error.problems
    if problems:
        raise ValidationFailed.from_problems(problems)
    return found


def parse(text: str, *, path: str = "$") -> Expression:
    """Read what stands between the braces. Raises `ValidationFailed`."""
    text = text.strip()
    if len(text) > EXPRESSION_LIMIT:
        raise ValidationFailed(f"An expression has at most {EXPRESSION_LIMIT} characters.", path=path)
    try:
        return _parsed(text)
    except _Malformed as fault:
        raise ValidationFailed(str(fault), path=path) from None


class _Malformed(ValueError):
    """Its text is what an author is told."""


@lru_cache(1024)
def _parsed(text: str) -> Expression:
    """Every attempt of a step asks for the same ones."""
    root = _ROOT.match(text)
    if root is None:
        raise _Malformed("Expressions read {{ $prev.<step>.<path> }} or {{ $prev.args.<path> }}.")
    keys: list[str | int] = []
    at = root.end()
    while at < len(text):
        match = _KEY.match(text, at)
        if match is None:
            raise _Malformed('After a name an expression goes on with .key, [0] or ["key"].')
        keys.append(_key(match))
        at = match.end()
    return Expression(root.group(1), tuple(keys))


class _Resolver:
    """Counts what it produces: a few lines of flow must not become gigabytes of input."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._left = SIZE_LIMIT

    def value(self, value: Any, path: str, depth: int) -> Any:
        if isinstance(value, str):
            return self._text(value, path) if _OPEN in value else value
        if depth > DEPTH_LIMIT:
            raise ValidationFailed(f"The value is nested deeper than {DEPTH_LIMIT} levels.", path=path)
        if not isinstance(value, _NESTED):
            return value
        if isinstance(value, list | tuple):
            return [
                item if _is_constant(item) else self.value(item, f"{path}[{index}]", depth + 1)
                for index, item in enumerate(value)
            ]
        return {
            key: item if _is_constant(item) else self.value(item, f"{path}.{key}", depth + 1)
            for key, item in value.items()
        }

    def _text(self, text: str, path: str) -> Any:
        parts = _parts(text, path)
        if len(parts) == 1 and isinstance(parts[0], Expression):
            found = self._found(parts[0], path)
            self._spend(_weight(found, self._left), path)
            return found
        pieces = [part if isinstance(part, str) else _as_text(self._found(part, path), path) for part in parts]
        self._spend(sum(map(len, pieces)), path)
        return "".join(pieces)

    def _found(self, expression: Expression, path: str) -> Any:
        found = _walk(expression, self._scope)
        if found is _MISSING:
            raise ValidationFailed(_nowhere(expression, self._scope), path=path)
        return found

    def _spend(self, size: int, path: str) -> None:
        self._left -= size
        if self._left < 0:
            raise ValidationFailed(f"The input comes to more than {SIZE_LIMIT} characters.", path=path)


def _is_constant(item: Any) -> bool:
    """Whether it stays as it is: told of most values, before anything is made for them."""
    kind = type(item)
    return (kind is str and _OPEN not in item) or item is None or kind is int or kind is bool


def _parts(text: str, path: str) -> list[str | Expression]:
    """The text cut into literals and expressions; empty literals are left out."""
    if text.count(_OPEN) > PER_TEXT:
        raise ValidationFailed(f"A text holds at most {PER_TEXT} expressions.", path=path)
    parts: list[str | Expression] = []
    at = 0
    while (start := text.find(_OPEN, at)) >= 0:
        end = text.find(_CLOSE, start)
        if end < 0:
            raise ValidationFailed("An expression begins with {{ and does not end; write }} after it.", path=path)
        if start > at:
            parts.append(text[at:start])
        parts.append(parse(text[start + len(_OPEN) : end], path=path))
        at = end + len(_CLOSE)
    if at < len(text):
        parts.append(text[at:])
    return parts


def _walk(expression: Expression, scope: Scope) -> Any:
    """Where the expression leads, or `_MISSING`."""
    if expression.step == ARGS:
        node: Any = scope.args
    elif expression.step in scope.outputs:
        node = scope.outputs[expression.step]
    else:
        node = {}
    for key in expression.keys:
        node = _child(node, key)
        if node is _MISSING:
            return _state(expression, scope)
    return node if expression.step == ARGS or expression.step in scope.outputs else _MISSING


def _child(node: Any, key: str | int) -> Any:
    kind = type(node)  # and not isinstance, which asks the value itself
    if kind is dict or issubclass(kind, Mapping):
        return node.get(str(key), _MISSING)
    if kind is list:
        index = key if isinstance(key, int) else int(key) if key.isascii() and key.isdigit() and len(key) < 10 else -1
        return node[index] if 0 <= index < len(node) else _MISSING
    return _MISSING


def _state(expression: Expression, scope: Scope) -> Any:
    if expression.step != ARGS and expression.keys == (STATE,):
        return scope.states.get(expression.step, _MISSING)
    return _MISSING


def _nowhere(expression: Expression, scope: Scope) -> str:
    if expression.step == ARGS:
        return "The play's arguments hold nothing at this path."
    if expression.step in scope.outputs or expression.step in scope.states:
        ended = scope.states.get(expression.step, "DONE")
        why = "" if ended == "DONE" else f" (it ended as {ended})"
        return f"The output of step {expression.step} holds nothing at this path{why}."
    return f"There is no earlier step {expression.step} with an output."


def _weight(value: Any, limit: int) -> int:
    """About how many characters a value has as JSON; counting ends beyond `limit`."""
    weight, rest = 0, [value]
    while rest and weight <= limit:
        node = rest.pop()
        weight += len(node) + 2 if isinstance(node, str) else 4
        if isinstance(node, Mapping):
            rest += node.values()
            weight += sum(map(len, node))
        elif isinstance(node, list):
            rest += node
    return weight


def _as_text(value: Any, path: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ValidationFailed("The value has no form as text.", path=path) from None


def _key(match: re.Match[str]) -> str | int:
    plain, index, quoted = match.groups()
    if plain is not None:
        return str(plain)
    if index is not None:
        return int(index)
    try:
        return str(json.loads(quoted))
    except ValueError:
        raise _Malformed("The quoted key is not a JSON string.") from None


def bare(text: str) -> str:
    """The expression without its braces."""
    text = text.strip()
    if text.startswith(_OPEN) and text.endswith(_CLOSE):
        return text[len(_OPEN) : -len(_CLOSE)]
    return text


def _texts(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Every text in a value that may hold an expression, with its path."""
    if isinstance(value, str):
        if _OPEN in value:
            yield value, path
    elif depth > DEPTH_LIMIT:
        raise ValidationFailed(f"The value is nested deeper than {DEPTH_LIMIT} levels.", path=path)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{path}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]", depth + 1)
