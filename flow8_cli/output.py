"""What commands print: one JSON document where asked for, else tables; errors in plain words on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from flow8_core.errors import Flow8Error, ValidationFailed

BAD_INPUT, FAILED = 2, 1

# Colour per status word; a status that is none of these stays plain.
STATUS_STYLE = {
    "DONE": "green", "done": "green", "active": "green", "ok": "green",
    "FAIL": "red", "failed": "red", "dead_letter": "red", "revoked": "red",
    "outcome_unknown": "magenta",
    "parked": "yellow", "needs_reconnect": "yellow", "app_blocked": "yellow", "warning": "yellow",
    "calling": "cyan", "claimed": "cyan", "RUN": "cyan",
    "waiting": "dim", "queued": "dim", "filtered": "dim", "skipped": "dim", "cancelled": "dim",
}  # fmt: skip


class Output:
    """stdout for the result, stderr for all else. Rich leaves colour out by itself where it is piped."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False)
        self.notes = Console(stderr=True, highlight=False)

    def document(self, value: Any) -> None:
        """The one JSON document of `--json`."""
        sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
        sys.stdout.flush()

    def line(self, value: Any) -> None:
        """One line of JSON lines."""
        sys.stdout.write(json.dumps(value, default=str) + "\n")
        sys.stdout.flush()

    def table(self, columns: Iterable[str], rows: Iterable[Iterable[Any]], *, title: str | None = None) -> None:
        """A table for people; values that are status words are coloured."""
        table = Table(title=title, title_justify="left", header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(styled(value) for value in row))
        self.console.print(table)

    def say(self, text: str) -> None:
        """A remark for people, on stderr, with Rich markup."""
        self.notes.print(text)

    def error(self, error: Flow8Error) -> int:
        """Report an error and give the exit code that goes with it."""
        if self.as_json:
            self.document({"error": {**error.to_dict(), **_problems(error)}})
        else:
            self.notes.print(f"[red]{error.code}[/red]", end=" ")
            self.notes.print(error.message, markup=False)
            for path, message in _problem_list(error):
                self.notes.print(f"  {path}: {message}", markup=False)
        return BAD_INPUT if isinstance(error, ValidationFailed) else FAILED


def styled(value: Any) -> str:
    """A cell: Rich markup for a status word, else the plain text."""
    text = "" if value is None else str(value)
    style = STATUS_STYLE.get(text)
    escaped = text.replace("[", r"\[")
    return f"[{style}]{escaped}[/{style}]" if style else escaped


def _problem_list(error: Flow8Error) -> tuple[tuple[str, str], ...]:
    if isinstance(error, ValidationFailed) and len(error.problems) > 1:
        return error.problems
    return ()


def _problems(error: Flow8Error) -> Mapping[str, Any]:
    if not isinstance(error, ValidationFailed):
        return {}
    return {"problems": [{"path": path, "message": message} for path, message in error.problems]}
