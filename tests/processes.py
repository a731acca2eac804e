"""Servers that tests start: children that die with the test process, on ports that nobody else has."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_libc = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """For `preexec_fn`: this process is killed when the thread that started it ends, however that ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def spawn(
    argv: Sequence[str | Path], *, output: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a server whose stdout and stderr go to `output`; it is killed when this process ends, however it ends."""
    with output.open("ab") as sink:
        return subprocess.Popen(
            [str(part) for part in argv], stdout=sink, stderr=sink, cwd=cwd, env=env, preexec_fn=die_with_parent
        )


def stop(process: subprocess.Popen[bytes], *, timeout: float = 5.0) -> None:
    """End a server: politely, then not."""
    process.terminate()
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A loopback port that is free now. Where a server can bind port 0 itself, let it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def alive(pid: int) -> bool:
    """Does the process run? A zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def is_stopped(pid: int | None) -> bool:
    """Has the process been stopped by a signal, as a crash point's `stop` does?"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def until(condition: Callable[[], bool], what: str, *, timeout: float = 20.0) -> None:
    """Wait for a condition of another process, looking every 10 ms; fails naming `what` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come to pass within {timeout:g} s")
        time.sleep(0.01)
