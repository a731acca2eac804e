"""Every interleaving of two workers, a sweep and a person who cancels, on the real transitions of one small play.

A state is the play document, what each worker is about to do, and what the world has seen (calls made, rows written).
Between any two writes a worker may crash or simply be late; leases end when the search says so, with their owner alive
or dead. Time is not in the state: everything parked is due, and a lease is over when its end is tried. What the search
may do only so often (crash, end a live lease, fail, 429, cancel) is its budget, which makes the space finite.

A write is one transition on the document as it stands: one on an older version would fail its compare-and-set and
change nothing. What a sweep without compare-and-set would do is searched with `blind_sweep`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from flow8_runtime import documents, transitions
from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play, StepState
from flow8_runtime.states import BROKEN, LEASED, TERMINAL, Result, Stale
from tests.runtime.kit import DOWN, PLAY, START, identity

UNTIL = START + timedelta(seconds=30)
LATE = START + timedelta(hours=2)  # after every due time and every lease with its grace

Attempt = tuple[str, int]


@dataclass(frozen=True)
class Rules:
    """The functions that are searched; a test replaces one to see that the search notices."""

    claim: Callable[..., Play] = transitions.claim
    call: Callable[..., Play] = transitions.call
    land: Callable[..., Play] = transitions.land
    lease_end: Callable[..., Play] = transitions.lease_end
    cancel: Callable[..., Play] = transitions.cancel
    cancel_step: Callable[..., Play] = transitions.cancel_step
    acknowledged: Callable[[Play], list[Attempt]] = transitions.open_calls
    key: Callable[[Attempt], str] = lambda attempt: documents.idempotency_key(PLAY, attempt[0])
    blind_sweep: bool = False


class Budget(NamedTuple):
    """How often the search may do what would go on for ever."""

    crashes: int = 1
    timeouts: int = 1
    failures: int = 0
    throttles: int = 0
    cancels: int = 0
    step_cancels: int = 0


class Worker(NamedTuple):
    """`phase`: idle, claimed, marked (about to send), sent (knows the answer), written (its row is there)."""

    owner: str
    phase: str = "idle"
    attempt: Attempt = ("", 0)
    result: str = ""


class World(NamedTuple):
    """What has happened outside of the play document."""

    budget: Budget
    sent: tuple[tuple[Attempt, str], ...] = ()
    rows: frozenset[tuple[str, int, str]] = frozenset()
    acknowledged: frozenset[Attempt] | None = None
    stopped: frozenset[tuple[str, frozenset[Attempt]]] = frozenset()  # steps, each with what the answer named
    seen_by_sweep: tuple[str, int, bool] | None = None


class State(NamedTuple):
    play: Play
    workers: tuple[Worker, Worker]
    world: World

    def key(self, frozen: Callable[[StepState], Frozen]) -> Frozen:
        """Equal for states that differ only in which worker is which, and in which of the dead an owner is."""
        first, second = self.workers
        if first[1:] > second[1:]:
            first, second = second, first
        names = {first.owner: 1, second.owner: 2}
        steps = self.play["steps"].values()
        owners = tuple(names.get(step["owner"], 0) if "owner" in step else 0 for step in steps)
        return (self.play["status"], owners, tuple(map(frozen, steps)), first[1:], second[1:], self.world)


Frozen = tuple[Any, ...]
STEP_FIELDS = ("status", "n", "landed", "lost", "effect", "retries", "parks", "waiting_for", "cancelled_at")


class Violation(AssertionError):
    """A promise was broken; the message ends with the path to it."""


@dataclass
class Search:
    """Searches one flow. `effects` says what repeating each step's call does."""

    flow: Flow
    effects: dict[str, str]
    budget: Budget
    rules: Rules = Rules()
    states: int = 0
    endings: set[tuple[str, ...]] = field(default_factory=set)
    _frozen: dict[int, tuple[StepState, Frozen]] = field(default_factory=dict)

    def run(self) -> Search:
        """Visit every state. Raises `Violation` at the first promise that is broken, by the shortest path to it."""
        play = transitions.begin(identity(), self.flow, now=START)
        first = State(play, (Worker("w0"), Worker("w1")), World(self.budget))
        came_from: dict[Any, tuple[Any, str] | None] = {first.key(self._freeze): None}
        layer = [first]
        while layer:
            following: list[State] = []
            for state in layer:
                self.states += 1
                key = state.key(self._freeze)
                try:
                    self._check(state)
                    for event, after in self._events(state):
                        after_key = after.key(self._freeze)
                        if after_key not in came_from:
                            came_from[after_key] = (key, event)
                            following.append(after)
                except Violation as broken:
                    raise Violation(f"{broken}\n  " + "\n  ".join(_path(came_from, key))) from None
            layer = following
        return self

    def _freeze(self, step: StepState) -> Frozen:
        """A step's state as a key; transitions share what they do not change, so most are frozen once."""
        known = self._frozen.get(id(step))
        if known is None:
            frozen = (*map(step.get, STEP_FIELDS), tuple(step.get("open", ())))
            known = self._frozen[id(step)] = (step, frozen)  # kept, or its id may be another one's
        return known[1]

    def _events(self, state: State) -> Iterator[tuple[str, State]]:
        moved = False
        for event, after in self._moves(state):
            moved = True
            yield event, after
        if not moved and state.play["status"] not in ("DONE", "FAIL"):
            raise Violation(f"lost: nothing can happen any more, and the play is {_statuses(state.play)}")
        yield from self._mishaps(state)

    def _moves(self, state: State) -> Iterator[tuple[str, State]]:
        """What must be possible until the play is over."""
        for index, worker in enumerate(state.workers):
            yield from self._worker(state, index, worker)
        yield from self._sweep(state)

    def _worker(self, state: State, index: int, worker: Worker) -> Iterator[tuple[str, State]]:
        if worker.phase == "idle":
            yield from self._claim(state, index)
        elif worker.phase == "claimed":
            yield self._mark(state, index)
        elif worker.phase == "marked":
            yield self._send(state, index)
        elif worker.phase == "sent":
            yield self._write_row(state, index)
        else:
            yield self._land(state, index)

    def _claim(self, state: State, index: int) -> Iterator[tuple[str, State]]:
        owner = state.workers[index].owner
        for name in transitions.ready(state.play, self.flow, now=LATE, queues=("default",)):
            play = self.rules.claim(state.play, self.flow, name, owner=owner, now=LATE, until=UNTIL)
            attempt = (name, play["steps"][name]["n"])
            yield f"{owner} claims {attempt}", _with(state, index, Worker(owner, "claimed", attempt), play=play)

    def _mark(self, state: State, index: int) -> tuple[str, State]:
        worker = state.workers[index]
        name, n = worker.attempt
        try:
            play = self.rules.call(
                state.play, self.flow, name, n, until=UNTIL, effect=self.effects[name], credential=None
            )
        except Stale:
            return f"{worker.owner} is too late to mark {worker.attempt}", _with(state, index, Worker(worker.owner))
        return f"{worker.owner} marks {worker.attempt}", _with(state, index, worker._replace(phase="marked"), play=play)

    def _send(self, state: State, index: int) -> tuple[str, State]:
        worker, world = state.workers[index], state.world
        name = worker.attempt[0]
        earlier = [attempt for attempt, _ in world.sent if attempt[0] == name]
        if earlier and self.effects[name] == "once" and self.flow.step(name).on_unknown == "fail":
            raise Violation(f"twice: {worker.attempt} calls after {earlier}")
        if world.acknowledged is not None and worker.attempt not in world.acknowledged:
            raise Violation(f"after the cancel: {worker.attempt} calls, and the answer did not name it")
        if any(step == name and worker.attempt not in told for step, told in world.stopped):
            raise Violation(f"after the step's cancel: {worker.attempt} calls, and the answer did not name it")
        for group in self.flow.groups[: self._group(name)]:
            if any(state.play["steps"][before]["status"] not in TERMINAL for before in group):
                raise Violation(f"out of order: {worker.attempt} calls before {group} is over")
        sent = (*world.sent, (worker.attempt, self.rules.key(worker.attempt)))
        world = world._replace(sent=tuple(sorted(sent)))
        return f"{worker.owner} calls {worker.attempt}", _with(state, index, worker._replace(phase="sent"), world=world)

    def _group(self, name: str) -> int:
        return next(index for index, group in enumerate(self.flow.groups) if name in group)

    def _write_row(self, state: State, index: int, result: str = "done") -> tuple[str, State]:
        worker, world = state.workers[index], state.world
        sent = world.sent if result != "parked" else tuple(call for call in world.sent if call[0] != worker.attempt)
        world = world._replace(rows=world.rows | {(*worker.attempt, result)}, sent=sent)  # a 429 has done nothing
        worker = worker._replace(phase="written", result=result)
        return f"{worker.owner} writes the row of {worker.attempt}: {result}", _with(state, index, worker, world=world)

    def _land(self, state: State, index: int) -> tuple[str, State]:
        worker = state.workers[index]
        name, n = worker.attempt
        try:
            play = self.rules.land(state.play, self.flow, name, n, _result(worker.result), now=LATE)
        except Stale:
            return f"{worker.owner} is too late to land {worker.attempt}", _with(state, index, Worker(worker.owner))
        taken = Worker(worker.owner)
        for following in transitions.ready(play, self.flow, now=LATE, queues=("default",)):
            play = self.rules.claim(play, self.flow, following, owner=worker.owner, now=LATE, until=UNTIL)
            taken = Worker(worker.owner, "claimed", (following, play["steps"][following]["n"]))
            break
        return f"{worker.owner} lands {worker.attempt}, takes {taken.attempt}", _with(state, index, taken, play=play)

    def _sweep(self, state: State) -> Iterator[tuple[str, State]]:
        """Dead owners are found for certain; that the lease of a live one ends is a mishap."""
        if self.rules.blind_sweep:
            yield from self._blind_sweep(state)
            return
        alive = {worker.owner for worker in state.workers}
        for name, step in state.play["steps"].items():
            if step["status"] in LEASED and step["owner"] not in alive:
                yield f"sweep: {name} of a dead owner", state._replace(play=self._end(state, name, dead=True))

    def _end(self, state: State, name: str, *, dead: bool) -> Play:
        n = state.play["steps"][name]["n"]
        for row_name, row_n, result in state.world.rows:
            if (row_name, row_n) == (name, n):
                return self.rules.land(state.play, self.flow, name, n, _result(result), now=LATE)
        return self.rules.lease_end(state.play, self.flow, name, now=LATE, dead=dead)

    def _blind_sweep(self, state: State) -> Iterator[tuple[str, State]]:
        """A sweep that reads, and later writes what it makes of what it has read, whatever stands there then."""
        seen = state.world.seen_by_sweep
        if seen is None:
            for name, step in state.play["steps"].items():
                if step["status"] in LEASED and state.world.budget.timeouts:
                    spent = state.world.budget._replace(timeouts=state.world.budget.timeouts - 1)
                    mark = (name, step["n"], step["status"] == "calling")
                    yield (
                        f"sweep reads {mark}",
                        state._replace(world=state.world._replace(seen_by_sweep=mark, budget=spent)),
                    )
            return
        name, _, _ = seen
        steps = dict(state.play["steps"])
        steps[name] = {**steps[name], "status": "queued", "due_at": START}
        play = {**state.play, "steps": steps, "status": "RUN"}
        yield f"sweep queues {name}", state._replace(play=play, world=state.world._replace(seen_by_sweep=None))

    def _mishaps(self, state: State) -> Iterator[tuple[str, State]]:
        budget = state.world.budget
        if budget.crashes:
            yield from self._crash(state, _spent(state, crashes=budget.crashes - 1))
        if budget.timeouts and not self.rules.blind_sweep:
            yield from self._time_out(state, _spent(state, timeouts=budget.timeouts - 1))
        for index, worker in enumerate(state.workers):
            if worker.phase == "sent" and budget.failures:
                yield self._write_row(_spent(state, failures=budget.failures - 1), index, "failed")
            if worker.phase == "sent" and budget.throttles:
                yield self._write_row(_spent(state, throttles=budget.throttles - 1), index, "parked")
        if budget.cancels and state.play["status"] in ("NEW", "RUN"):
            yield self._cancel(_spent(state, cancels=budget.cancels - 1))
        if budget.step_cancels:
            yield from self._cancel_step(_spent(state, step_cancels=budget.step_cancels - 1))

    def _crash(self, state: State, after: State) -> Iterator[tuple[str, State]]:
        for index, worker in enumerate(state.workers):
            if worker.phase != "idle":
                yield f"{worker.owner} dies as {worker.phase}", _with(after, index, Worker(worker.owner + "'"))

    def _time_out(self, state: State, after: State) -> Iterator[tuple[str, State]]:
        for name, step in state.play["steps"].items():
            if step["status"] in LEASED:
                yield (
                    f"the lease of {name} ends, its owner lives",
                    after._replace(play=self._end(state, name, dead=False)),
                )

    def _cancel(self, state: State) -> tuple[str, State]:
        play = self.rules.cancel(state.play, self.flow, now=LATE)
        acknowledged = frozenset(self.rules.acknowledged(play))
        world = state.world._replace(acknowledged=acknowledged)
        return f"cancel, acknowledged with {sorted(acknowledged)} open", state._replace(play=play, world=world)

    def _cancel_step(self, state: State) -> Iterator[tuple[str, State]]:
        for name in state.play["steps"]:
            try:
                play = self.rules.cancel_step(state.play, self.flow, name, now=LATE)
            except Stale:
                continue
            told = frozenset(attempt for attempt in self.rules.acknowledged(play) if attempt[0] == name)
            world = state.world._replace(stopped=state.world.stopped | {(name, told)})
            yield f"cancel of {name}, acknowledged with {sorted(told)} open", state._replace(play=play, world=world)

    def _check(self, state: State) -> None:
        play, world = state.play, state.world
        keys = {(attempt[0], key) for attempt, key in world.sent}
        if len(keys) != len({name for name, _ in keys}):
            raise Violation(f"two keys: {sorted(keys)}")
        if play["status"] in ("NEW", "RUN"):
            if "due_at" not in play and "until" not in play and not self.rules.blind_sweep:
                raise Violation(f"no head: {_statuses(play)}")
        else:
            self._check_ending(play, world)

    def _check_ending(self, play: Play, world: World) -> None:
        statuses = _statuses(play)
        self.endings.add((play["status"], *statuses.values()))
        if not set(statuses.values()) <= TERMINAL:
            raise Violation(f"over too early: {play['status']} with {statuses}")
        broken = [
            name
            for name, status in statuses.items()
            if status == "cancelled" or (status in BROKEN and self.flow.step(name).on_error == "fail")
        ]
        if (play["status"] == "FAIL") != bool(broken):
            raise Violation(f"not consistent: {play['status']} with {statuses}")
        for name, step in play["steps"].items():
            if step["status"] == "done" and (name, step["landed"], "done") not in world.rows:
                raise Violation(
                    f"not its own outcome: {name} is done by attempt {step['landed']}, which has no such row"
                )


def _result(name: str) -> Result:
    if name == "done":
        return Result("done", output="{}")
    return Result(name, error=DOWN, due_at=START if name == "parked" else None)


def _spent(state: State, **spent: int) -> State:
    return state._replace(world=state.world._replace(budget=state.world.budget._replace(**spent)))


def _with(state: State, index: int, worker: Worker, *, play: Play | None = None, world: World | None = None) -> State:
    workers = (worker, state.workers[1]) if index == 0 else (state.workers[0], worker)
    return State(play or state.play, workers, world or state.world)


def _statuses(play: Play) -> dict[str, str]:
    return {name: step["status"] for name, step in play["steps"].items()}


def _path(came_from: dict[Any, tuple[Any, str] | None], key: Any) -> list[str]:
    events: list[str] = []
    while (step := came_from[key]) is not None:
        key, event = step
        events.append(event)
    return events[::-1]
