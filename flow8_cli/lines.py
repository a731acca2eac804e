"""Reads JSON lines, one object a line, from a file or a pipe: in constant memory, and as they come."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from flow8_core.errors import ValidationFailed

BLOCK = 1 << 16  # bytes asked for at a time
LONGEST = 1 << 20  # bytes of a line; a play's arguments take less


@dataclass(frozen=True, slots=True)
class Line:
    """A line by its number, from 1, blank ones counted: its object, or what is wrong with it as (path, message)."""

    number: int
    value: dict[str, Any]
    problems: tuple[tuple[str, str], ...] = ()


@contextmanager
def source(name: str, *, path: str) -> Iterator[BinaryIO]:
    """The file of this name, or stdin for `-`. Raises `ValidationFailed` at `path`, the option's name."""
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115  # closed below
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is no file name"
        raise ValidationFailed(f"The file cannot be read: {reason}.", path=path) from None
    with file:
        yield file


def chunks(stream: BinaryIO, *, most: int) -> Iterator[list[Line]]:
    """The lines that are not blank, up to `most` at a time: fewer where no more are there right now, so that nobody
    waits for a slow pipe."""
    read = getattr(stream, "read1", stream.read)  # what is there, however little
    ready: list[Line] = []
    number, rest = 0, b""
    while block := read(BLOCK):
        *raws, rest = (rest + block).split(b"\n")
        rest = rest[: LONGEST + 1]  # of a line without end no more is kept than tells that it is too long
        for raw in raws:
            number += 1
            if raw.strip():
                ready.append(_line(number, raw))
            if len(ready) == most:
                yield ready
                ready = []
        if ready and len(block) < BLOCK:
            yield ready
            ready = []
    if rest.strip():
        ready.append(_line(number + 1, rest))
    if ready:
        yield ready


def _line(number: int, raw: bytes) -> Line:
    from flow8_runtime import notation
    from flow8_runtime.submitting import ARGS_LIMITS

    if len(raw) > LONGEST:
        return Line(number, {}, (("", f"is longer than {LONGEST} bytes"),))
    try:
        value = notation.read(raw, form="json", limits=notation.Limits(size=LONGEST))
    except ValidationFailed as error:
        return Line(number, {}, tuple((_below(path), message) for path, message in error.problems))
    if not isinstance(value, dict):
        return Line(number, {}, (("", "must be a JSON object"),))
    faults = notation.faults(value, limits=ARGS_LIMITS)
    return Line(number, value, tuple((_below(path), message) for path, message in faults))


def _below(path: str) -> str:
    return path.removeprefix("$").removeprefix(".")
