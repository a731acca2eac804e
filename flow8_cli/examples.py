"""Examples in `--help`: command lines to copy, each on a line of its own."""

from __future__ import annotations

from rich.markup import escape

WIDTH = 76  # a longer one would wrap on a terminal of 80 columns


def examples(*lines: str) -> str:
    """The epilog of a command. A line that begins with a space goes on with the one before."""
    shown = [f"  [cyan]{escape(line)}[/cyan]" for line in lines]
    return "\n".join(["[bold]Examples[/bold]", *shown])
