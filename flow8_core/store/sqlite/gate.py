"""One writer at a time, in all processes: a queue in front of SQLite's own lock.

SQLite's busy handler sleeps in steps of 1 to 100 ms, and its lock is taken when a transaction first writes. This gate
is taken before the transaction begins, and the kernel frees it when its holder dies.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

from flow8_core.errors import StoreUnavailable

PATIENCE_S = 1.5
_FIRST_PAUSE_S = 0.00005
_LONGEST_PAUSE_S = 0.001


class Gate:
    """A process-wide lock, then an flock on a file beside the database. Not reentrant, and of no use after a fork."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def enter(self) -> bool:
        """Take the gate; False where it has been closed. Raises `StoreUnavailable` after `PATIENCE_S` seconds."""
        until = time.monotonic() + PATIENCE_S
        if not self._threads.acquire(timeout=PATIENCE_S):
            raise self._stuck()
        try:
            if self._file >= 0:
                self._lock_file(until)
                return True
        except BaseException:
            self._threads.release()
            raise
        self._threads.release()
        return False

    def leave(self) -> None:
        """Let the next one in."""
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()

    def close(self) -> None:
        """Leave for good: whoever waits is told so."""
        os.close(self._file)  # which unlocks it
        self._file = -1
        self._threads.release()

    def _lock_file(self, until: float) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise self._stuck() from None
                time.sleep(pause)
                pause = min(pause * 1.2, _LONGEST_PAUSE_S)
            else:
                return

    def _stuck(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"Another process has held the write lock {self._path} for {PATIENCE_S} s; "
            "look for a stopped flow8 process (`fuser` names it) and end or continue it."
        )
