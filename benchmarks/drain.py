"""(d) Durable steps: as many as go at once, and one at a time on an idle worker, against a bare task and a chain."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks import handwritten
from benchmarks.bed import Bed
from benchmarks.measure import Row, Run, Size, below, faster, paired
from flow8_runtime.definition import Flow

TITLE = "(d) durable steps, against a bare Celery task and a Celery chain (neither keeps anything)"
MANY = 5  # bursts of so many times the usual steps: these are short
IDLE_ROUNDS = 8
PAUSE_S = 0.4  # longer than any drain lasts
TEN = 10
Send = Callable[[], Any]


def run(bed: Bed, size: Size) -> list[Row]:
    """Rates, then latencies."""
    one, ten = (_flow(bed, count) for count in (1, TEN))
    steps = size.steps * MANY

    def submit(flow: Flow) -> Send:
        return lambda: bed.submit(flow)

    with bed.our_worker(), bed.handwritten_worker():
        rates = [
            _rate("single steps a second", size, _bursts(bed, submit(one), handwritten.call.delay, steps), steps),
            _rate(
                "steps a second, plays of ten",
                size,
                _bursts(bed, submit(ten), handwritten.ten_in_a_row, steps // TEN, each=TEN),
                steps,
            ),
        ]
        rounds = size.rounds * IDLE_ROUNDS
        single = paired(rounds, _idle(bed, submit(one), 1), _idle(bed, handwritten.call.delay, 1))
        chain = paired(rounds, _idle(bed, submit(ten), TEN), _idle(bed, handwritten.ten_in_a_row, TEN))
    return [*rates, below("one step, idle", single, aim=0.007), below("a play of ten, idle", chain, aim=0.020)]


def _flow(bed: Bed, count: int) -> Flow:
    url = f"{bed.plain_url}/call"
    steps = [bed.step("http-request", order, url=url, method="POST", body={}) for order in range(1, count + 1)]
    return Flow.parse({"name": "bench", "steps": steps})


def _bursts(bed: Bed, ours: Send, theirs: Send, plays: int, *, each: int = 1) -> tuple[Run, Run]:
    effects = plays * each
    return lambda: bed.burst(ours, plays, effects=effects), lambda: bed.burst(theirs, plays, effects=effects)


def _rate(name: str, size: Size, bursts: tuple[Run, Run], steps: int) -> Row:
    mine, bare = paired(size.rounds, *bursts)
    return faster(name, (f"{steps / mine:.0f}", f"{steps / bare:.0f}"), bare / mine, aim=2.0)


def _idle(bed: Bed, send: Send, effects: int) -> Run:
    def run() -> float:
        time.sleep(PAUSE_S)
        return bed.burst(send, 1, effects=effects)

    return run
