"""Who takes part in a contest: ours on each store, Celery with each pool, dramatiq. All are handed the same work."""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import handwritten
from benchmarks.bed import PROCESSES, Bed
from benchmarks.deployment import Deployment
from benchmarks.worker import Worker, running
from flow8_runtime.definition import Flow

SQLITE, MONGODB = "SQLite", "MongoDB"
CELERY, DRAMATIQ = "Celery ", "dramatiq"
AT_ONCE, SLOW = "/call", "/call?pause_ms=50"


@dataclass(frozen=True)
class Work:
    """Plays of so many steps in a row, the first one calling the first of these paths, the next one the next, ..."""

    name: str
    steps: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Contender:
    """`send` hands in one play of `steps` that call `path`, and wakes; `fill` lays some before a worker that is halted,
    and `wake` tells it."""

    name: str
    worker: Worker
    send: Callable[[int, str], object]
    fill: Callable[[Work, int], object]
    halt: Callable[[], None]
    wake: Callable[[], None] = lambda: None


@contextmanager
def ours(bed: Bed, name: str, deployment: Deployment) -> Iterator[Contender]:
    """Ours, with as many processes as there are cores to speak of."""
    flows: dict[tuple[int, str], Flow] = {}

    def flow(steps: int, path: str) -> Flow:
        if (steps, path) not in flows:
            flows[steps, path] = calls(bed, deployment, steps, path)
        return flows[steps, path]

    def fill(work: Work, count: int) -> None:
        if len(work.paths) == 1:
            deployment.fill(flow(work.steps, work.paths[0]), count)
        else:
            _one_by_one(lambda steps, path: deployment.fill(flow(steps, path), 1))(work, count)

    with deployment.worker(PROCESSES) as worker:
        yield Contender(
            name,
            worker,
            send=lambda steps, path: deployment.submit(flow(steps, path)),
            fill=fill,
            halt=lambda: deployment.halt(worker),
            wake=lambda: deployment.platform.bell.ring(["default"]),
        )


def calls(bed: Bed, deployment: Deployment, steps: int, path: str) -> Flow:
    """A flow of so many calls in a row, each with a credential."""
    listed = [
        {
            **bed.step("http-request", order, url=f"{bed.plain_url}{path}", method="POST", body={}),
            "component_config_ids": {"request": deployment.request_id},
        }
        for order in range(1, steps + 1)
    ]
    return Flow.parse({"name": "bench", "steps": listed})


@contextmanager
def rivals(bed: Bed, *, prefork: int, threads: int, actors: int) -> Iterator[list[Contender]]:
    """Celery with so many processes, and with so many threads; dramatiq with so many threads in each of two."""
    with ExitStack() as stack:
        pools = {f"prefork {prefork}": ("prefork", prefork), f"threads {threads}": ("threads", threads)}
        found = [stack.enter_context(_celery(bed, name, *pool)) for name, pool in pools.items()]
        yield [*found, stack.enter_context(_dramatiq(bed, actors))]


@contextmanager
def _celery(bed: Bed, name: str, pool: str, concurrency: int) -> Iterator[Contender]:
    queue = name.replace(" ", "-")
    argv = [*handwritten.ARGV, f"--pool={pool}", f"--concurrency={concurrency}", f"--queues={queue}"]

    def send(steps: int, path: str) -> None:
        if steps == 1:
            handwritten.call.apply_async(kwargs={"path": path}, queue=queue)
        else:
            handwritten.ten_in_a_row(path, queue=queue)

    with running(queue, argv, bed.handwritten_environ, bed.folder) as worker:
        yield Contender(f"{CELERY}{name}", worker, send, _one_by_one(send), worker.halt)


@contextmanager
def _dramatiq(bed: Bed, threads: int) -> Iterator[Contender]:
    os.environ["BENCH_ACTORS"] = bed.broker_url(2)
    actors = importlib.import_module("benchmarks.actors")
    argv = ["-m", "dramatiq", "benchmarks.actors", f"--processes={PROCESSES}", f"--threads={threads}"]

    def send(steps: int, path: str) -> None:
        if steps == 1:
            actors.call.send(path)
        else:
            actors.ten_in_a_row(path)

    environ = {**bed.handwritten_environ, "BENCH_ACTORS": bed.broker_url(2)}
    with running("dramatiq", argv, environ, bed.folder) as worker:
        yield Contender(DRAMATIQ, worker, send, _one_by_one(send), worker.halt)


def _one_by_one(send: Callable[[int, str], Any]) -> Callable[[Work, int], None]:
    def fill(work: Work, count: int) -> None:
        for path in itertools.islice(itertools.cycle(work.paths), count):
            send(work.steps, path)

    return fill
