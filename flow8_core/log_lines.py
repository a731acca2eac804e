"""What a log line looks like: one JSON object, or text for a terminal, with flow8's fields first and in one order."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

FIELDS = "flow8_fields"  # the attribute of a record that holds its keys and values
_NONE: Mapping[str, Any] = MappingProxyType({})
_TRACES = ("exception", "stack")

_BOLD, _DIM, _CYAN, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[36m", "\x1b[0m"
_COLOURS = {"debug": "\x1b[36m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_shape(record), default=str, ensure_ascii=False)


class TextLines(logging.Formatter):
    """A line to read: time, level, message, then the fields as key=value; traces follow below."""

    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        shape = _shape(record)
        timestamp, level, component, message = (
            str(shape.pop(key)) for key in ("timestamp", "level", "component", "message")
        )
        traces = [str(shape.pop(key)) for key in _TRACES if key in shape]
        fields = [f"{self._in(_CYAN, key)}={_value(value)}" for key, value in shape.items()]
        colour = _COLOURS.get(level, "")
        head = f"{self._in(_DIM, timestamp)} {self._in(colour, f'{level:<8}')} {self._in(_BOLD, message)}"
        return "\n".join([" ".join([head, *fields, self._in(_DIM, f"[{component}]")]), *traces])

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colours and colour else text


def _shape(record: logging.LogRecord) -> dict[str, Any]:
    """All that a line says. The time is the record's own, and no caller can forge the first four fields."""
    shape = {
        "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "component": record.name,
        "message": record.getMessage(),
    }
    traces = {}
    if record.exc_info and record.exc_info[0] is not None:
        traces["exception"] = _PLAIN_TRACES.formatException(record.exc_info)  # without local variables
    if record.stack_info:
        traces["stack"] = record.stack_info
    return {**shape, **getattr(record, FIELDS, _NONE), **traces, **shape}


_PLAIN_TRACES = logging.Formatter()


def _value(value: Any) -> str:
    """A text that holds no blank as it stands, and anything else so that its end can be seen."""
    return value if isinstance(value, str) and value and not any(map(str.isspace, value)) else repr(value)
