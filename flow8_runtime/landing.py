"""Writes down what attempts came to, and takes up what follows: one batch for any number of outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bson import ObjectId

from flow8_core.store import Insert
from flow8_runtime import transitions
from flow8_runtime.claiming import Claiming
from flow8_runtime.claims import Landing, Outcome, Taken, Terms, result_of, row_of
from flow8_runtime.definition import Flow
from flow8_runtime.documents import STEP_RUNS, Play
from flow8_runtime.plays import Change, Plays
from flow8_runtime.states import LIVE_PLAYS, Result, Stale


class Lander:
    """Lands outcomes of any number of plays."""

    def __init__(self, flow: Callable[[str], Flow], plays: Plays, claiming: Claiming) -> None:
        self._flow = flow
        self._plays = plays
        self._claiming = claiming

    def land(self, outcomes: Sequence[Outcome], terms: Terms, *, take_next: bool, claim: int) -> Landing:
        """The rows first, then the plays with their next steps claimed in place, then further claims."""
        rows = [row_of(outcome) for outcome in outcomes]
        groups: dict[ObjectId, _OnePlay] = {}
        for outcome, row in zip(outcomes, rows, strict=True):
            group = groups.setdefault(outcome.claim.play_id, _OnePlay(self._flow, self._claiming, terms, take_next))
            group.add(outcome, result_of(row))
        changes = [Change(group.newest, group.apply) for group in groups.values()]
        if take_next:
            self._claiming.watch(terms)
        with terms.ahead(self._following(changes) if take_next else ()):
            for change in changes:
                self._plays.prepare(change)
        wanted = claim - sum(len(group.taken) for group in groups.values())
        taking = self._claiming.taking(wanted, terms, besides=groups.keys())
        landed: list[Play | None] = []

        def commit(claimed: list[Change]) -> list[Play | None]:
            won = self._plays.commit([*changes, *claimed], [Insert(STEP_RUNS, row) for row in rows])
            landed.extend(won[: len(changes)])
            return won[len(changes) :]

        landing = Landing(claims=self._claiming.committed(taking, commit))
        for group, play in zip(groups.values(), landed, strict=True):
            group.report(play, landing)
        if taking.changes and len(landing.claims) < wanted and not taking.alone:  # lost races
            landing.claims += self._claiming.claim(wanted - len(landing.claims), terms)
        for each in landing.claims:
            landing.note(each.play, now=terms.now)
        return landing

    def _following(self, changes: Sequence[Change]) -> list[tuple[ObjectId, str]]:
        return [each for change in changes for each in self._claiming.following(change.play)]


class _OnePlay:
    """The outcomes for one play, and what became of them on the version that was tried last."""

    def __init__(self, flow: Callable[[str], Flow], claiming: Claiming, terms: Terms, take_next: bool) -> None:
        self._flow = flow
        self._claiming = claiming
        self._terms = terms
        self._take_next = take_next
        self._outcomes: list[tuple[Outcome, Result]] = []
        self._lost: list[Outcome] = []
        self._seen: Play = {}
        self.taken: list[Taken] = []

    def add(self, outcome: Outcome, result: Result) -> None:
        """One more outcome for this play."""
        self._outcomes.append((outcome, result))

    @property
    def newest(self) -> Play:
        """The newest version of the play that the outcomes' claims know of."""
        return max((outcome.claim.play for outcome, _ in self._outcomes), key=lambda play: play["rev"])

    def apply(self, play: Play) -> Play:
        """Land each outcome that still fits, then take up what is ready. Raises `Stale` where none fits."""
        flow = self._flow(play["definition"])
        self._seen, self._lost, self.taken = play, [], []
        landed = 0
        new = play
        for outcome, result in self._outcomes:
            claim = outcome.claim
            try:
                new = transitions.land(new, flow, claim.step, claim.n, result, now=self._terms.now)
                landed += 1
            except Stale:
                if play["steps"][claim.step].get("landed") != claim.n:
                    self._lost.append(outcome)
        if not landed:
            raise Stale
        if self._take_next and new["status"] in LIVE_PLAYS:
            new, self.taken = self._claiming.take(new, flow, landed, self._terms)
        return new

    def report(self, play: Play | None, landing: Landing) -> None:
        """Say what came of it. Without a new play, the outcomes were lost or had been landed before."""
        final = play or self._seen
        landing.lost += self._lost
        if play is not None:
            landing.next += [self._terms.claim(play, taken) for taken in self.taken]
            landing.note(play, now=self._terms.now)
        if final["status"] not in LIVE_PLAYS and len(self._lost) < len(self._outcomes):
            landing.finished.append(final["_id"])
