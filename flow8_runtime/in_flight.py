"""What a process has in hand: claims that it works on, and outcomes that no ledger has heard of yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from bson import ObjectId

from flow8_core.clock import Clock
from flow8_runtime.claims import Claim, Outcome


@dataclass(frozen=True, slots=True)
class Entry:
    """A claim in hand, and when (monotonic seconds) it has to be over."""

    claim: Claim
    ends: float


class InFlight:
    """The claims that the threads of this process are working on, for its heartbeat."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[tuple[ObjectId, str], Entry] = {}
        self._lock = threading.Lock()

    @contextmanager
    def of(self, claim: Claim, *, most_s: float) -> Iterator[None]:
        """A context in which the claim counts as in flight, for at most so many seconds."""
        key = (claim.play_id, claim.step)
        entry = Entry(claim, self._clock.monotonic() + most_s)
        with self._lock:
            self._entries[key] = entry
        try:
            yield
        finally:
            with self._lock:
                if self._entries.get(key) is entry:
                    del self._entries[key]

    def give_up(self, claim: Claim) -> None:
        """It hangs, and its outcome is told for it: it counts no more."""
        with self._lock:
            self._entries.pop((claim.play_id, claim.step), None)

    def live(self) -> list[Claim]:
        """The claims that are within their time."""
        return [entry.claim for entry in self._all(overdue=False)]

    def overdue(self) -> list[Claim]:
        """The claims whose calls hang: they should have been over by now."""
        return [entry.claim for entry in self._all(overdue=True)]

    def _all(self, *, overdue: bool) -> list[Entry]:
        now = self._clock.monotonic()
        with self._lock:
            return [entry for entry in self._entries.values() if (now >= entry.ends) is overdue]


class Kept:
    """Outcomes that no ledger has heard of yet."""

    def __init__(self) -> None:
        self._outcomes: list[Outcome] = []
        self._lock = threading.Lock()

    def add(self, outcome: Outcome) -> None:
        """Keep one for the heartbeat, which tries again."""
        with self._lock:
            self._outcomes.append(outcome)

    def remove(self, outcome: Outcome) -> None:
        """Forget one; harmless where the heartbeat and the end of the process both landed it."""
        with self._lock, suppress(ValueError):
            self._outcomes.remove(outcome)

    def all(self) -> list[Outcome]:
        """All of them, as of now."""
        with self._lock:
            return list(self._outcomes)
