"""The caller threads of a process: as many as it takes to keep one of them busy with something else than waiting.

Where vendors answer at once, one thread does what there is; where calls leave it time, some more, and of steps that
must not be repeated some in any case, for they share their writes; still more would only cost the interpreter's lock.
Where vendors are slow, every thread stands in a call before long, and another one is taken on, by whoever goes into a
call last once it is known that calls take their time: up to `most`.
Threads outlive the wake-up that they were taken on for, so that one slow call idles none of its neighbours.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flow8_core.clock import Clock

STUCK_S = 0.003  # everybody has been in a call for so long: take on others
SLOW_S = 0.01  # what calls take in the mean: some of them are slow
LOOK_S, SELDOM_S = 0.002, 0.016  # how often that is looked at: more seldom while it does not happen
UNSETTLED_S = 0.05  # for so long it is watched what waits for a thread; then the heartbeat sees to it
WEIGHT = 0.1  # of the last call, in how long they take
AMONG = 16  # calls of which the quickest counts
# Threads where there is plenty: one more for each millisecond of a call, which the others can use; a fixed number for
# steps that must not be repeated: one write for several is cheaper, but at a kill all of them are in doubt.
SHARING, SHARING_DOUBT, FOR_EACH_S = 12, 4, 0.001
CROWDED = 16  # threads that are not in a call, above which one of them takes nothing new, where calls are slow
IDLE_S = 10.0  # after which a thread that has had nothing to do ends

Shift = Callable[[], None]

log = logging.getLogger("flow8.engine")


class Crew:
    """Runs `shift` in its threads: each call of it works until there is nothing left for it to take."""

    def __init__(self, shift: Shift, *, most: int, clock: Clock) -> None:
        self._shift = shift
        self._most = most
        self._clock = clock
        lock = threading.RLock()
        self._changed = threading.Condition(lock)  # for whoever watches
        self._wanting = threading.Condition(lock)  # for idle threads, who are woken one by one
        self._threads: set[threading.Thread] = set()
        self._leaving: set[threading.Thread] = set()  # of those, who is not counted as at work any more
        self._idle = 0
        self._wanted = 0  # of the idle ones, how many are to begin a shift
        self._at_work = 0  # in a shift, or about to begin one
        self._calling = 0  # of those, how many wait for a vendor
        self._calls: dict[int, float] = {}  # since when, of each of these threads
        self._last_call = 0.0
        self._usual_s = 0.0  # how long a call takes, of late
        self._least_s = 0.0  # the quickest of some: what one takes that no other thread is in the way of
        self._lately: list[float] = []
        self._enough = SHARING_DOUBT
        self._dry = False
        self._watchers = 0
        self._over = False
        self._failure: BaseException | None = None

    def begin(self) -> None:
        """There may be something to do: see that somebody looks who is not in a call."""
        with self._changed:
            self._dry = False
            if self._at_work <= self._calling:
                self._take_on(1)

    def share(self, *, harmless: bool) -> None:
        """There is plenty to do: some threads more can bring their results together to one write; fewer of them where
        repeating a step in doubt is not `harmless`."""
        most = min(SHARING, 1 + int(self._least_s / FOR_EACH_S)) if harmless else SHARING_DOUBT
        self._enough = most
        if self._at_work < most and not self._dry:
            with self._changed:
                self._take_on(int(self._at_work < most))

    def watch(
        self, until: float, stopping: Callable[[], bool], *, unsettled: Callable[[], object] = lambda: False
    ) -> None:
        """Take on more threads as calls take their time, until this moment (monotonic seconds), or until nothing is
        left to take; for a moment longer while something is `unsettled` that a further thread would see to. Raises
        what ended a thread."""
        pause_s = LOOK_S
        with self._changed:
            self._watchers += 1
            watches = True
            while self._failure is None and not self._quiet and not stopping():
                now = self._clock.monotonic()
                if watches and now >= until:
                    self._watchers -= 1
                    watches = False
                if not watches and (now >= until + UNSETTLED_S or not unsettled()):
                    break
                if self._stuck:
                    self._take_on(max(1, self._at_work))
                    pause_s = LOOK_S
                self._changed.wait(pause_s)
                pause_s = min(2 * pause_s, SELDOM_S)
            self._watchers -= watches
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def dry(self) -> None:
        """Told by a thread that found nothing to take."""
        with self._changed:
            self._dry = True

    @property
    def at_work(self) -> int:
        """How many threads are in a shift."""
        return self._at_work

    @property
    def all_slow(self) -> bool:
        """Whether every thread is in a call that takes its time, or there is none."""
        with self._changed:
            return self._at_work <= self._slow_calls

    @property
    def at_once(self) -> bool:
        """Whether calls are over before others could be taken on, and somebody watches who does should one not be."""
        return self._watchers > 0 and self._least_s < STUCK_S

    @property
    def is_dry(self) -> bool:
        """Whether whoever looked last found nothing to take."""
        return self._dry

    def may_leave(self) -> bool:
        """Whether a thread need not take anything new, for enough others are at work. It counts as gone if so, unless
        it comes `back`."""
        with self._changed:
            if not self._crowded:
                return False
            self._leave()
            return True

    def back(self) -> None:
        """A thread that might have left has found something to do after all."""
        with self._changed:
            self._leaving.discard(threading.current_thread())
            self._at_work += 1

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Around what may wait for a vendor."""
        began = self._clock.monotonic()
        with self._changed:
            self._calling += 1
            self._last_call = self._calls[threading.get_ident()] = began
            if self._slow and self._at_work <= self._calling and not self._dry:
                self._take_on(1)  # in good time: nobody has to see first that everybody waits
        try:
            yield
        finally:
            with self._changed:
                self._calling -= 1
                del self._calls[threading.get_ident()]
                self._note(self._clock.monotonic() - began)

    def end(self) -> None:
        """Take on nobody any more, and wait for those who are at work."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
            self._wanting.notify_all()
            threads = list(self._threads)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()

    def _note(self, took_s: float) -> None:
        self._usual_s += (took_s - self._usual_s) * WEIGHT
        self._lately.append(took_s)
        if len(self._lately) == AMONG:
            self._least_s, self._lately = min(self._lately), []

    @property
    def _slow(self) -> bool:
        """Whether calls are known to take their time, rather than to wait for each other's threads."""
        return self._least_s > STUCK_S or self._usual_s > SLOW_S

    @property
    def _slow_calls(self) -> int:
        """How many threads have been in a call for a while."""
        since = self._clock.monotonic() - STUCK_S
        return sum(began < since for began in self._calls.values())

    @property
    def _crowded(self) -> bool:
        if self._slow:
            return self._at_work - self._calling > CROWDED
        return self._at_work > self._enough and self._at_work - self._slow_calls > self._enough

    @property
    def _quiet(self) -> bool:
        """Nobody is at work, or somebody found nothing and all others are in calls."""
        return self._at_work <= 0 or (self._dry and self._at_work <= self._calling)

    @property
    def _stuck(self) -> bool:
        everybody = self._at_work <= self._calling
        return everybody and not self._dry and self._clock.monotonic() - self._last_call > STUCK_S

    def _take_on(self, count: int) -> None:
        for _ in range(min(count, self._most - self._at_work)):
            if self._over:
                return
            self._at_work += 1
            if self._idle > self._wanted:
                self._wanted += 1
                self._wanting.notify()
                continue
            thread = threading.Thread(target=self._live, name="flow8-caller", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more
                self._at_work -= 1
                if self._at_work <= 0:
                    raise
                log.warning("no further thread can be started; those that there are go on")
                return
            self._threads.add(thread)

    def _live(self) -> None:
        """A thread's life: shift after shift, with pauses."""
        try:
            while True:
                self._shift()
                if not self._rested():
                    return
        except BaseException as error:  # noqa: BLE001  # told to whoever watches
            with self._changed:
                self._left()
                self._failure = error
                self._threads.discard(threading.current_thread())
                self._changed.notify_all()

    def _leave(self) -> None:
        self._leaving.add(threading.current_thread())
        self._at_work -= 1

    def _left(self) -> None:
        """This thread's shift is over, and perhaps it was let go before."""
        if threading.current_thread() not in self._leaving:
            self._leave()
        self._leaving.remove(threading.current_thread())

    def _rested(self) -> bool:
        """Wait to be wanted; False where the thread is to end."""
        with self._changed:
            self._left()
            self._idle += 1
            self._changed.notify_all()  # whoever watches may be done
            self._wanting.wait_for(lambda: self._wanted > 0 or self._over, IDLE_S)
            self._idle -= 1
            if self._wanted > 0:
                self._wanted -= 1
                return True
            self._threads.discard(threading.current_thread())
            return False
