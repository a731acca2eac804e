"""Crash points do nothing until they are armed, and then what they were armed with, at the visit that was named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from flow8_core import crashpoints
from flow8_core.crashpoints import CrashPointReached
from flow8_core.errors import ValidationFailed
from tests import environment

POINT = "tests.a_point"
PROGRAM = f"""
from flow8_core import crashpoints
POINT = crashpoints.register({POINT!r}, "between two prints")
for n in range(3):
    print(n, flush=True)
    crashpoints.visit(POINT)
"""

STOPS = 200
IN_A_THREAD = f"""
import os, threading
from flow8_core import crashpoints
def stops():
    for _ in range({STOPS}):
        crashpoints.arm("{POINT}:stop")
        crashpoints.visit("{POINT}")
        os.write(1, b".")
thread = threading.Thread(target=stops)
thread.start()
while thread.is_alive():
    pass
"""


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    crashpoints.arm("")


def run(armed: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment.clean(**{crashpoints.VARIABLE: armed}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_registered_point_is_listed_with_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crashpoints, "_registered", {})

    name = crashpoints.register("somewhere", "the reply is here and nothing is stored")

    assert name == "somewhere"
    assert crashpoints.registered() == {"somewhere": "the reply is here and nothing is stored"}


def test_a_point_that_is_not_armed_does_nothing() -> None:
    crashpoints.visit(POINT)
    crashpoints.arm("another:raise")
    crashpoints.visit(POINT)


def test_an_armed_point_raises_at_the_named_visit_and_only_there() -> None:
    crashpoints.arm(f"{POINT}:2:raise, another:raise")

    crashpoints.visit(POINT)
    with pytest.raises(CrashPointReached, match=POINT):
        crashpoints.visit(POINT)
    crashpoints.visit(POINT)
    with pytest.raises(CrashPointReached, match="another"):
        crashpoints.visit("another")


def test_disarming_makes_all_points_harmless_again() -> None:
    crashpoints.arm(f"{POINT}:raise")
    crashpoints.arm("")

    crashpoints.visit(POINT)


def test_kill_ends_the_process_without_a_last_word() -> None:
    process = run(f"{POINT}:2:kill")

    out, err = process.communicate()

    assert (out, err) == ("0\n1\n", "")
    assert process.returncode == -signal.SIGKILL


def test_stop_freezes_the_process_until_it_is_told_to_go_on() -> None:
    process = run(f"{POINT}:stop")

    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate()

    assert out == "0\n1\n2\n"
    assert process.returncode == 0


def test_stop_holds_the_very_thread_that_passes_before_it_does_anything_more() -> None:
    program = [sys.executable, "-c", IN_A_THREAD]
    went_on = 0

    with subprocess.Popen(program, env=environment.clean(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        try:
            for stop in range(STOPS):
                _, status = os.waitpid(process.pid, os.WUNTRACED)
                assert os.WIFSTOPPED(status)
                went_on += len(process.stdout.read() or b"")
                assert went_on == stop
                process.send_signal(signal.SIGCONT)
        finally:
            process.kill()


def test_raise_is_an_ordinary_exception() -> None:
    process = run(f"{POINT}:raise")

    out, err = process.communicate()

    assert out == "0\n"
    assert "CrashPointReached: tests.a_point" in err
    assert process.returncode == 1


@pytest.mark.parametrize("text", ["a", "a:explode", "a:0:kill", "a:-1:kill", "a:x:kill", "a:1:2:kill", ":", "a:1:"])
def test_a_form_that_the_variable_does_not_have_is_refused(text: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        crashpoints.parse(text)

    assert raised.value.path == crashpoints.VARIABLE
