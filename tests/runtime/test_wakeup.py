"""Wake-ups are never lost for work that was committed before them."""

from __future__ import annotations

import threading

import pytest
import redis

from flow8_core.errors import StoreUnavailable
from flow8_runtime.wakeup import Wakeup


@pytest.fixture
def flags(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url)


def test_a_burst_of_rings_publishes_one_message(flags: redis.Redis) -> None:
    published: list[str] = []
    wakeup = Wakeup(flags, published.append)

    rings = [wakeup.ring() for _ in range(50)]

    assert published == ["default"]
    assert rings == [True] + [False] * 49


def test_a_ring_after_a_drainer_has_answered_publishes_again(flags: redis.Redis) -> None:
    published: list[str] = []
    wakeup = Wakeup(flags, published.append)
    wakeup.ring()

    wakeup.answer()
    wakeup.ring()

    assert published == ["default", "default"]


def test_the_sweep_rings_although_the_flag_is_up(flags: redis.Redis) -> None:
    published: list[str] = []
    wakeup = Wakeup(flags, published.append)
    wakeup.ring()

    wakeup.ring_anyway()

    assert published == ["default", "default"]


def test_queues_have_flags_of_their_own(flags: redis.Redis) -> None:
    published: list[str] = []
    wakeup = Wakeup(flags, published.append)

    wakeup.ring("default")
    wakeup.ring("reports")

    assert published == ["default", "reports"]


def test_a_drainer_in_its_loop_rings_at_most_once_in_twenty_milliseconds(flags: redis.Redis) -> None:
    wakeup = Wakeup(flags, lambda _: None)
    wakeup.ring_at_leisure()
    wakeup.answer()

    rung = wakeup.ring_at_leisure()

    assert rung is False


def test_no_commit_goes_unseen_between_producers_and_a_drainer(flags: redis.Redis) -> None:
    """Four producers commit and ring; a drainer answers each message by looking at all that is committed."""
    committed: list[int] = []
    seen: set[int] = set()
    messages = threading.Semaphore(0)
    wakeup = Wakeup(flags, lambda _: messages.release())
    over = threading.Event()

    def produce(start: int) -> None:
        for number in range(start, start + 200):
            committed.append(number)
            wakeup.ring()

    def drain() -> None:
        while True:
            messages.acquire()
            if over.is_set():
                return
            wakeup.answer()
            seen.update(committed)

    drainer = threading.Thread(target=drain)
    drainer.start()
    producers = [threading.Thread(target=produce, args=(start,)) for start in range(0, 800, 200)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    while messages._value:  # what is published is answered; nothing else may be needed to see every commit
        pass
    over.set()
    messages.release()
    drainer.join()

    assert seen == set(range(800))


def test_a_broker_that_is_away_is_one_clear_error() -> None:
    away = redis.Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.5)

    with pytest.raises(StoreUnavailable, match="broker"):
        Wakeup(away, lambda _: None).ring()
