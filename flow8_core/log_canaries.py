"""Canary secrets for log handlers: does what a handler writes hold any of them?"""

from __future__ import annotations

import io
import logging
import secrets
from collections.abc import Iterator
from typing import Any

from flow8_core import redaction
from flow8_core.log_lines import FIELDS


def leaks(handler: logging.Handler) -> bool:
    """Send records with fresh canaries through the handler, into a buffer instead of its stream.

    One canary is known to the registry, one is not and only looks like a token. True where one came out, or where the
    handler raised. Of a handler that is no stream, what its formatter makes is judged.
    """
    known = f"canary:{secrets.token_urlsafe(24)}"
    shaped = f"xoxb-{secrets.token_hex(16)}"
    redaction.register(known)
    try:
        texts = [_emitted(handler, record) for record in _records(known, shaped)]
    except Exception:  # noqa: BLE001  # a handler that raises here would raise, or print the record, at any other time
        return True
    return any(known in text or shaped in text for text in texts)


class _Unprintable:
    """What libraries sometimes pass as an argument: its text cannot be had, and the fault says too much."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        raise RuntimeError(self._text)

    __repr__ = __str__


def _records(known: str, shaped: str) -> Iterator[logging.LogRecord]:
    middle = len(known) // 2
    yield _record("self-test %s%s %s", (known[:middle], known[middle:], shaped))
    cause, error = KeyError(known), ValueError(f"refused: {shaped}")
    error.__cause__ = cause
    yield _record("self-test", (), exc_info=(ValueError, error, None), sinfo=f"stack with {known}")
    yield _record("self-test %s", (_Unprintable(known),))
    ours = _record("self-test", ())
    setattr(ours, FIELDS, {"token": [{"deep": (known, shaped)}], "error": error})
    yield ours


def _record(msg: Any, args: tuple[Any, ...], *, exc_info: Any = None, sinfo: str | None = None) -> logging.LogRecord:
    return logging.LogRecord("flow8", logging.CRITICAL, __file__, 0, msg, args, exc_info, sinfo=sinfo)


def _emitted(handler: logging.Handler, record: logging.LogRecord) -> str:
    if not isinstance(handler, logging.StreamHandler) or isinstance(getattr(type(handler), "stream", None), property):
        return handler.format(record)
    buffer = io.StringIO()
    handler.acquire()
    stream = handler.stream
    try:
        handler.stream = buffer
        if isinstance(handler, logging.FileHandler):
            logging.StreamHandler.emit(handler, record)  # without the rotation or re-opening of its subclasses
        else:
            handler.emit(record)
    finally:
        handler.stream = stream
        handler.release()
    return buffer.getvalue()
