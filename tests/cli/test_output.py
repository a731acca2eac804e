"""Answers on stdout, remarks on stderr, colours on terminals alone, and nothing said of what must not be."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import typer

from flow8_cli import output as printing
from flow8_cli.output import Output
from flow8_cli.reporting import reporting
from flow8_core.errors import AccessDenied, NotFound, ValidationFailed
from tests.cli.kit import COMMAND, Home

CANARY = "canary-hunter2-of-an-error"


def exit_code_of(error: BaseException, *, as_json: bool = False) -> int:
    with pytest.raises(typer.Exit) as ended, reporting(as_json=as_json):
        raise error
    return ended.value.exit_code


@pytest.mark.parametrize(
    ("error", "code"),
    [(ValidationFailed("x", path="a"), 2), (NotFound("x"), 1), (AccessDenied("x"), 1), (KeyError(CANARY), 1)],
    ids=lambda value: type(value).__name__,
)
def test_the_exit_code_says_whether_the_input_was_at_fault(error: Exception, code: int) -> None:
    assert exit_code_of(error) == code


@pytest.mark.parametrize("error", [KeyError(CANARY), OSError(5, CANARY), RecursionError(CANARY), ValueError(CANARY)])
def test_an_error_that_nobody_foresaw_is_told_without_what_it_holds(
    capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    code = exit_code_of(error, as_json=True)

    printed = capsys.readouterr()
    told = json.loads(printed.out)["error"]
    assert (code, told["code"], told["door"]) == (1, "internal_error", "us")
    assert f"{type(error).__name__} in flow8_cli/" in told["message"]
    assert CANARY not in printed.out + printed.err
    assert "Traceback" not in printed.out + printed.err


def test_a_missing_package_is_told_with_the_command_that_installs_it(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code_of(ModuleNotFoundError("No module named 'slack_sdk.web'", name="slack_sdk.web"), as_json=True)

    message = json.loads(capsys.readouterr().out)["error"]["message"]
    assert "slack_sdk" in message
    assert "pip install" in message


def test_an_error_before_any_command_is_a_json_document_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError(CANARY)

    monkeypatch.setattr("flow8_cli.main.app", broken)

    done = home.flow8("plays", "--json")

    assert (done.code, done.document["error"]["code"]) == (1, "internal_error")
    assert CANARY not in done.said


ANSWERS: list[tuple[list[str], str]] = [
    (["plays"], "plays"),
    (["link", "list"], "links"),
    (["component", "list"], "components"),
    (["modules"], "modules"),
    (["modules", "s3-upload"], "args_example"),
    (["doctor"], "findings"),
    (["keys", "check"], "kids"),
    (["keys", "generate"], "ENC_KEY_SECRET"),
]


@pytest.mark.parametrize(("arguments", "key"), ANSWERS, ids=[" ".join(arguments) for arguments, _ in ANSWERS])
def test_json_is_one_document_and_people_get_a_table_without_colours(
    home: Home, arguments: list[str], key: str
) -> None:
    asked, shown = home.flow8(*arguments, "--json"), home.flow8(*arguments)

    assert (asked.code, shown.code) == (0, 0), asked.said
    assert key in asked.document
    assert asked.stderr == shown.stderr == ""
    assert "\x1b" not in shown.stdout
    assert not any(line in shown.stdout for line in "┃│━")


def test_on_a_terminal_there_are_colours_and_lines(home: Home) -> None:
    parent, child = pty.openpty()
    home.environ["TERM"] = "xterm"
    with os.fdopen(parent, "rb", buffering=0) as terminal:
        command = home.start("doctor", stdout=child, stderr=child)
        os.close(child)
        shown = _all(terminal)
        command.wait(30)

    assert "\x1b[32mok" in shown
    assert "┃" in shown


def _all(terminal: io.RawIOBase) -> str:
    chunks: list[bytes] = []
    with suppress(OSError):  # how Linux says that the other end is closed
        while chunk := terminal.read(65536):
            chunks.append(chunk)
    return b"".join(chunks).decode()


def test_what_a_vendor_chose_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07name\u202ereversed"

    Output(as_json=False).table(["account"], [[hostile]])
    Output(as_json=False).say(hostile)
    Output(as_json=False).show(hostile)

    printed = capsys.readouterr()
    assert not any(sign in printed.out + printed.err for sign in "\x1b\x07\u202e")
    assert printed.out.count("name") == 2


def test_text_in_brackets_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).table(["steps"], [["steps[0] [bold]x[/bold] [/]"]])
    Output(as_json=False).say("steps[0] [red]x")

    printed = capsys.readouterr()
    assert "steps[0] [bold]x[/bold] [/]" in printed.out
    assert "steps[0] [red]x" in printed.err


def test_a_piped_table_has_one_line_a_row_whatever_the_cells_hold(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).table(["a", "b"], [["one\ntwo", "x" * 300], [None, 3]], title="Title")

    assert capsys.readouterr().out.splitlines() == ["Title", "a        b", f"one two  {'x' * 300}", "         3"]


def test_values_of_documents_fit_on_a_line() -> None:
    assert [printing.plain(value) for value in (None, "a", 1, True, ["a", 2], {"a": 1})] == [
        "", "a", "1", "true", "a, 2", '{"a": 1}',
    ]  # fmt: skip


def test_whoever_has_read_enough_may_hang_up(home: Home, tmp_path: Path) -> None:
    line = " ".join(COMMAND) + " modules --json | head -c 10"

    ended = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=home.environ, capture_output=True, text=True)

    assert (ended.stdout, ended.stderr) == ('{\n  "modul', "")
