"""A worker under measurement: started, halted while work is laid before it, asked what it has used, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 120.0
HALTED = {"T", "Z"}  # or dead
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Worker:
    """A running worker; `ready_s` is how long it took until it said that it is ready."""

    process: subprocess.Popen[bytes]
    ready_s: float

    def halt(self) -> None:
        """Let none of its processes go on. One that is in the kernel is halted only when it comes back from there,
        perhaps with a lock, so wait for that."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        while not all(_halted(pid) for pid in _tree(self.process.pid)):
            time.sleep(0.001)

    def go_on(self) -> None:
        """Let them go on."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End all of it, as the kernel would for want of memory."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def children(self) -> list[int]:
        """The pids of the pool processes."""
        return _children(self.process.pid)

    def child_memory(self) -> list[float]:
        """Resident memory of each pool process, in MB."""
        return [_resident(pid) for pid in self.children()]

    def cpu_s(self) -> float:
        """Processor seconds that all of its processes have used."""
        return sum(_cpu(pid) for pid in _tree(self.process.pid))


@contextmanager
def running(name: str, argv: list[str], environ: Mapping[str, str], folder: Path) -> Iterator[Worker]:
    """`python ARGV` from when it says "ready" to the end of the block; what it logs lies in the folder."""
    log = folder / f"{name}.log"
    began = time.perf_counter()
    with log.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, *argv], env=dict(environ), stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        while "ready" not in log.read_text():
            if process.poll() is not None or time.perf_counter() - began > PATIENCE_S:
                raise RuntimeError(log.read_text()[-3000:])
            time.sleep(0.005)
        yield Worker(process, time.perf_counter() - began)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _tree(pid: int) -> list[int]:
    return [pid, *(each for child in _children(pid) for each in _tree(child))]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _stat(of: Path) -> list[str]:
    """What the kernel says of a process or thread, from its state on (proc(5))."""
    return (of / "stat").read_text().rpartition(") ")[2].split()


def _halted(pid: int) -> bool:
    return all(_stat(thread)[0] in HALTED for thread in Path(f"/proc/{pid}/task").iterdir())


def _cpu(pid: int) -> float:
    fields = _stat(Path(f"/proc/{pid}"))
    return (int(fields[11]) + int(fields[12])) * TICK_S


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
