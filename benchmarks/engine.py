"""(d) Durable steps on each store, beside bare Celery's best pool, a Celery chain and dramatiq, which keep nothing."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.bed import Bed
from benchmarks.contender import AT_ONCE, CELERY, DRAMATIQ, MONGODB, SLOW, SQLITE, Contender, Work, ours, rivals
from benchmarks.measure import Row, Run, Size, alternating, millis

TITLE = "(d) durable steps, all layers in between; beside it Celery (its best pool) and dramatiq, which keep nothing"
FAST = [Work("at once", 1, (AT_ONCE,)), Work("at once, plays of ten", 10, (AT_ONCE,))]
SLOWER = [
    Work("50 ms", 1, (SLOW,)),
    Work("50 ms, plays of ten", 10, (SLOW,)),
    Work("half at once, half 50 ms", 1, (AT_ONCE, SLOW)),
]
LIVE = (*FAST, SLOWER[0])  # measured one play after the other, too
WARMING = (FAST[0], SLOWER[0])
AIMS = {(SQLITE, "at once"): 1500, (SQLITE, "50 ms"): 1200}  # steps a second
TWICE = 2.0
IDLE_S, LINGERING_S = 0.5, 0.05  # longer than a drainer lingers, and shorter
LATENCY_ROUNDS = 3  # times the rounds of a rate


@dataclass(frozen=True)
class Latency:
    """How soon a play of so many steps is done which comes so long after the last one."""

    name: str
    steps: int
    pause_s: float
    aim: float | None = None


LATENCIES = (
    Latency("one step, idle", 1, IDLE_S),
    Latency("a play of ten, idle", 10, IDLE_S, aim=0.015),
    Latency("one step, while a drainer lingers", 1, LINGERING_S, aim=0.005),
)


@dataclass(frozen=True)
class Contest:
    """Ours on each store, and what is put beside it."""

    mine: Sequence[Contender]
    others: Sequence[Contender]

    @property
    def all(self) -> list[Contender]:
        return [*self.mine, *self.others]

    @property
    def pools(self) -> list[str]:
        """Celery's, by name."""
        return [each.name for each in self.others if each.name.startswith(CELERY)]


def run(bed: Bed, size: Size) -> list[Row]:
    """Rates of what lies there and of what comes one by one, processor time, latencies."""
    rows: list[Row] = []
    with both_stores(bed) as mine:
        with rivals(bed, prefork=2, threads=8, actors=8) as others:
            contest = Contest(mine, others)
            rows += [row for work in FAST for row in _rates(bed, size, work, contest)]
            rows += [row for latency in LATENCIES for row in _latencies(bed, size, latency, contest)]
        with rivals(bed, prefork=16, threads=64, actors=32) as others:
            rows += [row for work in SLOWER for row in _rates(bed, size, work, Contest(mine, others))]
    return rows


@contextmanager
def both_stores(bed: Bed) -> Iterator[list[Contender]]:
    """Ours on SQLite, and on MongoDB where there is a server of its protocol."""
    with ExitStack() as stack:
        found = [stack.enter_context(ours(bed, SQLITE, bed.ours))]
        database = bed.mongo_database()
        if database is not None:
            deployment = bed.deployment("mongo", database=3, store=database)
            found.append(stack.enter_context(ours(bed, MONGODB, deployment)))
        yield found


def _rates(bed: Bed, size: Size, work: Work, contest: Contest) -> Iterator[Row]:
    plays = size.drained // work.steps
    for live in (False, True) if work in LIVE else (False,):
        cpu: dict[str, list[float]] = {}
        runs = [_run(bed, each, work, plays, cpu, live=live) for each in contest.all]
        seconds = alternating(size.rounds, *runs, warm=int(work in WARMING and not live))
        rates = {each.name: plays * work.steps / took for each, took in zip(contest.all, seconds, strict=True)}
        for each in contest.mine:
            yield _rate(each.name, work, rates, contest, live=live)
        if not live:
            yield _processor(work, cpu, contest, plays * work.steps)


def _run(bed: Bed, each: Contender, work: Work, plays: int, cpu: dict[str, list[float]], *, live: bool) -> Run:
    """The seconds from the first wake-up to the last effect; with `live`, from the first of the plays that come one
    after the other."""

    def run() -> float:
        if not live:
            each.halt()
            each.fill(work, plays)
        paths = itertools.cycle(work.paths)
        used = each.worker.cpu_s()
        bed.reset()
        began = time.perf_counter()
        if live:
            for _ in range(plays):
                each.send(work.steps, next(paths))
        else:
            each.worker.go_on()
            each.wake()
        took = bed.after(plays * work.steps) - began
        time.sleep(0.05)  # what is done is written
        cpu.setdefault(each.name, []).append(each.worker.cpu_s() - used)
        return took

    return run


def _rate(name: str, work: Work, rates: dict[str, float], contest: Contest, *, live: bool) -> Row:
    best = max(contest.pools, key=lambda pool: rates[pool])
    rate, ratio = rates[name], rates[name] / rates[best]
    least = 0 if live else AIMS.get((name, work.name), 0)
    aim = f"{TWICE:g}x" + (f", {least:,}/s" if least else "")
    beside = f"{best.removeprefix(CELERY)} {rates[best]:,.0f}, dramatiq {rates[DRAMATIQ]:,.0f}"
    what = f"{work.name}{', live' if live else ''}: {name}"
    return Row(what, f"{rate:,.0f}/s", beside, f"{ratio:.1f}x", aim, ratio >= TWICE and rate >= least)


def _processor(work: Work, cpu: dict[str, list[float]], contest: Contest, steps: int) -> Row:
    """Processor time of a worker's processes, a step; what broker and database use is theirs."""
    used = {name: statistics.median(seconds) / steps for name, seconds in cpu.items()}
    figures = ", ".join(millis(used[each.name]) for each in contest.mine)
    best = min(used[pool] for pool in contest.pools)
    beside = f"Celery {millis(best)}, dramatiq {millis(used[DRAMATIQ])}"
    ratio = best / used[contest.mine[0].name]
    return Row(f"{work.name}: processor a step", figures, beside, f"{ratio:.1f}x", "", True)


def _latencies(bed: Bed, size: Size, latency: Latency, contest: Contest) -> Iterator[Row]:
    def run(each: Contender) -> Run:
        def once() -> float:
            time.sleep(latency.pause_s)
            return bed.burst(lambda: each.send(latency.steps, AT_ONCE), 1, effects=latency.steps)

        return once

    rounds = size.rounds * LATENCY_ROUNDS
    compared = [*contest.mine, *(each for each in contest.others if each.name in (contest.pools[0], DRAMATIQ))]
    if latency.pause_s >= IDLE_S:
        figures = alternating(rounds, *map(run, compared))
    else:  # in turns, each would fall asleep while the others are asked
        figures = [alternating(rounds, run(each), warm=3)[0] for each in compared]
    took = {each.name: seconds for each, seconds in zip(compared, figures, strict=True)}
    celery = took[contest.pools[0]]
    beside = f"{contest.pools[0].removeprefix(CELERY)} {millis(celery)}, dramatiq {millis(took[DRAMATIQ])}"
    for each in contest.mine:
        mine = took[each.name]
        aim = "" if latency.aim is None else f"under {latency.aim * 1000:g} ms"
        met = latency.aim is None or mine < latency.aim
        yield Row(f"{latency.name}: {each.name}", millis(mine), beside, f"{celery / mine:.1f}x", aim, met)
