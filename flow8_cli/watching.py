"""Waits for a play; on a terminal with a table that follows it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from flow8_cli.output import STATUS_STYLE, Output, table
from flow8_cli.plays import STEP_COLUMNS, step_rows

if TYPE_CHECKING:
    from bson import ObjectId
    from rich.table import Table

    from flow8_runtime.door import Door

LOOK_S = 0.1

Description = dict[str, Any]


def watch(
    output: Output, door: Door, play_id: ObjectId, *, company_id: ObjectId, timeout: float, alive: Callable[[], None]
) -> Description:
    """The play once it is over, or as it stands after `timeout` seconds. `alive` is asked now and then whether waiting
    makes sense, and raises where it does not."""
    seen = _looks(door, play_id, company_id, timeout, alive)
    return deque(seen, maxlen=1).pop() if output.live is None else _drawn(output, seen)


def _looks(
    door: Door, play_id: ObjectId, company_id: ObjectId, timeout: float, alive: Callable[[], None]
) -> Iterator[Description]:
    ends = time.monotonic() + timeout
    while True:
        left = ends - time.monotonic()
        described = door.wait(play_id, company_id=company_id, timeout=max(0.0, min(LOOK_S, left)))
        yield described
        if described["status"] not in ("NEW", "RUN") or time.monotonic() >= ends:
            return
        alive()


def _drawn(output: Output, seen: Iterator[Description]) -> Description:
    from rich.live import Live

    described: Description = {}
    with Live(console=output.live, auto_refresh=False) as live:
        for described in seen:
            live.update(_table(described), refresh=True)
    return described


def _table(described: Description) -> Table:
    from rich.text import Text

    status = described["status"]
    drawn = table(STEP_COLUMNS, step_rows(described))
    drawn.title = Text.assemble(f"play {described['play_id']}  ", (status, STATUS_STYLE.get(status, "")))
    return drawn
