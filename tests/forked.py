"""The `flow8` command in a process of its own that begins where the fork server stands: all it imports is there, and
the keys of the tests are derived.

A fresh interpreter costs a second of a processor before the command does anything, and most tests are about what it
does then. How it really starts is what `tests/cli/kit.py` (`Home.run`, `Home.start`) is for.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.forkserver import CONTEXT


class Forked:
    """A command that runs, with as much of `subprocess.Popen` as tests use."""

    def __init__(self, process: ForkServerProcess) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self._process = process

    @property
    def returncode(self) -> int | None:
        """The exit code; that of a process which a signal ended is the signal's number, negative."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code, or None where it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code once it has ended. Raises `subprocess.TimeoutExpired` where it does not in time."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("flow8", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to this one process, where it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


def flow8(
    *arguments: str,
    environ: Mapping[str, str],
    folder: Path,
    stdout: Path,
    stderr: Path,
    stdin: Path = Path(os.devnull),
) -> Forked:
    """Start the command in `folder`, in a session of its own, with this environment and no other."""
    stdout.touch()
    stderr.touch()
    streams = [str(path) for path in (stdin, stdout, stderr)]
    process = CONTEXT.Process(target=_run, args=(arguments, dict(environ), str(folder), streams), daemon=True)
    process.start()
    return Forked(process)


def _run(arguments: Sequence[str], environ: Mapping[str, str], folder: str, streams: Sequence[str]) -> None:
    """In the new process: become what a shell would have started."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    for fd, path in enumerate(streams):
        opened = os.open(path, os.O_RDONLY if fd == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    inlet = io.BufferedReader(io.FileIO(0, closefd=False))
    sys.stdin = io.TextIOWrapper(inlet, encoding="utf-8", errors="surrogateescape")
    sys.argv = ["flow8", *arguments]

    from flow8_cli.main import main
    from flow8_core import crashpoints

    crashpoints.arm(environ.get(crashpoints.VARIABLE, ""))  # which it reads when it is imported
    main()
