"""What leaves beside the steps' own calls: events are announced and the outbox is drained, for a bounded time.

In a thread of its own and not within the sweep: a receiver that answers slowly must not delay what the dead left.
"""

from __future__ import annotations

from credentials.outbox import BUDGET_S, Drained
from flow8_core.clock import Deadline
from flow8_runtime.platform import Platform


def send_out(platform: Platform, *, budget_s: float = BUDGET_S) -> Drained:
    """One pass, which begins nothing after `budget_s` seconds. Raises `StoreUnavailable`."""
    end = Deadline.after(budget_s, platform.clock)
    platform.alerts.announce()
    platform.announcer.announce(end)
    return platform.outbox.drain(budget_s=end.remaining())
