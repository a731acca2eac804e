"""Where caller threads hand in what their steps came to, and get their next ones: one of them acts for all that wait.

Only one writes at a time anyway, and a transaction costs more than what stands in it: so whoever has the turn lands the
outcomes of all that have come meanwhile, takes up their plays' next steps and claims others for those that still have
none, in one write. The others wait for a lock, and not for the interpreter's.

Where calls are over before another thread could be woken, one thread does it all: it takes steps ahead, calls them one
after the other, and defers what they came to until it comes for more.
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
    one that was `deferred`."""

    outcome: Outcome | None
    wants: bool
    deferred: bool = False
    claim: Claim | None = None
    error: Exception | None = None
    settled: bool = False


@dataclass
class Exchange:
    """`land(outcomes, claims, threads)` writes for all, so many of them threads that wait; `landed` hears of it, and
    `lost` of what was deferred and cannot be landed. `room`: how many steps to take ahead; what nobody is going to come
    for goes to `give_back`."""

    land: Callable[[Sequence[Outcome], int, int], Landing]
    landed: Callable[[Sequence[Outcome], Landing], None]
    lost: Callable[[Outcome, Exception], None]
    give_back: Callable[[list[Claim]], None]
    room: Callable[[], int]
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

    def defer(self, outcome: Outcome) -> Claim | None:
        """Leave an outcome to whoever writes next, and get a step that was taken ahead. Without one: None, and the
        outcome is to be swapped."""
        with self._guard:
            if not self._ahead:
                return None
            self._waiting.append(HandIn(outcome, wants=False, deferred=True))
            return self._ahead.popleft()

    def settle(self) -> None:
        """Land what was deferred, and give back what was taken ahead, where the store answers."""
        written: Written = []
        try:
            with self._turn:
                while taken := self._taken():
                    written += self._act(taken)
                self._give_back_all()
        finally:
            self._tell(written)

    def held(self) -> list[Claim]:
        """The claims that no thread works on: those of outcomes that were deferred, and what was taken ahead."""
        with self._guard:
            return [*(each.outcome.claim for each in self._waiting if each.deferred and each.outcome), *self._ahead]

    def _taken(self) -> list[HandIn]:
        with self._guard:
            taken, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        return taken

    def _tell(self, written: Written) -> None:
        for outcomes, landing in written:
            self.landed(outcomes, landing)

    def _act(self, taken: list[HandIn]) -> Written:
        outcomes = [each.outcome for each in taken if each.outcome is not None]
        wanted = sum(each.wants for each in taken)
        # what was taken ahead may be for the vendor who asks for patience
        patience = any(outcome.throttle for outcome in outcomes)
        reserved = [] if patience else self._take_ahead(wanted)
        there = 0 if patience else len(self._ahead)
        claims = wanted - len(reserved) + (max(0, self.room() - there) if wanted else 0)
        try:
            threads = sum(not each.deferred for each in taken)
            landing = self.land(outcomes, claims, threads) if outcomes or claims else Landing()
        except Exception as error:  # noqa: BLE001  # told to those whom it concerns
            self._put_back(reserved)
            if len(taken) > 1 and not isinstance(error, StoreUnavailable):
                # one of them cannot be landed: the others must not suffer for it
                return [each for alone in taken for each in self._act([alone])]
            self._fail(taken, error)
            return []
        if patience:
            self._give_back_all()
        self._share_out(landing, reserved, taken)
        return [(outcomes, landing)]

    def _fail(self, taken: list[HandIn], error: Exception) -> None:
        for each in taken:
            each.error, each.settled = error, True
            if each.deferred and each.outcome is not None:
                self.lost(each.outcome, error)

    def _share_out(self, landing: Landing, reserved: list[Claim], taken: list[HandIn]) -> None:
        """A play's next step goes to the thread that had the one before, the rest to those that want one, and what is
        left to whoever comes next."""
        following = list(landing.next)
        waiting = [each for each in taken if not each.deferred]
        for each in waiting:
            if each.outcome is not None:
                play_id = each.outcome.claim.play_id
                each.claim = next((claim for claim in following if claim.play_id == play_id), None)
                if each.claim is not None:
                    following.remove(each.claim)
        rest = deque([*reserved, *following, *landing.claims])
        for each in waiting:
            if each.claim is None and each.wants and rest:
                each.claim = rest.popleft()
        self._put_back(rest)
        for each in taken:
            each.settled = True

    def _take_ahead(self, most: int) -> list[Claim]:
        with self._guard:
            return [self._ahead.popleft() for _ in range(min(most, len(self._ahead)))]

    def _put_back(self, claims: Sequence[Claim]) -> None:
        with self._guard:
            self._ahead.extendleft(reversed(claims))

    def _give_back_all(self) -> None:
        """What is not given back because the store is away stays held, and somebody comes for it, or settles again."""
        with self._guard:
            claims, self._ahead = list(self._ahead), deque()
        if claims:
            try:
                self.give_back(claims)
            except StoreUnavailable:
                self._put_back(claims)
