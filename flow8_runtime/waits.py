"""Who waits for what: plays with a step parked until a link is reconnected, and how they are let go.

A step says it in `waiting_for` ("link:<id>"), its play in the head of that name (`heads.waited_for`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from bson import ObjectId

from flow8_core.store import Store
from flow8_runtime import transitions
from flow8_runtime.definition import Flow
from flow8_runtime.documents import PLAYS, Play
from flow8_runtime.heads import several, waited_for
from flow8_runtime.plays import Apply, Change, Plays, readable

RELEASED_AT_ONCE = 200
SHOWN = 20  # plays
_ANYTHING: Mapping[str, str] = {"$gt": ""}


class Waiting(NamedTuple):
    """A thing that is waited for, such as "link:<id>", and in which company."""

    company_id: ObjectId
    waiting_for: str


class Waits:
    """The waits of all companies, for the sweep; what concerns one link takes its `company_id`."""

    def __init__(self, store: Store, plays: Plays, flow: Callable[[str], Flow]) -> None:
        self._store = store
        self._plays = plays
        self._flow = flow

    def each(self) -> Iterator[Waiting]:
        """Everything that is waited for, once: one seek for each, however many plays wait for it."""
        seen: set[Waiting] = set()
        for company_id, head in self._heads(_ANYTHING):
            for waiting_for in waited_for(head):
                waiting = Waiting(company_id, waiting_for)
                if waiting not in seen:
                    seen.add(waiting)
                    yield waiting

    def plays(self, waiting_for: str, *, company_id: ObjectId, limit: int = 0) -> list[Play]:
        """The plays of a company that wait for this, the most recent ones first."""
        found = [
            play
            for head in self._heads_with(waiting_for, company_id)
            for play in self._store.find(PLAYS, {"waiting_for": head, "company_id": company_id}, limit=limit)
        ]
        found.sort(key=lambda play: play["created_at"], reverse=True)
        return found[:limit] if limit else found

    def count(self, waiting_for: str, *, company_id: ObjectId) -> int:
        """How many plays of a company wait for this."""
        heads = self._heads_with(waiting_for, company_id)
        return sum(self._store.count(PLAYS, {"waiting_for": head, "company_id": company_id}) for head in heads)

    def describe(self, waiting_for: str, *, company_id: ObjectId) -> dict[str, Any]:
        """Who waits for this, as answers show it: `{plays, steps: [{play_id, flow, step, since}]}`, of the newest plays
        where they are many."""
        shown = [
            {"play_id": str(play["_id"]), "flow": play["name"], "step": name, "since": state["parked_at"].isoformat()}
            for play in self.plays(waiting_for, company_id=company_id, limit=SHOWN)
            for name, state in play["steps"].items()
            if state.get("waiting_for") == waiting_for
        ]
        return {"plays": self.count(waiting_for, company_id=company_id), "steps": shown}

    def release(self, waiting_for: str, *, company_id: ObjectId, now: Callable[[], datetime]) -> int:
        """Queue the steps of a company that wait for this. Returns how many plays had any."""
        return sum(
            self._release(head, waiting_for, company_id, now) for head in self._heads_with(waiting_for, company_id)
        )

    def _heads_with(self, waiting_for: str, company_id: ObjectId) -> list[str]:
        """The heads of a company's plays that wait for this, alone or among others."""
        others = [head for _, head in self._heads(several(company_id)) if waiting_for in waited_for(head)]
        return [waiting_for, *others]

    def _heads(self, among: Mapping[str, str]) -> Iterator[tuple[ObjectId, str]]:
        end = {name: bound for name, bound in among.items() if name == "$lt"}
        fields = ("waiting_for", "company_id")
        while found := self._store.find(
            PLAYS, {"waiting_for": among}, sort=[("waiting_for", 1)], limit=1, fields=fields
        ):
            yield found[0]["company_id"], found[0]["waiting_for"]
            among = {"$gt": found[0]["waiting_for"], **end}

    def _release(self, head: str, waiting_for: str, company_id: ObjectId, now: Callable[[], datetime]) -> int:
        released = 0
        while plays := self._store.find(PLAYS, {"waiting_for": head, "company_id": company_id}, limit=RELEASED_AT_ONCE):
            moment = now()
            changes = [
                Change(play, self._releasing(play, waiting_for, moment)) for play in plays if readable(play, self._flow)
            ]
            done = sum(play is not None for play in self._plays.commit(changes))
            released += done
            if not done:
                break
        return released

    def _releasing(self, play: Play, waiting_for: str, now: datetime) -> Apply:
        flow = self._flow(play["definition"])
        return lambda play: transitions.release(play, flow, waiting_for, now=now)
