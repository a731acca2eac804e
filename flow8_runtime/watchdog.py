"""Ends pool processes that do not move any more: a module that holds the interpreter's lock stops even the heartbeat.

Each process writes the moment of its last sign of life into memory that it shares with its parent; the parent looks and
kills. Celery forks another one then, and the steps of the dead owner are taken back at once.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import struct
import threading
import time
from contextlib import suppress

from billiard import current_process

SLOTS = 512  # pool processes, at most
LOOK_S = 1.0

_SLOT = struct.Struct("qd")  # pid, monotonic seconds: one clock for all processes of a host

log = logging.getLogger("flow8.worker")


class Pulse:
    """Memory that a parent shares with its pool processes, made before the fork. Children `beat`, and ask whether they
    are `stopping`: the parent alone hears the signal. It asks who `hangs`."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SLOTS * _SLOT.size)
        self._stop = mmap.mmap(-1, 1)

    def stop(self) -> None:
        """Let the children take up nothing new."""
        self._stop[0] = 1

    def stopping(self) -> bool:
        return self._stop[0] == 1

    def beat(self) -> None:
        """This pool process lives."""
        _SLOT.pack_into(self._memory, _offset(), os.getpid(), time.monotonic())

    def end(self) -> None:
        """This pool process ends, and beats no more."""
        _SLOT.pack_into(self._memory, _offset(), 0, 0.0)

    def hangs(self, *, after_s: float) -> list[int]:
        """The pids of those that have not been heard of for so long."""
        now = time.monotonic()
        slots = (_SLOT.unpack_from(self._memory, slot * _SLOT.size) for slot in range(SLOTS))
        return [pid for pid, beaten_at in slots if pid and now - beaten_at > after_s]


def _offset() -> int:
    """Where a pool process writes: its place in the pool is its successor's, too."""
    return int(getattr(current_process(), "index", 0)) % SLOTS * _SLOT.size


class Watchdog:
    """The parent's look after its children. It takes no lock that a fork could inherit."""

    def __init__(self, pulse: Pulse, *, after_s: float) -> None:
        self._pulse = pulse
        self._after_s = after_s

    def start(self) -> None:
        """Look from now on, in a thread."""
        threading.Thread(target=self._watch, name="flow8-watchdog", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_S)
            for pid in self._pulse.hangs(after_s=self._after_s):
                log.error("pool process %s has not moved for %d s and is killed", pid, self._after_s)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
