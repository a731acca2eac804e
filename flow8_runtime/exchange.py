"""Where caller threads hand in what their steps came to, and get their next ones: one of them acts for all that wait.

Only one writes at a time anyway, and a transaction costs more than what stands in it: so whoever has the turn lands the
outcomes of all that have come meanwhile, takes up their plays' next steps and claims others for those that still have
none, in one write. The others wait for a lock, and not for the interpreter's.

Where calls are over before another thread could be woken, one thread does it all: it takes steps ahead, calls them one
after the other, and leaves what they came to until it comes for more.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flow8_core.errors import StoreUnavailable
from flow8_runtime.claims import Claim, Landing, Outcome

MOST = 64  # that are handed in by one write

Written = list[tuple[list[Outcome], Landing]]


@dataclass(eq=False)
class HandIn:
    """What one thread brings, and whether it wants a step that is not the next of the same play, too. Nobody waits for
    one that was `left`."""

    outcome: Outcome | None
    wants: bool
    left: bool = False
    claim: Claim | None = None
    error: Exception | None = None
    settled: bool = False


@dataclass
class Exchange:
    """`land(outcomes, claims)` writes for all; `landed` hears of it, and `lost` of what was left and cannot be landed.
    `room`: how many steps to take ahead; those that nobody is going to come for go to `give_back`."""

    land: Callable[[Sequence[Outcome], int], Landing]
    landed: Callable[[Sequence[Outcome], Landing], None]
    lost: Callable[[Outcome, Exception], None]
    give_back: Callable[[list[Claim]], None]
    room: Callable[[], int] = lambda: 0
    _waiting: list[HandIn] = field(default_factory=list)
    _ahead: deque[Claim] = field(default_factory=deque)
    _guard: threading.Lock = field(default_factory=threading.Lock)  # of these two
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def swap(self, hand_in: HandIn) -> None:
        """Hand in; on return its `claim` is the next step, if there is one. Raises what landing raises."""
        with self._guard:
            self._waiting.append(hand_in)
        written: Written = []
        try:
            with self._turn:
                while not hand_in.settled:  # else somebody who had the turn has done it
                    written += self._act(self._taken())
        finally:
            self._tell(written)
        if hand_in.error is not None:
            raise hand_in.error

    def leave(self, outcome: Outcome) -> Claim | None:
        """Leave an outcome to whoever writes next, and get a step that was taken ahead; None, and nothing left, where
        there is none."""
        with self._guard:
            if not self._ahead:
                return None
            self._waiting.append(HandIn(outcome, wants=False, left=True))
            return self._ahead.popleft()

    def settle(self) -> None:
        """Land what was left, and give back what was taken ahead. Raises `StoreUnavailable`."""
        written: Written = []
        try:
            with self._turn:
                while taken := self._taken():
                    written += self._act(taken)
                self._return(self._take_all())
        finally:
            self._tell(written)

    def held(self) -> list[Claim]:
        """The claims that no thread works on: those of outcomes that were left, and what was taken ahead."""
        with self._guard:
            return [*(each.outcome.claim for each in self._waiting if each.left and each.outcome), *self._ahead]

    def _taken(self) -> list[HandIn]:
        with self._guard:
            taken, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        return taken

    def _take_all(self) -> list[Claim]:
        with self._guard:
            claims, self._ahead = list(self._ahead), deque()
        return claims

    def _return(self, claims: list[Claim]) -> None:
        if claims:
            self.give_back(claims)

    def _tell(self, written: Written) -> None:
        for outcomes, landing in written:
            self.landed(outcomes, landing)

    def _act(self, taken: list[HandIn]) -> Written:
        outcomes = [each.outcome for each in taken if each.outcome is not None]
        if any(outcome.throttle for outcome in outcomes):
            self._return(self._take_all())  # it may be for the vendor who asks for patience
        reserved, wanted = self._reserve(sum(each.wants for each in taken))
        try:
            landing = self.land(outcomes, wanted) if outcomes or wanted else Landing()
        except Exception as error:  # noqa: BLE001  # told to those whom it concerns
            self._put_back(reserved)
            if len(taken) > 1 and not isinstance(error, StoreUnavailable):
                # one of them cannot be landed: the others must not suffer for it
                return [each for alone in taken for each in self._act([alone])]
            self._fail(taken, error)
            return []
        self._share_out([*reserved, *landing.next, *landing.claims], taken)
        return [(outcomes, landing)]

    def _reserve(self, wanted: int) -> tuple[list[Claim], int]:
        """Of what was taken ahead, as much as is wanted now, and how many claims are to be made besides."""
        with self._guard:
            reserved = [self._ahead.popleft() for _ in range(min(wanted, len(self._ahead)))]
            return reserved, wanted - len(reserved) + max(0, self.room() - len(self._ahead))

    def _put_back(self, claims: list[Claim]) -> None:
        with self._guard:
            self._ahead.extendleft(reversed(claims))

    def _fail(self, taken: list[HandIn], error: Exception) -> None:
        for each in taken:
            each.error, each.settled = error, True
            if each.left and each.outcome is not None:
                self.lost(each.outcome, error)

    def _share_out(self, claims: list[Claim], taken: list[HandIn]) -> None:
        """A play's next step goes to the thread that had the one before; the rest to those that want one, and then to
        whoever comes."""
        waiting = [each for each in taken if not each.left]
        for each in waiting:
            if each.outcome is not None:
                play_id = each.outcome.claim.play_id
                each.claim = next((claim for claim in claims if claim.play_id == play_id), None)
                if each.claim is not None:
                    claims.remove(each.claim)
        for each in waiting:
            if each.claim is None and each.wants and claims:
                each.claim = claims.pop(0)
        self._put_back(claims)
        if not any(each.claim for each in waiting):  # nobody goes on who would come for them
            self._return(self._take_all())
        for each in taken:
            each.settled = True
