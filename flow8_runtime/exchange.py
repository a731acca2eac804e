"""Where caller threads hand in what their steps came to, and get their next ones: one of them acts for all that wait.

Only one writes at a time anyway, and a transaction costs more than what stands in it: so whoever has the turn lands the
outcomes of all that have come meanwhile, takes up their plays' next steps and claims others for those that still have
none, in one write. The others wait for a lock, and not for the interpreter's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flow8_core.errors import StoreUnavailable
from flow8_runtime.claims import Claim, Landing, Outcome

MOST = 64  # that are handed in by one write

Land = Callable[[Sequence[Outcome], int], Landing]


@dataclass(eq=False)
class HandIn:
    """What one thread brings, and whether it wants a step that is not the next of the same play, too."""

    outcome: Outcome | None
    wants: bool
    claim: Claim | None = None
    landing: Landing | None = None
    error: Exception | None = None

    @property
    def settled(self) -> bool:
        return self.landing is not None or self.error is not None


@dataclass
class Exchange:
    """`land(outcomes, claims)` writes for all; claims that nobody has use for go to `give_back`."""

    land: Land
    give_back: Callable[[list[Claim]], None]
    _waiting: list[HandIn] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def swap(self, hand_in: HandIn) -> Landing:
        """Hand in; on return its `claim` is the next step, if there is one. Gives what was written with it, and perhaps
        with others; raises what landing raises."""
        with self._guard:
            self._waiting.append(hand_in)
        with self._turn:
            while not hand_in.settled:  # else somebody who had the turn has done it
                self._act(self._taken())
        if hand_in.error is not None:
            raise hand_in.error
        assert hand_in.landing is not None  # noqa: S101  # settled without an error
        return hand_in.landing

    def _taken(self) -> list[HandIn]:
        with self._guard:
            taken, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        return taken

    def _act(self, taken: list[HandIn]) -> None:
        outcomes = [each.outcome for each in taken if each.outcome is not None]
        try:
            landing = self.land(outcomes, sum(each.wants for each in taken))
        except StoreUnavailable as error:
            for each in taken:
                each.error = error
        except Exception as error:  # noqa: BLE001  # one of them cannot be landed: the others must not suffer for it
            if len(taken) == 1:
                taken[0].error = error
                return
            for each in taken:
                self._act([each])
        else:
            self._share_out(landing, taken)

    def _share_out(self, landing: Landing, taken: list[HandIn]) -> None:
        """A play's next step goes to the thread that had the one before; the rest to those that want one."""
        claims = [*landing.next, *landing.claims]
        for each in taken:
            each.landing = landing
            play_id = None if each.outcome is None else each.outcome.claim.play_id
            own = next((claim for claim in landing.next if claim.play_id == play_id), None)
            if own is not None and own in claims:
                each.claim = own
                claims.remove(own)
        for each in taken:
            if each.claim is None and each.wants and claims:
                each.claim = claims.pop(0)
        if claims:  # a play was moved on in between, and gave a step beside the one claimed elsewhere
            self.give_back(claims)
