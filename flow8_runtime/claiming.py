"""Takes steps: chooses among what is ready, leaves throttled credentials alone, and wins by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bson import ObjectId

from flow8_runtime import transitions
from flow8_runtime.candidates import WINDOW, Candidates
from flow8_runtime.claims import Claim, Terms
from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play
from flow8_runtime.plays import Change, Plays, readable
from flow8_runtime.states import Stale
from flow8_runtime.throttles import Throttles

UNREADABLE_FOR = timedelta(minutes=1)  # how soon a play is looked at again whose definition could not be read
ROUNDS = 8  # how often a claimer looks again after it lost every race or met only throttled credentials


@dataclass(slots=True)
class Taking:
    """Claims as intended: `changes` to be committed, and for each the names of the steps that it takes."""

    terms: Terms
    changes: list[Change] = field(default_factory=list)
    names: list[list[str]] = field(default_factory=list)
    count: int = 0
    alone: bool = False
    throttled: bool = False


class Claiming:
    """The common part of claiming and of going on with a play in place."""

    def __init__(self, flow: Callable[[str], Flow], plays: Plays, candidates: Candidates, throttles: Throttles) -> None:
        self._flow = flow
        self._plays = plays
        self._candidates = candidates
        self._throttles = throttles

    def claim(self, k: int, *, owner: str, queues: Sequence[str], now: datetime, until: datetime) -> list[Claim]:
        """Up to `k` claims."""
        terms = Terms(owner, now, until, tuple(queues))
        claims: list[Claim] = []
        look_at = k
        for _ in range(ROUNDS):
            taking = self.taking(k - len(claims), terms, look_at=look_at)
            if not taking.changes:
                break
            claims += self.won(taking, self._plays.commit(taking.changes))
            if len(claims) >= k or taking.alone:
                break
            look_at = WINDOW if taking.throttled else k
        return claims

    def won(self, taking: Taking, plays: Sequence[Play | None]) -> list[Claim]:
        """The claims of a taking whose changes came to these plays."""
        claims = [
            taking.terms.claim(play, name)
            for play, names in zip(plays, taking.names, strict=True)
            if play is not None
            for name in names
        ]
        if len(claims) < taking.count:
            self._candidates.forget()
        return claims

    def taking(self, k: int, terms: Terms, *, look_at: int = 0, besides: Collection[ObjectId] = ()) -> Taking:
        """What claiming `k` steps takes, to be committed by the caller together with what else it writes."""
        taking = Taking(terms)
        if k <= 0:
            return taking
        plays: list[Play] = []
        for play in self._candidates.find(max(k, look_at), queues=terms.queues, now=terms.now, besides=besides):
            if readable(play, self._flow):
                plays.append(play)
            else:
                later = transitions.defer(play, until=terms.now + UNREADABLE_FOR)
                taking.changes.append(Change(play, _once, once=True, new=later))
                taking.names.append([])
        self._throttles.of(key for play in plays for key in self._credentials(play, terms))
        for play in plays:
            if taking.count >= k or taking.alone:
                break
            self._add(taking, play, k - taking.count)
        return taking

    def take(
        self, play: Play, flow: Flow, most: int, terms: Terms, *, lost: bool = False
    ) -> tuple[Play, list[str], bool]:
        """Claim up to `most` ready steps of a play and put off those whose credential was told to wait.

        A step that was lost before is taken only where `lost` says so. Gives the play, the names of the steps taken,
        and whether any was put off.
        """
        taken: list[str] = []
        put_off = False
        for name in transitions.ready(play, flow, now=terms.now, queues=terms.queues):
            not_before = self._not_before(play, flow, name)
            if not_before is not None and not_before > terms.now:
                play, put_off = transitions.postpone(play, flow, name, until=not_before), True
            elif len(taken) < most and (lost or not play["steps"][name].get("lost")):
                play = transitions.claim(play, flow, name, owner=terms.owner, now=terms.now, until=terms.until)
                taken.append(name)
        return play, taken, put_off

    def _add(self, taking: Taking, play: Play, most: int) -> None:
        """A step that has cost a worker its life may do so again, and should then take no neighbours with it: it is
        claimed alone."""
        flow = self._flow(play["definition"])
        first = next(iter(transitions.ready(play, flow, now=taking.terms.now, queues=taking.terms.queues)), None)
        alone = taking.count == 0 and first is not None and bool(play["steps"][first].get("lost"))
        new, names, put_off = self.take(play, flow, 1 if alone else most, taking.terms, lost=alone)
        if new is not play:
            taking.changes.append(Change(play, _once, once=True, new=new))
            taking.names.append(names)
        taking.count += len(names)
        taking.alone = taking.alone or (alone and bool(names))
        taking.throttled = taking.throttled or put_off

    def _credentials(self, play: Play, terms: Terms) -> Iterator[str]:
        flow = self._flow(play["definition"])
        for name in transitions.ready(play, flow, now=terms.now, queues=terms.queues):
            credential = _credential(play, flow, name)
            if credential is not None:
                yield credential

    def _not_before(self, play: Play, flow: Flow, name: str) -> datetime | None:
        credential = _credential(play, flow, name)
        return None if credential is None else self._throttles.not_before(credential)


def _credential(play: Play, flow: Flow, name: str) -> str | None:
    """What the step used last, else what its definition says; None where only running it will tell."""
    return play["steps"][name].get("credential") or flow.by_name[name].credential_hint


def _once(_: Play) -> Play:
    raise Stale  # somebody else was first; there are other plays
