"""Retries and patience: whether to repeat, and how long to wait."""

from __future__ import annotations

import random

import pytest

from flow8_core import errors
from flow8_core.errors import Flow8Error
from flow8_modules.effect import Effect
from flow8_runtime.definition import RetryPolicy
from flow8_runtime.retry import delay_s, patience_s

STEADY = RetryPolicy(
    max_retries=3, initial_delay_ms=1000, max_delay_ms=60_000, backoff_multiplier=2.0, jitter_fraction=0.0
)
DOWN = errors.ProviderUnavailable("down")
DOUBTFUL = errors.ProviderUnavailable("down", ambiguous=True)


def delay(
    error: Flow8Error = DOWN, *, policy: RetryPolicy = STEADY, attempt: int = 1, effect: Effect = Effect.ONCE
) -> float | None:
    return delay_s(policy, error, attempt=attempt, effect=effect, rng=random.Random(1))


@pytest.mark.parametrize(("attempt", "expected"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, None), (1000, None)])
def test_delays_grow_until_the_retries_are_used_up(attempt: int, expected: float | None) -> None:
    assert delay(attempt=attempt) == expected


@pytest.mark.parametrize("attempt", [5, 64, 90])
def test_a_delay_never_grows_beyond_its_limit(attempt: int) -> None:
    policy = RetryPolicy(max_retries=100, max_delay_ms=5000, backoff_multiplier=100.0, jitter_fraction=0.0)

    assert delay(policy=policy, attempt=attempt) == 5.0


def test_the_default_repeats_nothing() -> None:
    assert delay(policy=RetryPolicy()) is None


@pytest.mark.parametrize(
    ("error", "effect", "repeated"),
    [
        (DOWN, Effect.ONCE, True),
        (DOUBTFUL, Effect.ONCE, False),
        (DOUBTFUL, Effect.KEYED, True),
        (DOUBTFUL, Effect.REPEATABLE, True),
        (DOUBTFUL, Effect.READ, True),
        (errors.ExecutionTimeout("late"), Effect.ONCE, True),
        (errors.ExecutionTimeout("late", ambiguous=True), Effect.ONCE, False),
        (errors.VendorBadResponse("html"), Effect.READ, True),
        (errors.ProviderRejected("no"), Effect.READ, False),
        (errors.ValidationFailed("bad"), Effect.READ, False),
        (errors.InvalidGrant("dead"), Effect.READ, False),
        (errors.QuotaExceeded("monthly"), Effect.READ, False),
        (errors.OutcomeUnknown("who knows"), Effect.READ, False),
        (errors.InternalError("ours"), Effect.READ, False),
    ],
)
def test_only_what_may_help_and_does_no_harm_is_repeated(error: Flow8Error, effect: Effect, repeated: bool) -> None:
    assert (delay(error, effect=effect) is not None) is repeated


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, 1.0), (0.2, 1.0), (30.0, 30.0), (-5.0, 1.0), (1e9, 900.0), (float("inf"), 900.0), (float("nan"), 1.0)],
)
def test_what_the_vendor_asked_for_is_waited_for_within_reason(asked: float | None, expected: float) -> None:
    assert delay(errors.ProviderUnavailable("down", retry_after=asked)) == expected


def test_jitter_spreads_by_its_fraction_both_ways() -> None:
    policy = RetryPolicy(max_retries=1, initial_delay_ms=10_000, jitter_fraction=0.2)
    rng = random.Random(7)

    delays = [delay_s(policy, DOWN, attempt=1, effect=Effect.READ, rng=rng) or 0.0 for _ in range(500)]

    assert 8.0 <= min(delays) < 8.5
    assert 11.5 < max(delays) <= 12.0


def test_patience_is_what_was_asked_for_and_up_to_a_fifth_more() -> None:
    rng = random.Random(7)
    error = errors.RateLimited("slow down", retry_after=100)

    waits = [patience_s(error, attempt=1, rng=rng) for _ in range(500)]

    assert 100 <= min(waits) < 102
    assert 118 < max(waits) <= 120


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(0, 1, 1.2), (-3, 1, 1.2), (1e12, 900, 1080), (float("inf"), 900, 1080)]
)
def test_patience_has_limits(asked: float, least: float, most: float) -> None:
    wait = patience_s(errors.RateLimited("slow down", retry_after=asked), attempt=1, rng=random.Random(3))

    assert least <= wait <= most


@pytest.mark.parametrize("attempt", [1, 3, 9, 500])
def test_patience_without_a_hint_grows_and_ends_at_a_quarter_of_an_hour(attempt: int) -> None:
    rng = random.Random(5)

    waits = [patience_s(errors.RateLimited("slow down"), attempt=attempt, rng=rng) for _ in range(200)]

    assert min(waits) >= 1.0
    assert max(waits) <= min(900.0, max(2.0**attempt, 1.0))
