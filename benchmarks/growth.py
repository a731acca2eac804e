"""(g) How the rate of a drain grows with what lies in the ledger: it should not."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from benchmarks.bed import Bed
from benchmarks.contender import AT_ONCE, Contender, Work
from benchmarks.engine import both_stores
from benchmarks.measure import Row, Size

TITLE = "(g) steps a second, by how many steps lie in the ledger"
LEAST = 1000
IN_MEMORY = 10  # the part of it that a server which keeps all in memory is asked for
WORK = Work("at once", 1, (AT_ONCE,))
FLAT = 0.8  # of the rate with the least


def run(bed: Bed, size: Size) -> list[Row]:
    """A row for each power of ten, on each store."""
    with both_stores(bed) as contenders:
        for each in contenders:
            each.halt()
        return [row for each in contenders for row in _rows(bed, each, size)]


def _rows(bed: Bed, each: Contender, size: Size) -> Iterator[Row]:
    """Fill up to the next power of ten, then take from it what does not count beside it."""
    most = size.ledger if each.name == "SQLite" else size.ledger // IN_MEMORY
    lying, wanted, first = 0, LEAST, 0.0
    while wanted <= most:
        began = time.perf_counter()
        taken = min(size.drained, wanted // 2)
        each.fill(WORK, wanted - lying)
        filled = (wanted - lying) / (time.perf_counter() - began)
        rates = []
        for _ in range(size.rounds):
            rates.append(_rate(bed, each, taken))
            each.fill(WORK, taken)
        lying, rate = wanted, statistics.median(rates)
        first = first or rate
        told = f"filled at {filled:,.0f} plays/s"
        yield Row(
            f"{wanted:,}: {each.name}",
            f"{rate:,.0f}/s",
            told,
            f"{rate / first:.2f}x",
            f"at least {FLAT:g}x",
            rate >= first * FLAT,
        )
        wanted *= 10


def _rate(bed: Bed, each: Contender, steps: int) -> float:
    bed.reset()
    began = time.perf_counter()
    each.worker.go_on()
    each.wake()
    ended = bed.after(steps)
    each.halt()
    return steps / (ended - began)
