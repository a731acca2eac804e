"""Who may hold how many of a process's slots: where others wait, nobody more than a fair share.

Counted from what is in hand in this process, so that nothing can leak: a process that dies takes its counts along. Each
process keeps to it, and so does the deployment.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from bson import ObjectId

Attempt = tuple[ObjectId, str, int]  # play, step, n

REMEMBERED_S = 1.0  # how long somebody counts as waiting after having been seen to wait


class Shares:
    """`slots` is how many steps this process has in flight at most. Threads share one."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._slots: dict[Attempt, tuple[ObjectId, str]] = {}
        self._held: Counter[ObjectId | str] = Counter()
        self._waiting: dict[str, tuple[ObjectId, float]] = {}
        self._lock = threading.Lock()

    def take(self, attempt: Attempt, company: ObjectId, lane: str) -> None:
        """A step has got a slot: from its claim on, for whoever claims next must count it."""
        with self._lock:
            self._slots[attempt] = (company, lane)
            self._held[company] += 1
            self._held[lane] += 1

    def leave(self, attempt: Attempt) -> None:
        """A step gives its slot back, for its play's next step before all others. A second time is harmless."""
        with self._lock:
            for name in self._slots.pop(attempt, ()):
                self._held[name] -= 1
                if self._held[name] <= 0:
                    del self._held[name]

    def turn(self) -> Turn:
        """The view of one who claims now."""
        return Turn(self)

    def seen(self, lanes: Mapping[str, ObjectId], *, now: float) -> None:
        """These lanes, each with its company, have something due at this moment (seconds, of a clock that goes on)."""
        with self._lock:
            self._waiting = {lane: seen for lane, seen in self._waiting.items() if now - seen[1] < REMEMBERED_S}
            self._waiting.update((lane, (company, now)) for lane, company in lanes.items())

    def room(self, company: ObjectId, lane: str, taken: Mapping[ObjectId | str, int]) -> int:
        """How many slots more this lane of this company may take, besides those that are being `taken`."""
        with self._lock:
            share = part = self._part(1)
            if len(self._waiting) > (lane in self._waiting):  # mostly a lane is alone
                share = self._part(len({company, *(each for each, _ in self._waiting.values())}))
                part = self._part_of_lane(share, company, lane)
            return min(
                share - self._held.get(company, 0) - taken.get(company, 0),
                part - self._held.get(lane, 0) - taken.get(lane, 0),
            )

    def _part(self, companies: int) -> int:
        """Even alone a company leaves some slots free, or calls that begin in step would block a newcomer."""
        if companies > 1:
            return -(-self.slots // companies)
        return max(1, self.slots - max(1, self.slots // 8))

    def _part_of_lane(self, share: int, company: ObjectId, lane: str) -> int:
        lanes = {lane, *(name for name, (each, _) in self._waiting.items() if each == company)}
        return -(-share // len(lanes))


class Turn:
    """The shares as one sees them who claims several steps by one write: what it takes counts at once."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._taken: Counter[ObjectId | str] = Counter()

    def seen(self, lanes: Mapping[str, ObjectId], *, now: float) -> None:
        """As `Shares.seen`."""
        self._shares.seen(lanes, now=now)

    def take(self, company: ObjectId, lane: str) -> None:
        """This one takes a slot, should its claim be written."""
        self._taken[company] += 1
        self._taken[lane] += 1

    def leave(self, company: ObjectId, lane: str) -> None:
        """It does not take that one after all."""
        self._taken[company] -= 1
        self._taken[lane] -= 1

    def room(self, company: ObjectId, lane: str) -> int:
        """How many slots more this lane of this company may take."""
        return self._shares.room(company, lane, self._taken)
