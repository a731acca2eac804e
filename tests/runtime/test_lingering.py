"""A drainer that lingers, on a real Redis: it hears the bell, no message is sent meanwhile, and nothing is missed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from flow8_core.errors import StoreUnavailable
from flow8_runtime.lingering import Lingerer
from flow8_runtime.listener import Listener
from flow8_runtime.wakeup import Wakeup
from tests.processes import until

QUEUE = "default"
FLAG, MESSAGES = f"flow8:wake:{QUEUE}", "flow8.drain"


@pytest.fixture
def flags(redis_url: str) -> Iterator[redis.Redis]:
    flags = redis.Redis.from_url(redis_url)
    flags.flushall()
    yield flags
    flags.close()


class Looks:
    """Counts the looks, each at the count of what has been committed, and does what a test says."""

    def __init__(self) -> None:
        self.committed = 0
        self.seen: list[int] = []
        self.quiet = True
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self) -> bool:
        self.seen.append(self.committed)
        act, self.meanwhile = self.meanwhile, lambda: None
        act()
        return self.quiet


@pytest.fixture
def looks() -> Looks:
    return Looks()


@pytest.fixture
def lingerer(flags: redis.Redis, looks: Looks) -> Iterator[Lingerer]:
    lingerer = Lingerer(Listener(flags), Wakeup(flags), looks, linger_s=0.4)
    yield lingerer
    lingerer.close()


def lingering(flags: redis.Redis, lingerer: Lingerer) -> None:
    lingerer.stay(QUEUE)
    until(lambda: flags.exists(FLAG), "a drainer that lingers")


def test_a_bell_is_answered_at_once_and_no_message_is_sent(
    flags: redis.Redis, lingerer: Lingerer, looks: Looks
) -> None:
    lingering(flags, lingerer)

    for number in range(1, 4):
        looks.committed = number
        assert not Wakeup(flags).ring()
        until(lambda number=number: number in looks.seen, "a look")

    assert flags.llen(MESSAGES) == 0


def test_what_is_due_in_a_moment_is_looked_at_then_without_a_bell(flags: redis.Redis, looks: Looks) -> None:
    soon = iter([0.05])
    lingerer = Lingerer(Listener(flags), Wakeup(flags), looks, linger_s=30, soon=lambda: next(soon, math.inf))

    lingerer.stay(QUEUE)

    until(lambda: looks.seen, "a look")
    assert flags.exists(FLAG)  # it lingers on
    looks.quiet = False
    Wakeup(flags).ring()
    lingerer.close()


def test_what_is_committed_during_a_look_is_seen_by_the_next_one(
    flags: redis.Redis, lingerer: Lingerer, looks: Looks
) -> None:
    def commit() -> None:
        looks.committed = 2
        Wakeup(flags).ring()

    lingering(flags, lingerer)
    looks.committed, looks.meanwhile = 1, commit
    Wakeup(flags).ring()

    until(lambda: 2 in looks.seen, "the second look")


def test_when_nothing_comes_the_flag_goes_down_before_a_last_look(
    flags: redis.Redis, lingerer: Lingerer, looks: Looks
) -> None:
    at_the_end: list[int] = []
    looks.meanwhile = lambda: at_the_end.append(flags.exists(FLAG))

    lingering(flags, lingerer)
    until(lambda: at_the_end, "the last look")

    assert at_the_end == [0]
    assert Wakeup(flags).ring()
    assert flags.llen(MESSAGES) == 1


def test_who_finds_more_than_can_be_done_leaves_and_sends_a_message(
    flags: redis.Redis, lingerer: Lingerer, looks: Looks
) -> None:
    lingering(flags, lingerer)
    looks.quiet = False

    assert not Wakeup(flags).ring()  # the bell alone

    until(lambda: flags.llen(MESSAGES) == 1, "a message for whoever is free")


def test_a_drainer_that_lingers_can_still_call_for_help(flags: redis.Redis, looks: Looks) -> None:
    wakeup = Wakeup(flags)
    lingerer = Lingerer(Listener(flags), wakeup, looks, linger_s=0.4)
    looks.meanwhile = lambda: wakeup.ring_at_leisure()
    lingering(flags, lingerer)

    Wakeup(flags).ring()
    until(lambda: flags.llen(MESSAGES) == 1, "a message for another process")
    lingerer.close()


def test_many_producers_at_once_are_all_seen(flags: redis.Redis, lingerer: Lingerer, looks: Looks) -> None:
    lock = threading.Lock()

    def produce() -> None:
        wakeup = Wakeup(flags)
        for _ in range(50):
            with lock:
                looks.committed += 1
            wakeup.ring()

    lingering(flags, lingerer)
    producers = [threading.Thread(target=produce) for _ in range(4)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()

    until(lambda: looks.seen and looks.seen[-1] == 200, "a look at all of it")


def test_a_lingerer_closes_in_good_time(lingerer: Lingerer, flags: redis.Redis) -> None:
    lingering(flags, lingerer)

    began = time.monotonic()
    lingerer.close()

    assert time.monotonic() - began < 5


def test_a_look_that_fails_ends_the_lingering_and_leaves_no_flag_up(flags: redis.Redis, looks: Looks) -> None:
    def fail() -> None:
        raise StoreUnavailable("The store does not answer.")

    wakeup = Wakeup(flags)
    lingerer = Lingerer(Listener(flags), wakeup, looks, linger_s=0.4)
    looks.meanwhile = fail
    lingering(flags, lingerer)

    Wakeup(flags).ring()
    until(lambda: not flags.exists(FLAG), "the flag's fall", timeout=0.9)  # by itself it falls after a second

    flags.set(FLAG, "1")
    assert not wakeup.ring_at_leisure()
    lingerer.close()
