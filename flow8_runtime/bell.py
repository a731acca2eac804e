"""Wakes workers from outside of one: a producer, a command, the API.

The first ring goes out at once. Those that follow within four milliseconds are made one, which a thread sends at their
end: a producer that hands in a thousand plays a second would spend half of its time, and workers some of theirs, on
wake-ups of which each says the same.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

import redis

from flow8_core.errors import Flow8Error
from flow8_runtime import broker
from flow8_runtime.settings import Settings
from flow8_runtime.wakeup import Wakeup

TOGETHER_S = 0.004


class Bell:
    """The broker's wake-ups for one process and all its threads. The broker is looked for when it is first needed, and
    again until it is there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wakeup: Wakeup | None = None
        self.flags: redis.Redis | None = None
        self._finding = threading.Lock()
        self._changed = threading.Condition()
        self._rung_at: dict[str, float] = {}
        self._pending: set[str] = set()
        self._thread: threading.Thread | None = None
        self._closed = False

    def ring(self, queues: Iterable[str]) -> None:
        """Wake workers, now or within four milliseconds. Without a broker there is none alive to wake: a worker looks
        into the ledger when it starts, and where the broker does not answer now, the sweep wakes one later."""
        for queue in queues:
            if not self._put_off(queue):
                self._send(queue)

    def find(self) -> Wakeup | None:
        """The broker's wake-up; None where there is no broker yet."""
        with self._finding:
            found = broker.find(self._settings) if self._wakeup is None else None
            if found is not None:
                self.flags = found.flags()
                self._wakeup = Wakeup(self.flags)
            return self._wakeup

    def close(self) -> None:
        """Ring what was put off, and close the connection."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        self._send_pending()
        atexit.unregister(self._send_pending)
        if self.flags is not None:
            self.flags.close()

    def _put_off(self, queue: str) -> bool:
        """Whether a ring joins those that go out together in a moment."""
        now = time.monotonic()
        with self._changed:
            if now - self._rung_at.get(queue, -TOGETHER_S) >= TOGETHER_S:
                self._rung_at[queue] = now
                return False
            self._pending.add(queue)
            if self._thread is None or not self._thread.is_alive():  # after a fork, it lives in the parent alone
                atexit.register(self._send_pending)
                self._thread = threading.Thread(target=self._send_later, name="flow8-bell", daemon=True)
                self._thread.start()
            self._changed.notify()
            return True

    def _send_later(self) -> None:
        while not self._closed:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closed)
            time.sleep(TOGETHER_S)
            self._send_pending()

    def _send_pending(self) -> None:
        """Ring what was put off. Whoever is put off from here on has committed too late for these rings, and is rung
        for anew."""
        with self._changed:
            queues, self._pending = self._pending, set()
            self._rung_at.update(dict.fromkeys(queues, time.monotonic()))
        for queue in queues:
            self._send(queue)

    def _send(self, queue: str) -> None:
        wakeup = self.find()
        if wakeup is not None:
            with suppress(Flow8Error):
                wakeup.ring(queue)
