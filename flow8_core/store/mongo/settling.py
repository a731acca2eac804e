"""What to do when the answer to a write was not heard: re-read, then decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flow8_core.clock import Deadline, SystemClock
from flow8_core.store.base import DuplicateKey
from flow8_core.store.mongo.client import ANSWER_WITHIN_S, TOTAL_S, AnswerLost, MongoConnection

T = TypeVar("T")

TIMES = 3  # that a write is issued before it is given up


def settle(
    connection: MongoConnection,
    issue: Callable[[], T],
    settled: Callable[[], T | None],
    *,
    repeat_duplicate: bool = False,
) -> T:
    """The outcome of a write, issued again only where `settled` (a re-read) does not find that it took place.

    `issue` must be harmless when an earlier, lost one takes place after all. `repeat_duplicate`: a refusal as duplicate
    may be a race that the next try resolves (upserts). Raises `StoreUnavailable` with `ambiguous` where the outcome
    cannot be found out in time.
    """
    deadline = Deadline.after(TOTAL_S, SystemClock())
    lost = False
    for attempt in range(1, TIMES + 1):
        answered, refusal = False, None
        try:
            with connection.asking(min(ANSWER_WITHIN_S, _left(connection, deadline))):
                outcome = issue()
            if outcome is not None or not lost:
                return outcome
            answered = True
        except AnswerLost:
            lost = True
        except DuplicateKey as duplicate:
            refusal = duplicate
        if lost:
            found = _reread(connection, settled, deadline)
            if found is not None or answered:
                return found  # type: ignore[return-value]  # None is what was answered
        if refusal is not None and (not repeat_duplicate or attempt == TIMES):
            raise refusal
    raise connection.doubtful()


def _reread(connection: MongoConnection, settled: Callable[[], T | None], deadline: Deadline) -> T | None:
    try:
        with connection.asking(_left(connection, deadline)):
            return settled()
    except AnswerLost:
        raise connection.doubtful() from None


def _left(connection: MongoConnection, deadline: Deadline) -> float:
    left = deadline.remaining()
    if left <= 0:
        raise connection.doubtful()
    return left
