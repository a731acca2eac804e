"""Time, handed in: nothing else in this code base asks the machine what time it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from flow8_core.errors import ExecutionTimeout


class Clock(Protocol):
    """What time it is (`now`: UTC, whole milliseconds, as the stores keep it) and how long it takes (`monotonic`)."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return to_millis(datetime.now(UTC))

    monotonic = staticmethod(time.monotonic)


class ManualClock:
    """A clock that moves only when told to, for tests of every window."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = to_millis(start or datetime(2026, 4, 4, 10, 0, tzinfo=UTC))
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both hands forward by `seconds`."""
        self._now = to_millis(self._now + timedelta(seconds=seconds))
        self._monotonic += seconds


def to_millis(moment: datetime) -> datetime:
    """The moment cut to whole milliseconds, as MongoDB keeps dates."""
    beyond = moment.microsecond % 1000
    return moment - timedelta(0, 0, beyond) if beyond else moment  # `replace` takes three times as long


class Deadline(NamedTuple):
    """A total time limit that starts when it is made: what requests' per-read timeout is not.

    `at` is a reading of `clock.monotonic()`, in seconds.
    """

    at: float
    clock: Clock

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> Deadline:
        """A deadline `seconds` from now."""
        return cls(clock.monotonic() + seconds, clock)

    def remaining(self) -> float:
        """Seconds left; 0.0 once it is over."""
        return max(0.0, self.at - self.clock.monotonic())

    @property
    def over(self) -> bool:
        return self.remaining() <= 0.0

    def check(self, what: str) -> float:
        """Seconds left; raises `ExecutionTimeout` where none are, saying that `what` took too long."""
        left = self.remaining()
        if left <= 0.0:
            raise ExecutionTimeout(f"{what} did not finish in time; raise the step's timeout or make it do less.")
        return left

    def capped(self, seconds: float) -> Deadline:
        """This deadline, or one `seconds` from now where that is sooner."""
        return Deadline(min(self.at, self.clock.monotonic() + seconds), self.clock)
