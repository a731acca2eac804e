"""What repeating a call does: the one thing a runtime must know before it calls again."""

from __future__ import annotations

from enum import StrEnum


class Effect(StrEnum):
    """Declared by a module for each of its calls.

    After a lost answer (the worker died, the connection broke after sending) the runtime repeats a call of the first
    three kinds; a ONCE call becomes `outcome_unknown`, unless the step says `on_unknown: retry`.
    """

    READ = "read"
    """Touches nothing: list files, GET."""

    REPEATABLE = "repeatable"
    """Leaves the same state however often it is done: an S3 put of one key, PUT, DELETE."""

    KEYED = "keyed"
    """The vendor de-duplicates on our idempotency key: Graph's transactionId, `Idempotency-Key`."""

    ONCE = "once"
    """Happens as often as it is called: a Slack post, POST."""

    @property
    def repeats_safely(self) -> bool:
        """Whether the call may be made again although an earlier one may have taken effect."""
        return self is not Effect.ONCE
