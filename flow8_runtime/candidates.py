"""Finds plays that have something due, for claiming.

What is urgent goes first, then plays that have begun, then the longest due. Several claimers that all took the head
would win few of their compare-and-sets, so each begins at a random place of a window, goes round from there for a
moment, and looks anew once it has lost one: by then it has come to where another one began.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from flow8_core.store import Store
from flow8_runtime.documents import PLAYS, Play
from flow8_runtime.states import RANKS

WINDOW = 64  # plays that are looked at, for this claim and the next ones
FEW = 16  # so many are taken in their order
KEPT_FOR = timedelta(seconds=0.2)


class _Kept:
    """Candidates of one queue, read at one moment. What has changed since fails its compare-and-set."""

    def __init__(self, read_at: datetime, plays: list[Play]) -> None:
        self.read_at = read_at
        self.plays = deque(plays)

    def take(self, count: int, besides: Collection[ObjectId]) -> list[Play]:
        taken: list[Play] = []
        while len(taken) < count:
            try:
                play = self.plays.popleft()  # atomic: threads share this
            except IndexError:
                break
            if play["_id"] not in besides:
                taken.append(play)
        return taken


class Candidates:
    """Looks into the queues. Reads only."""

    def __init__(self, store: Store, rng: random.Random) -> None:
        self._store = store
        self._rng = rng
        self._kept: dict[str, _Kept] = {}

    def find(
        self, count: int, *, queues: Sequence[str], now: datetime, besides: Collection[ObjectId] = ()
    ) -> list[Play]:
        """Up to `count` plays with something due in the queues, without those in `besides`."""
        found: list[Play] = []
        for queue in queues:
            if len(found) < count:
                kept = self._kept.get(queue)
                if kept is None or not kept.plays or not kept.read_at <= now < kept.read_at + KEPT_FOR:
                    kept = self._kept[queue] = _Kept(now, self._window(queue, max(count, FEW), now))
                found += kept.take(count - len(found), besides)
        return found

    def forget(self) -> None:
        """Look anew next time: somebody else is claiming as well."""
        self._kept.clear()

    def any_due(self, queues: Sequence[str], *, now: datetime) -> bool:
        """Whether something is due in the queues."""
        due = {"$lte": now}
        return any(self._find(queue, rank, due, 1, fields=("_id",)) for queue in queues for rank in RANKS)

    def next_due_at(self, queues: Sequence[str], *, now: datetime) -> datetime | None:
        """When the next thing becomes due after `now`."""
        moments = [
            play["due_at"]
            for queue in queues
            for rank in RANKS
            for play in self._find(queue, rank, {"$gt": now}, 1, fields=("due_at",))
        ]
        return min(moments, default=None)

    def due_queues(self, *, now: datetime) -> set[str]:
        """The queues that have something due; one seek for each queue that there is."""
        queues: list[str] = []
        while True:
            beyond = {"queue": {"$gt": queues[-1] if queues else ""}}
            found = self._store.find(PLAYS, beyond, sort=[("queue", 1)], limit=1, fields=("queue",))
            if not found:
                return {queue for queue in queues if self.any_due((queue,), now=now)}
            queues.append(found[0]["queue"])

    def _window(self, queue: str, count: int, now: datetime) -> list[Play]:
        """The longest due, `count` where there are as many, in the order in which to take them."""
        chosen: list[Play] = []
        for rank in RANKS:
            if len(chosen) < count:
                chosen += self._turned(self._find(queue, rank, {"$lte": now}, max(WINDOW, count)))
        return chosen

    def _find(self, queue: str, rank: int, due_at: Any, limit: int, *, fields: Sequence[str] = ()) -> list[Play]:
        due = {"queue": queue, "rank": rank, "due_at": due_at}
        return self._store.find(PLAYS, due, sort=[("due_at", 1)], limit=limit, fields=fields)

    def _turned(self, found: list[Play]) -> list[Play]:
        if len(found) <= FEW:
            return found
        first = self._rng.randrange(len(found))
        return found[first:] + found[:first]
