"""The wake-up: a message that says "something is due" and carries no work.

The producer commits first, then sets a flag in Redis and publishes only where its call set it; a drainer takes the flag
down before its first claim, so whoever found it up had committed before, and is seen. Losing a message costs time,
never work: the sweep rings without looking at the flag, for a killed drainer may have left it up.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import redis

from flow8_core.errors import StoreUnavailable

FLAG_LIFE_S = 5
QUIET_S = 0.02
DEFAULT_QUEUE = "default"


class Wakeup:
    """Wakes drainers of a queue. `publish(queue)` sends the message; `flags` is the broker's own Redis."""

    def __init__(self, flags: redis.Redis, publish: Callable[[str], None]) -> None:
        self._flags = flags
        self._publish = publish
        self._last_try: dict[str, float] = {}

    def ring(self, queue: str = DEFAULT_QUEUE) -> bool:
        """Wake a drainer unless a wake-up is under way already. Call it after the ledger's commit. True if it rang.

        Raises `StoreUnavailable` where the broker does not answer: the work is safe in the ledger, and the sweep
        will wake for it.
        """
        try:
            if not self._flags.set(_flag(queue), "1", nx=True, ex=FLAG_LIFE_S):
                return False
            self._publish(queue)
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailable("The broker does not answer; check `broker` and that Redis runs.") from error
        return True

    def ring_at_leisure(self, queue: str = DEFAULT_QUEUE) -> bool:
        """`ring`, but at most once in 20 ms, for a drainer in its loop that sees more due."""
        now = time.monotonic()
        if now - self._last_try.get(queue, 0.0) < QUIET_S:
            return False
        self._last_try[queue] = now
        return self.ring(queue)

    def ring_anyway(self, queue: str = DEFAULT_QUEUE) -> None:
        """Publish whatever the flag says: for the sweep and a starting worker."""
        try:
            self._flags.set(_flag(queue), "1", ex=FLAG_LIFE_S)
            self._publish(queue)
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailable("The broker does not answer; check `broker` and that Redis runs.") from error

    def answer(self, queue: str = DEFAULT_QUEUE) -> None:
        """A drainer is here: take the flag down, before the first claim. Raises `StoreUnavailable` as `ring` does; the
        flag then falls by itself, and until it has the sweep wakes."""
        try:
            self._flags.delete(_flag(queue))
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailable("The broker does not answer; check `broker` and that Redis runs.") from error


def _flag(queue: str) -> str:
    return f"flow8:wake:{queue}"
