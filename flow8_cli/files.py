"""Reads what a command is given as `FILE`, where `-` stands for standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from flow8_core.errors import ValidationFailed


def read_bytes(source: str, *, path: str) -> bytes:
    """The bytes. Raises `ValidationFailed` at `path`, the name of the argument or option."""
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is no file name"
        raise ValidationFailed(f"The file cannot be read: {reason}.", path=path) from None


def read_text(source: str, *, path: str) -> str:
    """The text. Raises as `read_bytes`, and where it is not UTF-8."""
    try:
        return read_bytes(source, path=path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValidationFailed("The file is not UTF-8 text.", path=path) from None


def read_object(source: str, *, path: str) -> dict[str, Any]:
    """The JSON object. Raises as `read_bytes`, and for anything else than one strict JSON object."""
    from flow8_runtime import notation

    data = read_bytes(source, path=path)
    try:
        value = notation.read(data, form="json")
    except ValidationFailed as error:
        faults = [(path + place.removeprefix("$"), message) for place, message in error.problems]
        raise ValidationFailed.from_problems(faults) from None
    if not isinstance(value, dict):
        raise ValidationFailed("The file must hold a JSON object.", path=path)
    return value
