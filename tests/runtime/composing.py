"""The writes that the engine composes of several transitions, worked out for the search by the very code that writes
them: landing, the next claims in place, and their `calling` marks by one compare-and-set; a claim with its mark.

What that code would ask of others is said here: which lanes have their share, which steps can be prepared, and that
the play is the one thing that is due.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from flow8_modules.effect import Effect
from flow8_runtime.claiming import Claiming
from flow8_runtime.claims import Claim, Outcome, Terms
from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play
from flow8_runtime.landing import Lander
from flow8_runtime.plays import Change
from flow8_runtime.states import Stale
from tests.runtime.kit import Prepares


@dataclass(frozen=True)
class Marked:
    """A step that could be prepared."""

    until: datetime
    effect: Effect
    credential: str | None = None


@dataclass(frozen=True)
class Full:
    """The shares of one who claims, where these lanes have theirs in hand."""

    lanes: frozenset[str]

    def room(self, _company: ObjectId, lane: str) -> int:
        return 0 if lane in self.lanes else 1

    def take(self, company: ObjectId, lane: str) -> None:
        """Counted by nobody."""

    leave = take

    def seen(self, lanes: object, *, now: float) -> None:
        """Who waits is said by `lanes`."""


@dataclass(frozen=True)
class Composer:
    """Composes writes for one play. `prepares`: the steps whose claim is written together with the mark."""

    flow: Flow
    effects: dict[str, str]
    prepares: frozenset[str]
    now: datetime
    until: datetime

    def claim(self, play: Play, owner: str, queues: tuple[str, ...], full: frozenset[str]) -> tuple[Play, list[Claim]]:
        """One step of the play, if there is one to take."""
        spot = _Spot(play, queues)
        claims = self._claiming(spot).claim(1, self._terms(owner, queues, full))
        return spot.play, claims

    def land(
        self, play: Play, outcomes: Sequence[Outcome], queues: tuple[str, ...], full: frozenset[str]
    ) -> tuple[Play, list[Claim], int]:
        """Outcomes landed, and as many next steps taken; how many came too late, or again."""
        spot = _Spot(play, ())
        lander = Lander(lambda _: self.flow, spot, self._claiming(spot))  # type: ignore[arg-type]
        terms = self._terms(outcomes[0].claim.owner, queues, full)
        landing = lander.land(outcomes, terms, take_next=True, claim=len(outcomes))
        return spot.play, landing.next, len(landing.lost)

    def _claiming(self, spot: _Spot) -> Claiming:
        return Claiming(lambda _: self.flow, spot, spot, _NoPatience())  # type: ignore[arg-type]

    def _terms(self, owner: str, queues: tuple[str, ...], full: frozenset[str]) -> Terms:
        return Terms(owner, self.now, self.until, queues, Prepares(self._prepare), Full(full))  # type: ignore[arg-type]

    def _prepare(self, claim: Claim) -> Marked | None:
        return Marked(self.until, Effect(self.effects[claim.step])) if claim.step in self.prepares else None


class _Spot:
    """The only play there is: read, offered once to who looks into its queue, and written on the spot."""

    def __init__(self, play: Play, queues: tuple[str, ...]) -> None:
        self.play = play
        self._offered = [play] if play.get("queue") in queues else []

    def take(self, *_: Any, **__: Any) -> list[Play]:
        offered, self._offered = self._offered, []
        return offered

    def give_back(self, plays: Collection[Play]) -> None:
        return

    def watch(self, *_: Any, **__: Any) -> None:
        return

    def forget(self) -> None:
        return

    def prepare(self, change: Change) -> None:
        """Worked out when it is written: nobody comes in between."""

    def commit(self, changes: Sequence[Change], first: object = ()) -> list[Play | None]:
        return [self._write(change) for change in changes]

    def _write(self, change: Change) -> Play | None:
        try:
            self.play = change.new or change.apply(self.play)
        except Stale:
            return None
        return self.play


class _NoPatience:
    """Throttles of which there are none."""

    def of(self, keys: Iterable[str]) -> dict[str, datetime]:
        list(keys)
        return {}

    def not_before(self, _key: str) -> None:
        return None
