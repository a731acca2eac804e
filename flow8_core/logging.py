"""Structured logs that hold no secrets, over the standard library's logging.

One JSON object a line, or coloured text on a terminal, always on stderr: stdout belongs to answers. Redaction sits in
the formatter of every handler, so it sees the finished text (message, arguments, exceptions, stacks), whichever library
wrote it. It fails closed: a record that cannot be made safe is replaced by a fixed line, never shown as it is.

`configure()` tries this out with canaries before it returns, and raises `RedactionBroken` if one comes through.
"""

from __future__ import annotations

import json as jsonlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TextIO

from flow8_core import log_canaries, redaction
from flow8_core.errors import InternalError, ValidationFailed
from flow8_core.log_lines import JsonLines, TextLines
from flow8_core.logger import Logger

UNSAFE_DEBUG = "FLOW8_UNSAFE_DEBUG"  # any value: let the pinned libraries speak at the level asked for
DROPPED = "a log record was dropped: it could not be made safe to write"

# Libraries that write tokens, bodies or queries at DEBUG or INFO (measured with canaries), and what they may say.
PINNED: dict[str, int] = {
    **dict.fromkeys(("requests_oauthlib", "oauthlib", "msal"), logging.WARNING),
    **dict.fromkeys(("requests", "urllib3", "httplib2", "httpx", "httpcore"), logging.WARNING),
    **dict.fromkeys(("slack_sdk", "googleapiclient", "google", "google_auth_httplib2"), logging.WARNING),
    **dict.fromkeys(("boto3", "botocore", "s3transfer"), logging.WARNING),
    **dict.fromkeys(("pymongo", "kombu", "amqp", "redis"), logging.WARNING),
    "celery.app.trace": logging.WARNING,  # INFO prints the task's return value
    "celery.worker.strategy": logging.WARNING,  # INFO is a line for each wake-up, which says nothing
    "celery": logging.INFO,  # DEBUG prints task bodies
}


class RedactionBroken(InternalError):
    """A canary secret came out of a log handler: the process must not start."""


class Redacting(logging.Formatter):
    """Scrubs what another formatter made of a record; where anything at all goes wrong, gives the fixed line."""

    def __init__(self, inner: logging.Formatter, *, dropped: str = DROPPED) -> None:
        super().__init__()
        self._inner = inner
        self._dropped = dropped

    def format(self, record: logging.LogRecord) -> str:
        try:
            text = redaction.scrub(self._inner.format(record))
            return text.encode("utf-8", "backslashreplace").decode("utf-8")  # a lone surrogate would fail in the stream
        except Exception:  # noqa: BLE001  # fails closed, whatever a foreign object's __str__ raises
            return self._dropped


class _OurHandler(logging.StreamHandler[TextIO]):
    """Marks the handler that `configure` put in place, so that a second call replaces it."""


def get_logger(name: str) -> Logger:
    """A logger for a file: `log = get_logger(__name__)`, then `log.info("link refreshed", link_id=...)`."""
    return Logger(logging.getLogger(name))


def configure(
    *, level: str = "INFO", json: bool | None = None, stream: TextIO | None = None, unsafe_debug: bool | None = None
) -> None:
    """Set up logging for this process, before it forks; calling it again replaces what it set up before.

    `json` None means JSON unless `stream` (stderr by default) is a terminal. `unsafe_debug` None means what
    `FLOW8_UNSAFE_DEBUG` says; redaction works in either case. Handlers that stand already are made to redact as well;
    one that is added later must be given a `Redacting` formatter by whoever adds it.
    Raises `ValidationFailed` on an unknown level and `RedactionBroken` if the self-test fails.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValidationFailed("the log level is one of DEBUG, INFO, WARNING, ERROR, CRITICAL", path="level")
    stream = stream or sys.stderr
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _OurHandler)]:
        root.removeHandler(old)
    handler = _OurHandler(stream)
    terminal = stream.isatty()
    handler.setFormatter(
        _json() if (not terminal if json is None else json) else Redacting(TextLines(colours=terminal))
    )
    root.addHandler(handler)
    root.setLevel(number)
    _pin(number, lifted=bool(os.environ.get(UNSAFE_DEBUG)) if unsafe_debug is None else unsafe_debug)
    logging.raiseExceptions = False  # else a failing stream prints the record, unredacted, to stderr
    logging.captureWarnings(True)
    _log_uncaught_errors()
    for other in handlers():
        protect(other)
    self_test()


def handlers() -> Iterator[logging.Handler]:
    """Every handler of this process that writes, the one of last resort included."""
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    seen = {handler for logger in loggers if isinstance(logger, logging.Logger) for handler in logger.handlers}
    yield from (handler for handler in seen if type(handler) is not logging.NullHandler)
    if logging.lastResort is not None and logging.lastResort not in seen:
        yield logging.lastResort


def protect(handler: logging.Handler) -> None:
    """Make a handler redact, keeping its format. A handler that writes records without formatting them cannot be."""
    if not isinstance(handler.formatter, Redacting):
        handler.setFormatter(Redacting(handler.formatter or logging.Formatter()))


def self_test() -> None:
    """Send canaries through every handler, into a buffer; raise `RedactionBroken` if one comes out."""
    for handler in handlers():
        if log_canaries.leaks(handler):
            raise RedactionBroken(
                f"The log handler {type(handler).__name__} lets secrets through, or fails, so nothing was started. "
                "Give it a flow8_core.logging.Redacting formatter, or remove it."
            )


def _json() -> Redacting:
    dropped = {"level": "error", "component": __name__, "message": DROPPED}
    return Redacting(JsonLines(), dropped=jsonlib.dumps(dropped))


def _pin(level: int, *, lifted: bool) -> None:
    for name, least in PINNED.items():
        logging.getLogger(name).setLevel(logging.NOTSET if lifted else max(level, least))


def _log_uncaught_errors() -> None:
    """An uncaught error's traceback is the commonest leak of all: it goes through the handlers too."""

    def report(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if issubclass(kind, Exception) and error is not None:
            logging.getLogger("flow8").critical("uncaught error", exc_info=(kind, error, trace))

    def in_main(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        report(kind, error, trace)
        if not issubclass(kind, Exception):
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = in_main
    threading.excepthook = lambda args: report(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: report(args.exc_type, args.exc_value, args.exc_traceback)
