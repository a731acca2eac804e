"""Finds what looks like a secret pasted into a flow: allowed, for flow8's own example does so, and unwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flow8_core import redaction
from flow8_runtime import notation
from flow8_runtime.definition import Flow

ADVICE = "looks like a secret; connect a link or store a component, and let the step name it"


def pasted_secrets(flow: Flow) -> list[tuple[str, str]]:
    """Warnings as (JSON path, message); the values are not echoed."""
    return [
        (path, ADVICE)
        for index, step in enumerate(flow.steps)
        for path, text in _texts(step.input_mapping, f"steps[{index}].input_mapping")
        if redaction.scrub(text) != text
    ]


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, notation.member(path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]")
