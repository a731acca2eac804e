"""Collects everything that is wrong with a document, and reads its fields with a harmless value where one is wrong.

Paths use the author's own spelling. Messages name keys and never echo values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from flow8_core.errors import ValidationFailed
from flow8_runtime import adapter, notation
from flow8_runtime.adapter import Spelled

N = TypeVar("N", int, float)


class Problems:
    """What is wrong so far, as (path, message)."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add(self, path: str, message: str) -> None:
        """One more."""
        self.found.append((path, message))

    def check(self) -> None:
        """Raises `ValidationFailed` with all that was found, where anything was."""
        if self.found:
            raise ValidationFailed.from_problems(self.found)

    def object(self, value: Any, path: str, names: Mapping[str, str], keys: Sequence[str]) -> Spelled | None:
        """The object in canonical spelling; None where it is none. Keys that are unknown or said twice are noted."""
        if not isinstance(value, dict):
            self.add(path or "$", "must be an object")
            return None
        given = adapter.respell(value, names)
        for key in given.twice:
            self.add(below(path, key), f"says again what {given.written(names.get(key, key))} says")
        for key, written in given.spelling.items():
            if key not in keys:
                self.add(below(path, written), "is not known here")
        return given

    def text(self, given: Spelled, key: str, path: str, *, most: int = 200) -> str:
        """A text that must be there; the empty text where it is not."""
        value = given.values.get(key)
        if isinstance(value, str) and 1 <= len(value) <= most:
            return value
        what = "is missing" if value is None else f"must be text of 1 to {most} characters"
        self.add(below(path, given.written(key)), what)
        return ""

    def number(self, given: Spelled, key: str, path: str, default: N, limits: tuple[N, N]) -> N:
        """A number within limits (both included), whole where the default is; the default where it is not."""
        value = given.values.get(key, default)
        kinds = (int, float) if isinstance(default, float) else int
        if not isinstance(value, bool) and isinstance(value, kinds) and limits[0] <= value <= limits[1]:
            return type(default)(value)
        what = "a number" if isinstance(default, float) else "a whole number"
        self.add(below(path, given.written(key)), f"must be {what} from {limits[0]} to {limits[1]}")
        return default

    def choice(self, given: Spelled, key: str, path: str, choices: tuple[str, ...]) -> Any:
        """One of several words, of which the first is the default."""
        value = given.values.get(key, choices[0])
        if isinstance(value, str) and value in choices:
            return value
        self.add(below(path, given.written(key)), f"must be {', '.join(choices[:-1])} or {choices[-1]}")
        return choices[0]


def below(path: str, key: str) -> str:
    """The path of a member; the document itself has the empty path."""
    return notation.member(path, key).removeprefix(".")
