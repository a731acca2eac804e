"""How many of the steps that one write claims are marked as about to be called."""

from __future__ import annotations

from flow8_modules.effect import Effect
from flow8_runtime.claims import Claim, Prepared, Preparer


class Sparing:
    """The `Preparer` of one write. Whatever is marked is in doubt at a kill: of the steps that must not be repeated it
    leaves all but `most` to the threads that will call them, to prepare and to mark."""

    def __init__(self, preparer: Preparer, most: int) -> None:
        self._preparer = preparer
        self._left = most
        self.ahead = preparer.ahead

    def prepare(self, claim: Claim) -> Prepared | None:
        """As `Preparer.prepare`."""
        prepared = self._preparer.prepare(claim)
        if prepared is None or prepared.effect is not Effect.ONCE:
            return prepared
        self._left -= 1
        return prepared if self._left >= 0 else None
