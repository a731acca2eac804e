"""`--help`: every command explains itself, with an example that can be copied."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rich.markup
import typer.main

from flow8_cli.helping import WIDTH, escape
from flow8_cli.main import app
from tests.cli.kit import Home


def commands() -> Iterator[tuple[str, ...]]:
    for name, command in sorted(typer.main.get_command(app).commands.items()):  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        yield from ((name, each) for each in sorted(below)) if below else ((name,),)


COMMANDS = list(commands())


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_shows_an_example_of_itself_on_one_line(home: Home, command: tuple[str, ...]) -> None:
    home.environ["COLUMNS"] = "80"

    shown = home.flow8(*command, "--help")

    assert shown.code == 0
    examples = shown.stdout.partition("Examples")[2].splitlines()
    mine = [line for line in examples if f"flow8 {' '.join(command)}" in line]
    assert mine, shown.stdout
    assert all(len(line) <= WIDTH + 4 for line in examples)


def test_the_commands_are_those_that_are_documented(home: Home) -> None:
    names = {command[0] for command in COMMANDS}

    expected = (
        "check",
        "component",
        "demo",
        "doctor",
        "keys",
        "lab",
        "link",
        "modules",
        "plays",
        "providers",
        "run",
        "serve",
    )
    assert names == {*expected, "worker"}


@pytest.mark.parametrize(
    ("group", "below"),
    [
        ("link", {"connect", "expiring", "import", "list", "refresh", "revoke", "show", "test"}),
        ("component", {"add", "default", "list", "rm", "show"}),
        ("keys", {"add", "check", "generate", "retire", "rotate", "status"}),
    ],
)
def test_groups_hold_what_is_documented(group: str, below: set[str]) -> None:
    assert {command[1] for command in COMMANDS if command[0] == group} == below


def test_without_a_command_the_help_is_shown_and_the_exit_code_says_bad_usage(home: Home) -> None:
    shown = home.flow8()

    assert shown.code == 2
    assert "Usage: flow8" in shown.stdout
    assert shown.stderr == ""


def test_help_is_plain_where_it_is_piped(home: Home) -> None:
    assert "\x1b" not in home.flow8("run", "--help").stdout


def test_the_shells_completion_can_be_had(home: Home) -> None:
    home.environ |= {"_FLOW8_COMPLETE": "complete_bash", "COMP_WORDS": "flow8 modules sla", "COMP_CWORD": "2"}

    completed = home.flow8()

    assert completed.stdout.split() == ["slack-message"]


@pytest.mark.parametrize(
    "text", ["steps[0].name", "[red]x[/red]", r"\[a] \\[b]", "[ARGS]...", "[/] [@click] [a", "[#fff]"]
)
def test_help_is_escaped_as_rich_escapes_it(text: str) -> None:
    assert rich.markup.escape(text) == escape(text)
