"""Processes that a command starts for its own time: they die with it, however it dies."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PR_SET_PDEATHSIG = 1
GRACE_S = 10.0


def start(
    arguments: list[str],
    *,
    environ: Mapping[str, str],
    cwd: Path | None = None,
    log: Path | None = None,
    piped: bool = False,
) -> subprocess.Popen[str]:
    """Start `python -m ARGUMENTS` as a child that dies with this process. Call it from the main thread: the kernel
    counts a thread's end as the parent's death. Its stderr goes to `log`, or to ours."""
    stderr = log.open("a") if log else None
    try:
        return subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-m", *arguments],
            env=dict(environ),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else (stderr or subprocess.DEVNULL),
            stderr=stderr,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the command alone, which stops its children in order
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  # one prctl call
        )
    finally:
        if stderr is not None:
            stderr.close()


def stop(child: subprocess.Popen[str]) -> None:
    """Ask a child to end; end it after ten seconds."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
