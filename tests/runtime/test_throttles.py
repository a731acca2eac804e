"""Throttles on both stores: one moment for a credential, seen by everybody within a second."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from flow8_core.clock import ManualClock
from flow8_core.store import Store
from flow8_runtime import throttles
from flow8_runtime.throttles import CACHE_LIMIT, CACHE_S, Throttles
from tests.runtime.kit import START, Watched


@pytest.fixture
def watched(store: Store) -> Watched:
    store.declare(throttles.COLLECTION, throttles.INDEXES)
    return Watched(store)


def test_a_hit_is_seen_at_once_by_whoever_was_hit(watched: Watched) -> None:
    mine = Throttles(watched, clock=ManualClock())
    assert mine.not_before("link:1") is None

    mine.hit("link:1", START)

    assert mine.not_before("link:1") == START
    assert mine.not_before("link:2") is None


def test_a_hit_is_seen_by_everybody_else_within_a_second(watched: Watched) -> None:
    clock = ManualClock()
    mine, other = Throttles(watched, clock=clock), Throttles(watched, clock=clock)
    assert other.not_before("link:1") is None
    mine.hit("link:1", START)

    clock.advance(CACHE_S)

    assert other.not_before("link:1") == START


def test_an_earlier_moment_does_not_shorten_a_wait(watched: Watched) -> None:
    mine = Throttles(watched, clock=ManualClock())

    for seconds in (30, 10, 60, 20):
        mine.hit("link:1", START + timedelta(seconds=seconds))

    assert mine.not_before("link:1") == START + timedelta(seconds=60)


def test_a_burst_of_429s_leaves_the_latest_moment(watched: Watched) -> None:
    def work(first: int) -> None:
        mine = Throttles(watched)
        for seconds in range(first, 80, 8):
            mine.hit("link:1", START + timedelta(seconds=seconds))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Throttles(watched).not_before("link:1") == START + timedelta(seconds=79)


def test_many_keys_cost_one_query_and_none_while_they_are_fresh(watched: Watched) -> None:
    clock = ManualClock()
    mine = Throttles(watched, clock=clock)
    mine.hit("link:3", START)
    keys = [f"link:{index}" for index in range(50)]
    watched.calls.clear()

    assert mine.of(keys) == {"link:3": START}
    assert mine.of(keys) == {"link:3": START}
    assert watched.calls == {"find": 1}

    clock.advance(CACHE_S)
    mine.of(keys)
    assert watched.calls == {"find": 2}


def test_what_is_remembered_does_not_grow_for_ever(watched: Watched) -> None:
    mine = Throttles(watched, clock=ManualClock())

    for start in range(0, 3 * CACHE_LIMIT, 5000):
        mine.of(f"link:{index}" for index in range(start, start + 5000))

    assert len(mine._cache) <= CACHE_LIMIT + 5000
