"""When a failed attempt is repeated, and how long it waits. Nobody sleeps: the step is parked until then.

Patience (a vendor's 429, a link that somebody else refreshes) is not failure: it uses up no retries, and ends only with
the longest park.
"""

from __future__ import annotations

import random

from flow8_core.errors import Flow8Error
from flow8_modules.effect import Effect
from flow8_runtime.definition import RetryPolicy

LONGEST_WAIT_S = 900.0  # no vendor's wish is followed further
SHORTEST_WAIT_S = 1.0
SPREAD = 0.2  # those who were told to come back at one moment come back over this much more time


def delay_s(
    policy: RetryPolicy, error: Flow8Error, *, attempt: int, effect: Effect, rng: random.Random
) -> float | None:
    """Seconds until attempt `attempt` (1 is the first) is repeated; None where it is not to be repeated.

    A call that may have happened is repeated only where that does no harm (`effect`). A `retry_after` of the error is
    waited for, up to 15 minutes.
    """
    if not error.retryable or attempt > policy.max_retries:
        return None
    if error.ambiguous and not effect.repeats_safely:
        return None
    grown = policy.initial_delay_ms * policy.backoff_multiplier ** min(attempt - 1, 64)
    delay = min(grown, policy.max_delay_ms) / 1000
    delay *= 1 + policy.jitter_fraction * rng.uniform(-1, 1)
    return max(delay, _asked(error) or 0.0)


def patience_s(error: Flow8Error, *, attempt: int, rng: random.Random) -> float:
    """Seconds to wait for a vendor that asked for patience: what it said (1 s to 15 min) and up to a fifth more, or,
    where it said nothing that can be read, at random up to 2, 4, 8, ... seconds."""
    asked = _asked(error)
    if asked is not None:
        return asked * rng.uniform(1, 1 + SPREAD)
    return max(SHORTEST_WAIT_S, rng.uniform(0, min(LONGEST_WAIT_S, 2.0 ** min(attempt, 10))))


def _asked(error: Flow8Error) -> float | None:
    """What the vendor asked for, within reason; NaN and nonsense count as not asked."""
    asked = error.retry_after
    if asked is None or asked != asked:  # noqa: PLR0124  # NaN
        return None
    return min(LONGEST_WAIT_S, max(SHORTEST_WAIT_S, asked))
