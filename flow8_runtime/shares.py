"""Who may hold how many of a process's slots: where others wait, nobody more than a fair share.

Counted from what is in hand in this process, so that nothing can leak: a process that dies takes its counts along. Each
process keeps to it, and so does the deployment.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from bson import ObjectId

REMEMBERED_S = 1.0  # how long somebody counts as waiting after having been seen to wait


class Shares:
    """`slots` is how many steps this process has in flight at most. Threads share one."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._held: Counter[ObjectId | str] = Counter()
        self._waiting: dict[str, tuple[ObjectId, float]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def holding(self, company: ObjectId, lane: str) -> Iterator[None]:
        """Around the time in which a step takes a slot."""
        with self._lock:
            self._held[company] += 1
            self._held[lane] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[company] -= 1
                self._held[lane] -= 1
                self._forget(company, lane)

    def seen(self, lanes: dict[str, ObjectId], *, now: float) -> None:
        """These lanes, each with its company, have something due at this moment (seconds, of a clock that goes on)."""
        with self._lock:
            self._waiting = {lane: seen for lane, seen in self._waiting.items() if now - seen[1] < REMEMBERED_S}
            self._waiting.update((lane, (company, now)) for lane, company in lanes.items())

    def room(self, company: ObjectId, lane: str) -> int:
        """How many slots more this lane of this company may take."""
        with self._lock:
            waiting = [each for each, _ in self._waiting.values()]
            companies = len({company, *waiting})
            share = self._part(self.slots, companies)
            lanes = len({lane, *(name for name, (each, _) in self._waiting.items() if each == company)})
            of_lane = share if lanes == 1 else -(-share // lanes)
            return min(share - self._held[company], of_lane - self._held[lane])

    def fair(self, company: ObjectId) -> bool:
        """Whether this company may keep the slot that it has just used: it holds no more than its share."""
        with self._lock:
            waiting = {each for each, _ in self._waiting.values()} - {company}
            return not waiting or self._held[company] < self._part(self.slots, len(waiting) + 1)

    def _part(self, slots: int, companies: int) -> int:
        """Even alone a company leaves some slots free, or calls that begin in step would block a newcomer."""
        if companies > 1:
            return -(-slots // companies)
        return max(1, slots - max(1, slots // 8))

    def _forget(self, *names: ObjectId | str) -> None:
        for name in names:
            if self._held[name] <= 0:
                del self._held[name]
