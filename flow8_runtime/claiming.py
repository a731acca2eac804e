"""Takes steps: chooses among what is ready, leaves throttled credentials alone, and wins by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bson import ObjectId

from flow8_runtime import transitions
from flow8_runtime.candidates import Candidates
from flow8_runtime.claims import Claim, Prepared, Taken, Terms
from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play
from flow8_runtime.heads import lane
from flow8_runtime.plays import Change, Plays, readable
from flow8_runtime.states import Stale
from flow8_runtime.throttles import Throttles

UNREADABLE_FOR = timedelta(minutes=1)  # how soon a play is looked at again whose definition could not be read
ROUNDS = 8  # how often a claimer looks again after it lost every race
MOST_PUT_OFF = 64  # plays that one claim looks at in vain


@dataclass(slots=True)
class Taking:
    """Claims as intended: `changes` to be committed, and for each the steps that it takes."""

    terms: Terms
    changes: list[Change] = field(default_factory=list)
    taken: list[list[Taken]] = field(default_factory=list)
    looked_at: list[Play] = field(default_factory=list)
    count: int = 0
    alone: bool = False


class Claiming:
    """The common part of claiming and of going on with a play in place."""

    def __init__(self, flow: Callable[[str], Flow], plays: Plays, candidates: Candidates, throttles: Throttles) -> None:
        self._flow = flow
        self._plays = plays
        self._candidates = candidates
        self._throttles = throttles

    def claim(self, k: int, terms: Terms) -> list[Claim]:
        """Up to `k` claims."""
        claims: list[Claim] = []
        for _ in range(ROUNDS):
            taking = self.taking(k - len(claims), terms)
            if not taking.changes:
                break
            claims += self.committed(taking, self._plays.commit)
            if len(claims) >= k or taking.alone:
                break
        return claims

    def committed(self, taking: Taking, commit: Callable[[list[Change]], Sequence[Play | None]]) -> list[Claim]:
        """Commit a taking; the claims that it came to."""
        plays: Sequence[Play | None] = ()
        try:
            plays = commit(taking.changes)
        finally:
            self._candidates.give_back(taking.looked_at)
        claims = [
            taking.terms.claim(play, each)
            for play, taken in zip(plays, taking.taken, strict=True)
            if play is not None
            for each in taken
        ]
        if len(claims) < taking.count:
            self._candidates.forget()
        return claims

    def taking(self, k: int, terms: Terms, *, besides: Collection[ObjectId] = ()) -> Taking:
        """What claiming `k` steps takes, to be `committed` by the caller together with what else it writes."""
        taking = Taking(terms)
        try:
            while taking.count < k and not taking.alone and len(taking.looked_at) < k + MOST_PUT_OFF:
                plays = self._candidates.take(
                    k - taking.count, queues=terms.queues, now=terms.now, besides=besides, shares=terms.shares
                )
                if not plays:
                    break
                taking.looked_at += plays
                self._add_all(taking, plays, k)
        except BaseException:  # nobody is going to commit it
            self._candidates.give_back(taking.looked_at)
            raise
        return taking

    def watch(self, terms: Terms) -> None:
        """See who waits, before plays are gone on with in place."""
        if terms.shares is not None:
            self._candidates.watch(terms.queues, now=terms.now, shares=terms.shares)

    def following(self, play: Play) -> Iterator[tuple[ObjectId, str]]:
        """The company and, as far as the definition tells, the credential of the step that is likely to come next."""
        groups = self._flow(play["definition"]).groups[play["group"] + 1 :]
        credential = _credential(play, self._flow(play["definition"]), groups[0][0]) if groups else None
        if credential is not None:
            yield play["company_id"], credential

    def take(self, play: Play, flow: Flow, most: int, terms: Terms, *, lost: bool = False) -> tuple[Play, list[Taken]]:
        """Claim up to `most` ready steps of a play, and put off those whose credential was told to wait.

        A step that was lost before is taken only where `lost` says so, and one whose company or credential has its
        share only at another turn.
        """
        taken: list[Taken] = []
        for name in transitions.ready(play, flow, now=terms.now, queues=terms.queues):
            not_before = self._not_before(play, flow, name)
            if not_before is not None and not_before > terms.now:
                play = transitions.postpone(play, flow, name, until=not_before)
            elif (
                len(taken) < most
                and (lost or not play["steps"][name].get("lost"))
                and _gets_slot(play, flow, name, terms)
            ):
                play, prepared = self._claimed(play, flow, name, terms)
                taken.append((name, prepared))
        return play, taken

    def _claimed(self, play: Play, flow: Flow, name: str, terms: Terms) -> tuple[Play, Prepared | None]:
        """The play with this step claimed, and marked as about to be called where it could be prepared."""
        play = transitions.claim(play, flow, name, owner=terms.owner, now=terms.now, until=terms.until)
        preparer = terms.preparer
        prepared = None if preparer is None else preparer.prepare(terms.claim(play, (name, None)))
        if prepared is None:
            return play, None
        marked = transitions.call(
            play,
            flow,
            name,
            play["steps"][name]["n"],
            until=prepared.until,
            effect=prepared.effect.value,
            credential=prepared.credential,
        )
        return marked, prepared

    def _add_all(self, taking: Taking, plays: Sequence[Play], k: int) -> None:
        """Of these plays, as many as it takes for `k` steps in all; what they need is read for all of them at once."""
        wanted = [(play["company_id"], key) for play in plays for key in self._credentials(play, taking.terms)]
        self._throttles.of(key for _, key in wanted)
        with taking.terms.ahead(wanted):
            for play in plays:
                if taking.count < k and not taking.alone:
                    self._add(taking, play, k - taking.count)

    def _add(self, taking: Taking, play: Play, most: int) -> None:
        """A step that has cost a worker its life may do so again, and should then take no neighbours with it: it is
        claimed alone."""
        if taking.terms.shares is not None:  # the slot that was taken for the play is for its steps to take
            taking.terms.shares.leave(play["company_id"], play["lane"])
        if not readable(play, self._flow):
            later = transitions.defer(play, until=taking.terms.now + UNREADABLE_FOR)
            taking.changes.append(Change(play, _once, once=True, new=later))
            taking.taken.append([])
            return
        flow = self._flow(play["definition"])
        first = next(iter(transitions.ready(play, flow, now=taking.terms.now, queues=taking.terms.queues)), None)
        alone = taking.count == 0 and first is not None and bool(play["steps"][first].get("lost"))
        new, taken = self.take(play, flow, 1 if alone else most, taking.terms, lost=alone)
        if new is not play:
            taking.changes.append(Change(play, _once, once=True, new=new))
            taking.taken.append(taken)
        taking.count += len(taken)
        taking.alone = taking.alone or (alone and bool(taken))

    def _credentials(self, play: Play, terms: Terms) -> Iterator[str]:
        if not readable(play, self._flow):
            return
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


def _gets_slot(play: Play, flow: Flow, name: str, terms: Terms) -> bool:
    """Whether company and credential have a slot left for this step, which is taken then."""
    shares = terms.shares
    if shares is None:
        return True
    company, own = play["company_id"], lane(play, flow, name)
    if shares.room(company, own) <= 0:
        return False
    shares.take(company, own)
    return True


def _once(_: Play) -> Play:
    raise Stale  # somebody else was first; there are other plays
