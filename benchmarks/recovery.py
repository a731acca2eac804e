"""(f) What is left after kill -9 in the midst of a backlog: a pool process, and the whole worker with its successor."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack

from bson import ObjectId

from benchmarks.bed import PROCESSES, Bed
from benchmarks.contender import SLOW, calls
from benchmarks.deployment import Deployment
from benchmarks.measure import Row, Size

TITLE = "(f) kill -9 with 500 steps in hand, half of them done: seconds until all are, and how many are lost"
PLAYS = 500
MOST_S = 2.0
POLL_S = 0.01


def run(bed: Bed, size: Size) -> list[Row]:
    """Two rows a store; a worker that is killed as a whole is started again at once."""
    stores = ["SQLite"] if bed.mongo is None else ["SQLite", "MongoDB"]
    return [
        _row(bed, f"{what}: {store}", store, size.rounds // 2 + 1, whole=whole)
        for store in stores
        for what, whole in (("a pool process", False), ("the whole worker", True))
    ]


def _row(bed: Bed, name: str, store: str, rounds: int, *, whole: bool) -> Row:
    """Each round has a ledger of its own, so that nothing is left of the one before."""
    runs = []
    for number in range(rounds):
        database = bed.mongo_database() if store == "MongoDB" else None
        deployment = bed.deployment(f"{store}-{number}-{whole:d}-killed", database=4, store=database or "")
        runs.append(_killed(bed, deployment, whole=whole))
    seconds = statistics.median(took for took, _, _ in runs)
    lost, again = sum(lost for _, lost, _ in runs), sum(again for _, _, again in runs)
    met = seconds < MOST_S and lost == 0
    told = f"{lost} lost, {again} called again"
    return Row(name, f"{seconds:.2f} s", told, "", f"under {MOST_S:g} s, 0 lost", met)


def _killed(bed: Bed, deployment: Deployment, *, whole: bool) -> tuple[float, int, int]:
    """Seconds from the kill until all plays are over, how many did not end well, and calls beyond one for each."""
    with ExitStack() as stack:
        worker = stack.enter_context(deployment.worker(PROCESSES))
        time.sleep(0.5)  # its children are ready, too
        bed.reset()
        ids = deployment.fill(calls(bed, deployment, 1, SLOW), PLAYS)
        deployment.platform.bell.ring(["default"])
        bed.after(PLAYS // 2)
        began = time.perf_counter()
        if whole:
            worker.kill()
            stack.enter_context(deployment.worker(PROCESSES))
        else:
            os.kill(worker.children()[0], signal.SIGKILL)
        bed.after(PLAYS)  # to ask the ledger all the time would slow it down
        over = _over(deployment, ids, began + 60)
        took = time.perf_counter() - began
        return took, PLAYS - over, bed.effects() - PLAYS


def _over(deployment: Deployment, ids: Sequence[ObjectId], until: float) -> int:
    """Wait for all plays to be over; how many are done."""
    ledger = deployment.platform.ledger
    while True:
        over = ledger.over(ids, company_id=deployment.company_id)
        if len(over) == len(ids) or time.perf_counter() > until:
            return sum(play["status"] == "DONE" for play in over)
        time.sleep(POLL_S)
