"""The words of the state machine: what a step and a play can be, and the limits of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

LOST_LIMIT = 3
LIVE_LIMIT = 64  # steps of one play that are queued, parked or in flight at once
PARK_MAX = timedelta(hours=24)
LINK_PARK = timedelta(minutes=10)  # a step that waits for a link looks by itself this often
GRACE = timedelta(seconds=10)  # how long after its lease a ONCE call may still be heard of
INLINE_LIMIT = 16 * 1024  # characters of an output that lies in the play; a larger one lies in its attempt's row
INLINE_TOTAL = 128 * 1024  # of all outputs in one play, which is written anew at each transition
ROTATE_AFTER = timedelta(seconds=1)

LEVELS = {"high": 0, "normal": 1, "low": 2}  # of a step's priority; what has a lower number goes first
RANKS = tuple(range(2 * len(LEVELS)))  # of a play that has something due: 2 * level, and 1 more where it is new

READY = frozenset({"queued", "parked"})
LEASED = frozenset({"claimed", "calling"})
SUCCEEDED = frozenset({"done", "skipped", "filtered"})
BROKEN = frozenset({"failed", "outcome_unknown", "dead_letter"})
TERMINAL = SUCCEEDED | BROKEN | {"cancelled"}
LIVE_PLAYS = frozenset({"NEW", "RUN"})

ONCE = "once"


class Stale(Exception):
    """The transition's condition does not hold: somebody else was first, or it is over."""


@dataclass(frozen=True, slots=True)
class Result:
    """What an attempt came to, as a transition needs it. `status` is done, failed, skipped, filtered, parked or
    outcome_unknown; `due_at`, `waiting_for` and `counts` (uses up a retry) belong to parked. `row` is the `_id` of the
    attempt's row, where the output lies in any case."""

    status: str
    output: str | None = None
    row: str | None = None
    error: Mapping[str, Any] | None = None
    credential: str | None = None
    due_at: datetime | None = None
    waiting_for: str | None = None
    counts: bool = False
