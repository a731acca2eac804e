"""A drainer that has found everything done stays for a moment and listens: a fresh step then needs no message.

All the while it holds the wake-up's flag up, so that producers only ring the bell and no message wakes another process
for the same step. A bell that is rung while it looks is heard right after. At the end it takes the flag down before its
last look, as every drainer does; should it die, the flag falls by itself, and the sweep wakes whoever is there.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from flow8_core.errors import StoreUnavailable
from flow8_runtime.listener import Listener
from flow8_runtime.wakeup import Wakeup

HELD_S = 1.0  # longer than a look and a wait take
BETWEEN_S = 0.002  # two looks

log = logging.getLogger("flow8.engine")

Look = Callable[[], bool]
Soon = Callable[[], float]


class Lingerer:
    """Listens in a thread of its own, which begins when it is first needed: the process's Celery side is free for other
    messages meanwhile. `look()` drains what is due and says whether nothing is left, `soon()` in how many seconds the
    next of what it has seen is due."""

    def __init__(
        self, listener: Listener, wakeup: Wakeup, look: Look, *, linger_s: float, soon: Soon = lambda: math.inf
    ) -> None:
        self._listener = listener
        self._wakeup = wakeup
        self._look = look
        self._soon = soon
        self._linger_s = linger_s
        self._changed = threading.Condition()
        self._asked: str | None = None
        self._over = False
        self._thread: threading.Thread | None = None

    def stay(self, queue: str) -> None:
        """Listen for this queue from now on, for a while."""
        with self._changed:
            self._asked = queue
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="flow8-lingerer", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop listening."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(self._linger_s + 5)

    def _live(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked is not None or self._over)
                queue, self._asked = self._asked, None
            if self._over or queue is None:
                break
            try:
                self._linger(queue)
            except StoreUnavailable as error:
                log.warning("lingering: %s", error.message)
            except Exception:
                log.exception("lingering failed; messages wake this process")
        self._listener.close()

    def _linger(self, queue: str) -> None:
        if not self._listener.listen((queue,)):
            return
        try:
            self._answer_bells(queue)
        finally:
            self._wakeup.answer(queue)
        if not self._look():
            self._wakeup.ring(queue)  # there is more than this process can do, and while it held the flag nobody rang
            self._listener.listen(())  # nobody reads the bells of a busy queue

    def _answer_bells(self, queue: str) -> None:
        """Look at each bell, and when something comes due that has been seen, until there is neither for a while or
        there is more than this process can do."""
        quiet, looked_at = True, 0.0
        while quiet and not self._over:
            self._wakeup.hold(queue, HELD_S)
            wait_s = min(self._linger_s, self._soon())
            if not self._listener.heard(wait_s) and wait_s == self._linger_s:
                return
            time.sleep(max(0.0, looked_at + BETWEEN_S - time.monotonic()))  # steps that come fast go together
            quiet = self._look()
            looked_at = time.monotonic()
