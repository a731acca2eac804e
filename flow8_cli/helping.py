"""What `--help` shows of a command: its docstring in paragraphs, and examples to copy, each on a line of its own."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

import typer

WIDTH = 76  # a longer example would wrap on a terminal of 80 columns

F = TypeVar("F", bound=Callable[..., Any])

_TAG = re.compile(r"(\\*)(\[[a-z#/@][^\[]*?\])")  # what Rich would read as markup


def command(app: typer.Typer, name: str, *lines: str) -> Callable[[F], F]:
    """Make a function the command `name` of `app`, with examples."""

    def add(function: F) -> F:
        return app.command(name, help=_paragraphs(function), epilog=examples(*lines))(function)

    return add


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join(["[bold]Examples[/bold]", *(f"[cyan]{escape(line)}[/cyan]" for line in lines)])


def escape(text: str) -> str:
    """The text, so that Rich shows it as it stands. As `rich.markup.escape`, whose import would delay each command."""
    return _TAG.sub(lambda tag: f"{tag[1] * 2}\\{tag[2]}", text)


def _paragraphs(function: Callable[..., Any]) -> str:
    """The docstring without its line breaks: the terminal breaks lines where it ends."""
    text = escape(inspect.getdoc(function) or "")
    return "\n\n".join(re.sub(r"\s+", " ", paragraph) for paragraph in text.split("\n\n"))
