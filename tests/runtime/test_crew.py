"""The caller threads: as few as it takes, and never all of them waiting while something is due."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from flow8_core.clock import Clock, ManualClock, SystemClock
from flow8_runtime import crew as rooms
from flow8_runtime.crew import Crew
from tests.processes import until


class Work:
    """Calls to be made; some wait until the test lets them go."""

    def __init__(self, calls: int, *, slow: Callable[[int], bool] = lambda _: False) -> None:
        self.left = list(range(calls))
        self.slow = slow
        self.done: list[int] = []
        self.waiting = 0
        self.go = threading.Event()
        self.lock = threading.Lock()
        self.answers: Callable[[], object] = lambda: None
        self.threads: set[threading.Thread] = set()
        self.crew: Crew

    def shift(self) -> None:
        self.threads.add(threading.current_thread())
        while True:
            with self.lock:
                if not self.left:
                    self.crew.dry()
                    return
                call = self.left.pop(0)
            with self.crew.calling():
                if self.slow(call):
                    self.waiting += 1
                    assert self.go.wait(20)
                else:
                    self.answers()
            self.done.append(call)

    def wait_for(self, count: int) -> None:
        until(lambda: self.waiting == count, f"{count} calls that wait")

    def drain(self, *, within_s: float = 5.0) -> None:
        self.crew.begin()
        self.crew.watch(time.monotonic() + within_s, lambda: False)


@contextmanager
def at_work(work: Work, *, most: int = 16, clock: Clock | None = None) -> Iterator[Work]:
    work.crew = Crew(work.shift, most=most, clock=clock or SystemClock())
    yield work
    work.go.set()
    work.crew.end()


def test_one_slow_call_idles_nobody() -> None:
    with at_work(Work(500, slow=lambda call: call == 0)) as work:
        work.drain()

        assert sorted(work.done) == list(range(1, 500))


def test_calls_that_are_answered_at_once_take_few_threads() -> None:
    with at_work(Work(2_000)) as work:
        work.drain()

        assert len(work.done) == 2_000
        assert len(work.threads) <= 4


@pytest.mark.parametrize(
    ("takes_s", "harmless", "threads"),
    [(0.0, True, 1), (0.0015, True, 2), (0.0025, True, 3), (0.01, True, 5), (0.0, False, 4), (0.0025, False, 4)],
)
def test_where_there_is_plenty_as_many_threads_share_it_as_calls_leave_time_for_or_as_may_be_in_doubt(
    monkeypatch: pytest.MonkeyPatch, takes_s: float, harmless: bool, threads: int
) -> None:
    monkeypatch.setattr(rooms, "SHARING", 5)
    monkeypatch.setattr(rooms, "STUCK_S", 1.0)  # nobody else takes on any
    clock = ManualClock()
    work = Work(rooms.AMONG + 5, slow=lambda call: call >= rooms.AMONG)
    work.answers = lambda: clock.advance(takes_s)
    with at_work(work, clock=clock):
        work.crew.begin()
        until(lambda: work.waiting == 1, "the only thread's calls")
        for _ in range(20):
            work.crew.share(harmless=harmless)

        until(lambda: work.waiting == threads, "the threads that share")
        assert work.crew.at_work == threads


def test_nobody_shares_what_has_run_dry() -> None:
    with at_work(Work(1)) as work:
        work.drain()
        work.crew.share(harmless=True)

        until(lambda: work.crew.at_work == 0, "the end of the only shift")
        assert len(work.threads) == 1


def test_where_no_further_thread_can_be_started_those_that_there_are_do_all(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, threading.Event()

    def fails_but_once(thread: threading.Thread) -> None:
        if started.is_set():
            raise RuntimeError("can't start new thread")
        started.set()
        start(thread)

    with at_work(Work(50)) as work:
        work.answers = partial(work.crew.share, harmless=True)
        monkeypatch.setattr(threading.Thread, "start", fails_but_once)
        work.drain()

        until(lambda: len(work.done) == 50, "the last call's end")
        assert len(work.threads) == 1
        until(lambda: work.crew.at_work == 0, "the end of the only shift")
    assert not any(thread.is_alive() for thread in work.threads)


def test_a_drain_for_which_no_thread_can_be_started_says_so_and_the_next_one_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with at_work(Work(3)) as work:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", fails)
            with pytest.raises(RuntimeError):
                work.drain()
        work.drain()

        until(lambda: sorted(work.done) == [0, 1, 2], "all calls")


def test_a_thread_takes_nothing_new_only_where_many_are_in_no_call() -> None:
    with at_work(Work(40, slow=lambda _: True), most=40) as work:
        work.drain(within_s=1.0)
        until(lambda: work.waiting == 40, "a thread for each call")
        work.crew._usual_s = 1.0
        work.crew._calling -= rooms.CROWDED
        assert not work.crew.may_leave()
        work.crew._calling -= 1
        assert work.crew.may_leave()
        work.crew.back()
        work.crew._calling += rooms.CROWDED + 1


@pytest.mark.parametrize(("harmless", "enough"), [(False, rooms.SHARING_DOUBT), (True, 1)])
def test_where_calls_are_quick_only_as_many_go_on_as_share_it_besides_those_in_calls_that_take_their_time(
    harmless: bool, enough: int
) -> None:
    clock = ManualClock()
    with at_work(Work(6, slow=lambda _: True), most=40, clock=clock) as work:
        work.crew.begin()
        for count in range(1, 7):
            work.wait_for(count)
            with work.crew._changed:
                work.crew._take_on(int(count < 6))
        clock.advance(2 * rooms.STUCK_S)
        work.crew.share(harmless=harmless)

        work.crew._at_work += enough
        assert not work.crew.may_leave()
        work.crew._at_work += 1
        assert work.crew.may_leave()
        work.crew.back()
        work.crew._at_work -= enough + 1


def test_once_calls_are_known_to_be_slow_nobody_needs_to_watch_for_others_to_be_taken_on() -> None:
    clock = ManualClock()
    work = Work(3 + 16, slow=lambda call: call >= 3)
    work.answers = lambda: clock.advance(0.05)  # the first three
    with at_work(work, clock=clock):
        work.crew.begin()

        until(lambda: work.waiting == 16, "each of the slow calls has a thread of its own")


def test_calls_that_take_their_time_take_as_many_threads_as_there_may_be() -> None:
    with at_work(Work(40, slow=lambda _: True), most=16) as work:
        work.drain(within_s=1.0)

        assert work.waiting == 16
        assert len(work.threads) == 16


def test_a_thread_that_has_had_nothing_to_do_for_a_while_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "IDLE_S", 0.05)
    with at_work(Work(10)) as work:
        work.drain()

        until(lambda: not any(thread.is_alive() for thread in work.threads), "the threads' ends", timeout=5)
        work.left = [10]
        work.drain()
        until(lambda: 10 in work.done, "a new thread's work", timeout=5)


def test_it_watches_on_for_a_moment_while_something_waits_for_a_thread_that_is_not_in_a_call() -> None:
    with at_work(Work(2, slow=lambda call: call == 0)) as work:
        work.crew.begin()
        until(lambda: work.waiting == 1, "the call that takes its time")

        work.crew.watch(time.monotonic(), lambda: False, unsettled=lambda: work.left)

        until(lambda: work.done == [1], "what waited")


def test_it_does_not_watch_on_for_ever_where_no_further_thread_may_be_taken_on() -> None:
    with at_work(Work(1, slow=lambda _: True), most=1) as work:
        work.crew.begin()
        until(lambda: work.waiting == 1, "the call that takes its time")

        work.crew.watch(time.monotonic(), lambda: False, unsettled=lambda: True)

        assert work.crew.all_slow
        assert not work.crew.at_once


def test_what_ends_a_thread_is_told_to_whoever_watches_and_the_next_drain_goes_on() -> None:
    def slow(call: int) -> bool:
        if call == 0:
            raise LookupError("the vendor's library is broken")
        return False

    with at_work(Work(3, slow=slow)) as work:
        with pytest.raises(LookupError):
            work.drain()
        work.drain()

        assert sorted(work.done) == [1, 2]


def test_at_its_end_it_waits_for_what_is_under_way_and_begins_nothing() -> None:
    with at_work(Work(1, slow=lambda _: True)) as work:
        work.drain(within_s=0.1)
        ending = threading.Thread(target=work.crew.end)
        ending.start()
        assert ending.is_alive()

        work.left = [7]
        work.go.set()
        ending.join(5)

        work.crew.begin()
        assert not ending.is_alive()
        assert not any(thread.is_alive() for thread in work.threads)


def test_a_thread_that_fails_as_it_leaves_is_missed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "SHARING_DOUBT", 0)

    def shift() -> None:
        assert crew.may_leave()
        raise ConnectionError

    crew = Crew(shift, most=4, clock=SystemClock())
    crew.begin()
    with pytest.raises(ConnectionError):  # told to this watch or to the next one: it had left before it failed
        until(lambda: crew.watch(time.monotonic() + 5, lambda: False), "what ended the thread")
    crew.end()

    assert crew.at_work == 0
