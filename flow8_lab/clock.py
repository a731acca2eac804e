"""The laboratory's clock, which tests may put forward instead of waiting."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Seconds since the epoch, plus what it was put forward by."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset_s

    def advance(self, seconds: float) -> None:
        """Put the clock forward, so that codes, tokens and grace periods run out."""
        self.offset_s += seconds

    def stamp(self, at: float | None = None) -> str:
        """A time (now, where none is given) as RFC 3339 in UTC, to the second."""
        moment = datetime.fromtimestamp(self() if at is None else at, UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
