"""A child ends with the process that started it, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from flow8_runtime.children import dying_with_us
from tests import environment, processes

PARENT = """
import signal, subprocess, sys, time
from flow8_runtime.children import dying_with_us
child = subprocess.Popen(dying_with_us([sys.executable, "-c", sys.argv[1]], by=signal.Signals(int(sys.argv[2]))))
print(child.pid, flush=True)
time.sleep(60)
"""
SLEEPER = "import time; time.sleep(60)"


def parent_of(program: str, by: signal.Signals) -> tuple[subprocess.Popen[str], int]:
    argv = [sys.executable, "-c", PARENT, program, str(int(by))]
    parent = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment.clean())
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_gets_its_signal_when_its_parent_ends(number: signal.Signals, by: signal.Signals) -> None:
    parent, child = parent_of(SLEEPER, by)

    parent.send_signal(number)
    parent.communicate()

    processes.until(lambda: not processes.alive(child), "the end of the child")


def test_the_program_keeps_its_arguments_its_environment_and_its_exit_code() -> None:
    argv = dying_with_us(
        [sys.executable, "-c", "import os, sys; print(sys.argv[1:], os.environ['A']); sys.exit(7)", "b c"]
    )

    ended = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "A": "d"})

    assert (ended.stdout, ended.returncode) == ("['b c'] d\n", 7)


def test_a_child_whose_parent_is_gone_before_it_begins_does_not_begin() -> None:
    argv = dying_with_us([sys.executable, "-c", "print('began')"])
    argv[argv.index(str(os.getpid()))] = "1"  # as if somebody else had started it

    ended = subprocess.run(argv, capture_output=True, text=True)

    assert (ended.stdout, ended.returncode) == ("", 1)


def test_elsewhere_than_on_linux_the_command_line_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    assert dying_with_us(["/bin/true", "x"]) == ["/bin/true", "x"]
