"""`flow8 demo`: it works from nothing, and nothing of it outlives it."""

from __future__ import annotations

import os
import pty
import re
import signal
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from tests import environment, processes
from tests.cli.kit import Home, left_behind


@pytest.fixture
def bare(tmp_path: Path) -> Home:
    """No settings, no keys, and configuration in the environment that must not matter."""
    mark = uuid.uuid4().hex
    return Home(tmp_path, environment.clean(MARK=mark, FLOW8_STORE="mongodb://127.0.0.1:1/x", TMPDIR=str(tmp_path)))


def gone(home: Home) -> bool:
    return left_behind(home.environ["MARK"]) == []


def test_the_answer_is_one_document_with_the_effects_at_each_vendor(bare: Home) -> None:
    shown = bare.run("demo", "--json")

    assert (shown.code, shown.stderr) == (0, "")
    assert shown.document["status"] == "DONE"
    assert [step["status"] for step in shown.document["steps"]] == ["done"] * 4
    assert shown.document["effects"] == {"web": 0, "s3": 1, "slack": 1, "microsoft": 1}
    assert gone(bare)
    assert list(bare.folder.iterdir()) == []


@pytest.mark.proof
def test_on_a_terminal_a_table_follows_the_play_and_the_end_shows_what_landed(bare: Home) -> None:
    parent, child = pty.openpty()
    bare.environ |= {"TERM": "xterm", "COLUMNS": "200"}
    command = bare.start("demo", stdout=child, stderr=child)
    os.close(child)
    shown = _all(parent)

    assert command.wait(30) == 0, shown
    assert shown.count("┏") > 2  # the table is drawn again and again
    for word in ("calling", "Invoice INV-001 of Example GmbH", "INV-001 is due", "refreshed once", "none can be read"):
        assert word in shown
    assert gone(bare)


def _all(terminal: int) -> str:
    chunks: list[bytes] = []
    with suppress(OSError):  # how Linux says that the other end is closed
        while chunk := os.read(terminal, 65536):
            chunks.append(chunk)
    os.close(terminal)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(chunks).decode())


@pytest.mark.parametrize(
    ("number", "after"),
    [
        pytest.param(signal.SIGINT, "laboratory", marks=pytest.mark.proof),
        (signal.SIGTERM, "slack"),
        pytest.param(signal.SIGINT, "play", marks=pytest.mark.proof),
        (signal.SIGKILL, "play"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_however_it_is_ended_no_process_is_left(bare: Home, number: signal.Signals, after: str) -> None:
    command = bare.start("demo")
    assert command.stdout is not None
    while after not in (line := command.stdout.readline()):
        assert line, command.communicate()
    if after == "play":
        processes.until(lambda: len(left_behind(bare.environ["MARK"])) > 3, "a worker on its way up")

    command.send_signal(number)
    _, errors = command.communicate(timeout=30)

    processes.until(lambda: gone(bare), f"the end of {left_behind(bare.environ['MARK'])}")
    if number != signal.SIGKILL:
        assert command.returncode == 130
        assert "Stopped" in errors
        assert "Traceback" not in errors
        assert list(bare.folder.iterdir()) == []
