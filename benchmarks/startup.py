"""(c) Worker start and memory, against bare Celery with the hand-written tasks, before any SDK is used."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from benchmarks.bed import Bed
from benchmarks.measure import Row, Size, millis
from benchmarks.worker import Worker

TITLE = "(c) worker start and memory, against bare Celery (no SDK used yet)"
SETTLING_S = 1.0  # pool processes finish their own start after the worker calls itself ready
MOST_S, MOST_MB = 0.6, 40.0

Start = Callable[[], AbstractContextManager[Worker]]


def run(bed: Bed, size: Size) -> list[Row]:
    """Two rows. The first start of each reads cold files, and does not count."""
    runs = [(_started(bed.our_worker), _started(bed.handwritten_worker)) for _ in range(size.rounds + 1)][1:]
    (mine, mine_mb), (bare, bare_mb) = (
        [statistics.median(figures) for figures in zip(*side, strict=True)] for side in zip(*runs, strict=True)
    )
    more, more_mb = mine - bare, mine_mb - bare_mb
    return [
        Row(
            "start to ready",
            millis(mine),
            millis(bare),
            f"{more * 1000:+.0f} ms",
            f"under +{MOST_S * 1000:g} ms",
            more < MOST_S,
        ),
        Row(
            "memory of a pool process",
            f"{mine_mb:.0f} MB",
            f"{bare_mb:.0f} MB",
            f"{more_mb:+.0f} MB",
            f"under +{MOST_MB:g} MB",
            more_mb < MOST_MB,
        ),
    ]


def _started(start: Start) -> tuple[float, float]:
    with start() as worker:
        time.sleep(SETTLING_S)
        return worker.ready_s, statistics.mean(worker.child_memory())
