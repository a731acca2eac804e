"""Finds plays that have something due, for claiming: fair among companies and credentials.

What is due lies in lanes, one for each credential of a company. A look skips from lane to lane by the index, passes
over those that were told to wait or have their share in hand, and takes some plays of each: what ten thousand rows of
one lane cost the others is one seek. Among the lanes begun plays go before new ones, then the longest due.

Several claimers that all took the head of a lane would win few of their compare-and-sets. So where there is plenty, the
processes of a worker keep to a portion each, those of different hosts begin at a random place of what they have read,
and all look anew after a moment. What is read may have been taken since it matched, and has no heads then: not every
server gives a document as it was.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from flow8_core.store import Store
from flow8_runtime.documents import PLAYS, Play
from flow8_runtime.heads import credential_of
from flow8_runtime.shares import Turn
from flow8_runtime.states import RANKS
from flow8_runtime.throttles import Throttles

WINDOW = 64  # plays that one look reads, for this claim and the next ones
FEW = 16  # so many of a lane are taken in their order
PLENTY = 8  # of a claimer's own portion, above which it leaves the rest to others
LANES = 16  # that one look visits
LOOKS = 16  # that one claim takes for finding anything; the next one goes on from there
LANES_ASKED = 64  # that are asked whether anything in them is due
KEPT_FOR = timedelta(seconds=0.2)
FRESH_FOR = timedelta(seconds=0.05)
FEW_LANES = 4


@dataclass
class _Lane:
    """What was read of one lane."""

    name: str
    company: ObjectId
    plays: deque[Play]


class _Look:
    """The candidates of one queue, read at one moment in the lanes that were seen before that. What has changed since
    fails its compare-and-set."""

    def __init__(self, seen_at: datetime, read_at: datetime, heads: Sequence[Play], lanes: list[_Lane]) -> None:
        self.seen_at = seen_at
        self.read_at = read_at
        self.heads = heads
        self.lanes = deque(lanes)

    def fresh(self, now: datetime) -> bool:
        """Whether reading these lanes again is worth a try before all lanes are looked for again."""
        return self.seen_at <= now < self.seen_at + FRESH_FOR and 0 < len(self.heads) <= FEW_LANES

    def usable(self, now: datetime) -> bool:
        return self.read_at <= now < self.read_at + KEPT_FOR and any(lane.plays for lane in self.lanes)

    def take(self, besides: Collection[ObjectId], shares: Turn | None) -> Play | None:
        """The next play: of the lanes with room the one whose head goes first, in turns."""
        best: _Lane | None = None
        for lane in self.lanes:
            while lane.plays and lane.plays[0]["_id"] in besides:
                lane.plays.popleft()
            if not lane.plays or (best is not None and lane.plays[0]["rank"] >= best.plays[0]["rank"]):
                continue
            if shares is None or shares.room(lane.company, lane.name) > 0:
                best = lane
        if best is None:
            return None
        self.lanes.remove(best)
        self.lanes.append(best)
        if shares is not None:
            shares.take(best.company, best.name)
        return best.plays.popleft()


@dataclass(frozen=True, slots=True)
class Portion:
    """What one of several claimers takes first where there is plenty, so that they do not race for the same."""

    index: int = 0
    of: int = 1

    def holds(self, play_id: ObjectId) -> bool:
        """Whether a play belongs to it: ids that were made in a row go to one after the other."""
        return int.from_bytes(play_id.binary[-2:]) % self.of == self.index


class Candidates:
    """Looks into the queues. Reads only. Threads share one: no play is given to two of them at a time."""

    def __init__(self, store: Store, throttles: Throttles, rng: random.Random) -> None:
        self._store = store
        self._throttles = throttles
        self._rng = rng
        self.portion = Portion()
        self._looks: dict[str, _Look] = {}
        self._cursors: dict[str, str] = {}
        self._given: set[ObjectId] = set()
        self._next_due: datetime | None = None
        self._lock = threading.Lock()

    def take(
        self, count: int, *, queues: Sequence[str], now: datetime, besides: Collection[ObjectId], shares: Turn | None
    ) -> list[Play]:
        """Up to `count` plays with something due in the queues, without those in `besides`. `give_back` them once the
        claim is written or given up. Each has taken a slot of its lane in `shares`."""
        taken: list[Play] = []
        with self._lock:
            for queue in queues:
                while len(taken) < count:
                    play = self._next(queue, now, besides, shares)
                    if play is None:
                        break
                    taken.append(play)
                    self._given.add(play["_id"])
        return taken

    def give_back(self, plays: Collection[Play]) -> None:
        """These are not being claimed any more."""
        with self._lock:
            self._given.difference_update(play["_id"] for play in plays)

    @property
    def more(self) -> bool:
        """Whether the last looks have shown more than was taken of them."""
        return any(lane.plays for look in tuple(self._looks.values()) for lane in tuple(look.lanes))

    def next_due(self) -> datetime | None:
        """When the first of the plays is due which were seen and were not due yet; told once."""
        moment, self._next_due = self._next_due, None
        return moment

    def watch(self, queues: Sequence[str], *, now: datetime, shares: Turn) -> None:
        """See who waits, where nobody has looked for a while: plays that go on in place look at nothing."""
        with self._lock:
            for queue in queues:
                look = self._looks.get(queue)
                if look is None or not look.seen_at <= now < look.seen_at + KEPT_FOR:
                    self._look(queue, now, shares)

    def forget(self) -> None:
        """Look anew next time: somebody else is claiming as well."""
        with self._lock:
            self._looks.clear()

    def any_due(self, queues: Sequence[str], *, now: datetime) -> bool:
        """Whether something is due in the queues that may be claimed: what was told to wait may not."""
        return any(self._any_due(queue, now) for queue in queues)

    def due_queues(self, *, now: datetime) -> set[str]:
        """The queues that have something due; one seek for each queue that there is."""
        queues: list[str] = []
        while True:
            beyond = {"queue": {"$gt": queues[-1] if queues else ""}}
            found = self._store.find(PLAYS, beyond, sort=[("queue", 1)], limit=1, fields=("queue",))
            if not found:
                return {queue for queue in queues if self.any_due((queue,), now=now)}
            if "queue" in found[0]:
                queues.append(found[0]["queue"])

    def _next(self, queue: str, now: datetime, besides: Collection[ObjectId], shares: Turn | None) -> Play | None:
        look = self._looks.get(queue)
        play = look.take(besides, shares) if look is not None and look.usable(now) else None
        if play is None and look is not None and look.fresh(now):
            look = self._looks[queue] = self._read(queue, look.heads, look.seen_at, now, shares)
            play = look.take(besides, shares)
        return play or self._searched(queue, now, besides, shares)

    def _searched(self, queue: str, now: datetime, besides: Collection[ObjectId], shares: Turn | None) -> Play | None:
        """Look on until there is something to take; nothing is said to be done before the lanes were gone through."""
        seen: set[str] = set()
        for _ in range(LOOKS):
            look = self._look(queue, now, shares)
            play = look.take(besides, shares)
            lanes = {head["lane"] for head in look.heads}
            if play is not None or len(lanes) < LANES or lanes & seen:
                return play
            seen |= lanes
        return None

    def _look(self, queue: str, now: datetime, shares: Turn | None) -> _Look:
        """Some lanes more, from where the last look ended, round and round."""
        heads = list(self._heads(queue, self._cursors.get(queue, ""), LANES))
        if heads:
            self._cursors[queue] = heads[-1]["lane"]
        look = self._looks[queue] = self._read(queue, heads, now, now, shares)
        return look

    def _read(self, queue: str, heads: Sequence[Play], seen_at: datetime, now: datetime, shares: Turn | None) -> _Look:
        """The plays that are due in the lanes of these heads."""
        lanes: list[_Lane] = []
        each = max(1, WINDOW // max(1, len(heads)))
        for head in self._admitted(heads, now):
            plays = self._due(queue, head["lane"], each, now)
            if plays:
                lanes.append(_Lane(head["lane"], head["company_id"], deque(self._turned(plays))))
        if shares is not None:
            shares.seen({lane.name: lane.company for lane in lanes}, now=now.timestamp())
        return _Look(seen_at, now, heads, lanes)

    def _heads(self, queue: str, after: str, most: int) -> Iterator[Play]:
        """One play of each lane, `most` lanes: those behind `after`, then those up to it."""
        last, wrapped = after, after == ""
        for _ in range(most):
            beyond = {"queue": queue, "lane": {"$gt": last}}
            found = self._store.find(PLAYS, beyond, sort=[("lane", 1)], limit=1, fields=("lane", "company_id"))
            if not found and not wrapped:
                last, wrapped = "", True
                beyond = {"queue": queue, "lane": {"$gt": last}}
                found = self._store.find(PLAYS, beyond, sort=[("lane", 1)], limit=1, fields=("lane", "company_id"))
            if not found or (wrapped and after != "" and found[0].get("lane", "") > after):
                return
            if "lane" in found[0]:
                last = found[0]["lane"]
                yield found[0]

    def _admitted(self, heads: Sequence[Play], now: datetime) -> list[Play]:
        """Those whose lane was not told to wait."""
        keys = {head["lane"]: (credential_of(head["lane"]), head["lane"]) for head in heads}
        told = self._throttles.of(key for pair in keys.values() for key in pair)
        return [head for head in heads if all(told.get(key, now) <= now for key in keys[head["lane"]])]

    def _any_due(self, queue: str, now: datetime) -> bool:
        heads = list(self._heads(queue, "", LANES_ASKED))
        admitted = self._admitted(heads, now)
        return len(heads) == LANES_ASKED or any(self._due(queue, head["lane"], 1, now) for head in admitted)

    def _due(self, queue: str, lane: str, count: int, now: datetime) -> list[Play]:
        """The longest due of a lane, urgent and begun ones first, in the order in which to take them."""
        lying = {"queue": queue, "lane": lane}
        found = self._store.find(PLAYS, lying, sort=[("rank", 1), ("due_at", 1)], limit=count)
        if len(found) == count and not all(_is_due(play, now) for play in found):  # they may hide what is due
            found = []
            for rank in RANKS:
                due: dict[str, Any] = {**lying, "rank": rank, "due_at": {"$lte": now}}
                found += self._store.find(PLAYS, due, sort=[("due_at", 1)], limit=count - len(found))
                if len(found) == count:
                    break
        self._note_next(found, now)
        return [play for play in found if _is_due(play, now) and play["_id"] not in self._given]

    def _note_next(self, found: Sequence[Play], now: datetime) -> None:
        """Clocks are not the same everywhere: what was handed in just now may be due in a moment."""
        for play in found:
            if "due_at" in play and play["due_at"] > now:
                self._next_due = min(play["due_at"], self._next_due or play["due_at"])

    def _turned(self, found: list[Play]) -> list[Play]:
        """Those of the first rank begun at a random place, where they are many; of plenty, our portion alone."""
        alike = sum(play["rank"] == found[0]["rank"] for play in found)
        if alike <= FEW:
            return found
        own = [play for play in found[:alike] if self.portion.holds(play["_id"])]
        if len(own) > PLENTY:
            found, alike = own, len(own)
        first = self._rng.randrange(alike)
        return found[first:alike] + found[:first] + found[alike:]


def _is_due(play: Play, now: datetime) -> bool:
    """Whether it still has something due: it may have been taken since it matched."""
    return "due_at" in play and play["due_at"] <= now
