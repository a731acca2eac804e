"""Clocks give UTC in whole milliseconds; a deadline is a total, not a pause between two bytes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flow8_core.clock import Clock, Deadline, ManualClock, SystemClock, to_millis
from flow8_core.errors import ExecutionTimeout


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["system", "manual"])
def test_now_is_utc_in_whole_milliseconds(clock: Clock) -> None:
    now = clock.now()

    assert now.tzinfo is UTC
    assert now.microsecond % 1000 == 0


def test_the_system_clock_is_the_machines() -> None:
    clock = SystemClock()

    before = datetime.now(UTC)
    told = clock.now()
    assert timedelta(milliseconds=-1) <= told - before < timedelta(seconds=5)

    first = clock.monotonic()
    assert clock.monotonic() >= first


def test_milliseconds_are_cut_not_rounded() -> None:
    moment = datetime(2026, 4, 4, 10, 0, 0, 999_999, tzinfo=UTC)

    assert to_millis(moment) == datetime(2026, 4, 4, 10, 0, 0, 999_000, tzinfo=UTC)


def test_a_manual_clock_moves_both_hands_and_only_when_told() -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    start = clock.monotonic()

    assert (clock.now(), clock.monotonic()) == (datetime(2026, 1, 1, tzinfo=UTC), start)
    clock.advance(90.5)

    assert clock.now() == datetime(2026, 1, 1, 0, 1, 30, 500_000, tzinfo=UTC)
    assert clock.monotonic() == start + 90.5


def test_a_deadline_runs_out_once_and_for_all() -> None:
    clock = ManualClock()
    deadline = Deadline.after(10, clock)

    clock.advance(4)
    assert deadline.remaining() == pytest.approx(6)
    assert deadline.check("the call") == pytest.approx(6)
    assert not deadline.over

    clock.advance(6)
    assert deadline.over
    assert deadline.remaining() == 0.0

    clock.advance(100)
    assert deadline.remaining() == 0.0


def test_checking_a_deadline_that_is_over_says_what_took_too_long() -> None:
    clock = ManualClock()
    deadline = Deadline.after(0, clock)

    with pytest.raises(ExecutionTimeout, match=r"^The upload did not finish in time"):
        deadline.check("The upload")


@pytest.mark.parametrize(("seconds", "left"), [(3, 3), (10, 10), (50, 10), (0, 0)])
def test_a_capped_deadline_is_the_sooner_of_the_two(seconds: float, left: float) -> None:
    deadline = Deadline.after(10, ManualClock())

    assert deadline.capped(seconds).remaining() == pytest.approx(left)
