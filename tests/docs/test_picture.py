"""The script that draws the README's picture from what a terminal was sent."""

from __future__ import annotations

import importlib.util
import io
import sys
from types import ModuleType

import pytest
from rich.console import Console
from rich.live import Live
from rich.table import Table

from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def picture() -> ModuleType:
    spec = importlib.util.spec_from_file_location("picture", ROOT / "docs" / "picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(status: str) -> Table:
    made = Table("step", "status")
    made.add_row("notify-slack", f"[green]{status}[/green]")
    return made


def test_a_live_table_is_there_once_in_its_last_state(picture: ModuleType) -> None:
    sink = io.StringIO()
    console = Console(file=sink, force_terminal=True, width=60, color_system="standard")
    console.print("before")
    with Live(console=console, auto_refresh=False) as live:
        for status in ("queued", "calling", "done"):
            live.update(table(status), refresh=True)
    console.print("after")

    lines = picture.settled(sink.getvalue())
    svg = picture.drawn(lines, title="a title")

    text = "\n".join(lines)
    assert [text.count(word) for word in ("before", "notify-slack", "queued", "calling", "done", "after")] == [
        *(1, 1, 0, 0, 1, 1)
    ]
    assert all(word in svg for word in ("a&#160;title", "notify-slack", "before"))


def test_the_picture_fetches_nothing(picture: ModuleType) -> None:
    svg = picture.drawn(["one line"], title="t")

    assert "url(http" not in svg
    assert "@font-face" not in svg
    assert (ROOT / "docs" / "demo.svg").read_text().count("url(http") == 0


def test_a_program_is_shown_as_on_a_terminal(picture: ModuleType) -> None:
    program = "import os, sys; print(sys.stdout.isatty(), os.get_terminal_size().columns); sys.exit(3)"

    raw, code = picture.recorded([sys.executable, "-c", program])

    assert (raw.split(), code) == (["True", str(picture.COLUMNS)], 3)
