"""Rings from outside of a worker: few for many, and never none for the last."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from flow8_runtime.bell import Bell
from flow8_runtime.broker import Broker
from flow8_runtime.settings import Settings
from tests.processes import until

FLAG = "flow8:wake:default"

PRODUCER = """
import sys
from pathlib import Path
from flow8_runtime.bell import Bell
from flow8_runtime.settings import Settings

bell = Bell(Settings(home=Path(sys.argv[1]), broker=sys.argv[2]))
bell.ring(["default"])
bell.find().answer("default")
bell.ring(["default"])
"""


@pytest.fixture
def flags(redis_url: str) -> Iterator[redis.Redis]:
    with Broker(redis_url).flags() as client:
        yield client


@pytest.fixture
def bell(redis_url: str, tmp_path: Path) -> Iterator[Bell]:
    with closing(Bell(Settings(home=tmp_path, broker=redis_url))) as bell:
        yield bell


def test_a_ring_that_comes_alone_goes_out_at_once(bell: Bell, flags: redis.Redis) -> None:
    bell.ring(["default", "reports"])

    assert flags.exists(FLAG, "flow8:wake:reports") == 2


def test_a_thousand_rings_in_a_row_are_a_few(bell: Bell, flags: redis.Redis) -> None:
    flags.config_resetstat()

    for _ in range(1000):
        bell.ring(["default"])
    bell.close()

    assert flags.info("commandstats")["cmdstat_set"]["calls"] < 200  # type: ignore[index]


def test_whoever_commits_before_a_ring_is_rung_for_after_that(bell: Bell, flags: redis.Redis) -> None:
    """A drainer takes the flag down and looks once; no commit may stay unseen with the flag down for good."""
    committed: list[int] = []
    seen: set[int] = set()
    over = threading.Event()

    def drain() -> None:
        while not over.is_set():
            if flags.delete(FLAG):  # looks because it was woken, and never because time has passed
                seen.update(committed)

    def produce(start: int) -> None:
        for number in range(start, start + 300):
            committed.append(number)
            bell.ring(["default"])

    drainer = threading.Thread(target=drain)
    producers = [threading.Thread(target=produce, args=(start,)) for start in (0, 300, 600)]
    for thread in (drainer, *producers):
        thread.start()
    for thread in producers:
        thread.join()

    until(lambda: len(seen) == 900, "that every commit is seen")
    over.set()
    drainer.join()


def test_a_program_that_ends_in_the_middle_has_rung(redis_url: str, flags: redis.Redis, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PRODUCER, str(tmp_path), redis_url], check=True, timeout=60)

    assert flags.exists(FLAG) == 1


def test_a_broker_that_does_not_answer_stops_nobody(tmp_path: Path) -> None:
    with closing(Bell(Settings(home=tmp_path, broker="redis://127.0.0.1:1/0"))) as bell:
        for _ in range(3):
            bell.ring(["default"])
