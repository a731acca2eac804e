"""What commands print: the one JSON document of `--json`, or tables for people; all remarks go to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any
from unicodedata import category

if TYPE_CHECKING:  # Rich is imported where something is drawn: a starting worker draws nothing
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# Colour per status word; a value that is none of these stays plain.
STATUS_STYLE = {
    "DONE": "green", "done": "green", "active": "green", "ok": "green",
    "FAIL": "red", "failed": "red", "dead_letter": "red", "revoked": "red",
    "outcome_unknown": "magenta",
    "parked": "yellow", "needs_reconnect": "yellow", "app_blocked": "yellow", "warning": "yellow",
    "calling": "cyan", "claimed": "cyan", "RUN": "cyan",
    "waiting": "dim", "queued": "dim", "filtered": "dim", "skipped": "dim", "cancelled": "dim",
}  # fmt: skip

GAP = "  "  # between two columns where there are no lines
_HIDDEN = ("Cc", "Cf", "Cs")  # control and format characters (colours, direction of writing), halves of surrogates

Rows = Sequence[Sequence[Any]]


class Output:
    """stdout for the answer, stderr for everything else; colours and lines on a terminal alone."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    @cached_property
    def _answers(self) -> Console:
        return _console(stderr=False)

    @cached_property
    def _remarks(self) -> Console:
        return _console(stderr=True)

    @property
    def live(self) -> Console | None:
        """The terminal that may be drawn on again and again; None where the answer goes elsewhere."""
        return self._answers if self._answers.is_terminal and not self.as_json else None

    @property
    def remarks(self) -> Console:
        """stderr, as a console."""
        return self._remarks

    def plain(self, lines: Sequence[str]) -> None:
        """Lines of an answer for other programs, as they stand."""
        if lines:
            _write("\n".join(lines))

    def document(self, value: Any) -> None:
        """The one JSON document of `--json`."""
        _write(json.dumps(value, indent=2, default=str))

    def line(self, value: Any) -> None:
        """One line of JSON lines."""
        _write(json.dumps(value, default=str))

    def result(self, value: Any, columns: Sequence[str], rows: Rows) -> None:
        """An answer: its JSON document, or a table of it."""
        if self.as_json:
            self.document(value)
        else:
            self.table(columns, rows)

    def record(self, value: Mapping[str, Any]) -> None:
        """An answer about one thing: its JSON document, or a line for each of its fields."""
        self.result(value, ["field", "value"], [[name, plain(item)] for name, item in value.items()])

    def table(self, columns: Sequence[str], rows: Rows, *, title: str = "") -> None:
        """A table: with lines and colours on a terminal, else in columns that other programs can cut."""
        if self._answers.is_terminal:
            self._answers.print(table(columns, rows, title=title))
            return
        cells = [list(columns), *([" ".join(text(value).split()) for value in row] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = (GAP.join(map(str.ljust, row, widths)).rstrip() for row in cells)
        _write("\n".join(([title] if title else []) + list(lines)))

    def show(self, value: str | Text) -> None:
        """Part of an answer for people: text as it stands, never read as markup, never cut into lines."""
        from rich.text import Text

        self._answers.print(Text(text(value)) if isinstance(value, str) else value, soft_wrap=True)

    def say(self, message: str, *, mark: str = "", style: str = "yellow") -> None:
        """A remark, on stderr; `mark` is a word in front of it."""
        from rich.text import Text

        head = [(f"{mark} ", style)] if mark else []
        self._remarks.print(Text.assemble(*head, text(message)), soft_wrap=True)


def table(columns: Sequence[str], rows: Rows, *, title: str = "") -> Table:
    """A table for a terminal; values that are status words are coloured."""
    from rich.table import Table

    drawn = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(styled(value) for value in row))
    return drawn


def styled(value: Any) -> Text:
    """A cell."""
    from rich.text import Text

    shown = text(value)
    return Text(shown, style=STATUS_STYLE.get(shown, ""))


def text(value: Any) -> str:
    """A value as text that moves no cursor: what vendors and their users chose may hold control characters."""
    shown = "" if value is None else str(value)
    return "".join(f"\\x{ord(char):02x}" if category(char) in _HIDDEN and char != "\n" else char for char in shown)


def plain(value: Any) -> str:
    """A value of a JSON document on one line."""
    if value is None or isinstance(value, str):
        return value or ""
    return ", ".join(map(plain, value)) if isinstance(value, list | tuple) else json.dumps(value, default=str)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, emoji=False, markup=False)


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
