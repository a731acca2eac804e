"""Every interleaving of two workers, a sweep and a person who cancels, on the real transitions of one small play.

A state is the play document, what each worker is about to do, and what the world has seen (calls made, rows written).
Between any two writes a worker may crash or simply be late; leases end when the search says so, with their owner alive
or dead. Time is not in the state: everything parked is due, and a lease is over when its end is tried. What the search
may do only so often (crash, end a live lease, fail, 429, cancel) is its budget, which makes the space finite.

A write is one transition on the document as it stands: one on an older version would fail its compare-and-set and
change nothing. What a sweep without compare-and-set would do is searched with `blind_sweep`. `Engine` searches the
writes that the engine composes (composing.py): landing, next claim and mark in one, with lanes that have their share,
threads of one process that land together, and queues that nobody serves.

Each state is checked by itself, and from each of them the play must be able to reach an end without any luck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain, combinations
from typing import Any, NamedTuple

from flow8_runtime import documents, transitions
from flow8_runtime.claims import Claim, Outcome
from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play, StepState
from flow8_runtime.heads import headed, lane
from flow8_runtime.states import LEASED, LIVE_PLAYS, READY, TERMINAL, Result, Stale
from tests.runtime.composing import Composer
from tests.runtime.graph import Graph
from tests.runtime.kit import DOWN, PLAY, START, identity
from tests.runtime.promises import Attempt, Violation, check, check_call, check_step

__all__ = ["Budget", "Engine", "Rules", "Search", "Violation"]

UNTIL = START + timedelta(seconds=30)
LATE = START + timedelta(hours=2)  # after every due time and every lease with its grace
LATER = LATE + timedelta(minutes=10)  # when what waits for a link looks by itself
LINK = "link:1"


@dataclass(frozen=True)
class Rules:
    """The functions that are searched; a test replaces one to see that the search notices."""

    claim: Callable[..., Play] = transitions.claim
    call: Callable[..., Play] = transitions.call
    land: Callable[..., Play] = transitions.land
    lease_end: Callable[..., Play] = transitions.lease_end
    cancel: Callable[..., Play] = transitions.cancel
    cancel_step: Callable[..., Play] = transitions.cancel_step
    give_back: Callable[..., Play] = transitions.give_back
    release: Callable[..., Play] = transitions.release
    rotate: Callable[..., Play] = transitions.rotate
    make_due: Callable[..., Play] = transitions.make_due
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
    returns: int = 0  # claims given back unused
    filters: int = 0  # steps that are over before their call: filtered, or wrong input
    waits: int = 0  # steps that wait for a link
    doubts: int = 0  # answers from which nobody can tell whether it happened


@dataclass(frozen=True)
class Engine:
    """How the two workers write, where they do it as the engine does.

    `prepares` are the steps whose claim is marked by the same write; with `shares`, any lane may have its share at any
    moment; `one_process` makes of the workers two threads that live, die and land together; they serve `queues`.
    """

    prepares: frozenset[str] = frozenset()
    shares: bool = False
    one_process: bool = False
    queues: tuple[str, ...] = ("default",)


class Worker(NamedTuple):
    """`phase`: idle, claimed, marked (about to send), sent (knows the answer), written (its row is there). `prepared`:
    it was marked by the write that claimed it."""

    owner: str
    phase: str = "idle"
    attempt: Attempt = ("", 0)
    result: str = ""
    prepared: bool = False


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
        mine = (self.play["status"], owners, tuple(map(frozen, steps)), first[1:], second[1:], self.world)
        return (*mine, *self._heads()) if "rotate_at" in self.play else mine

    def _heads(self) -> Frozen:
        """Which lane is at the head, and which ones follow: the order of their due times, not the times."""
        dues = [step["due_at"] if step["status"] in READY else None for step in self.play["steps"].values()]
        order = sorted({due for due in dues if due is not None})
        ranks = tuple(order.index(due) if due is not None else -1 for due in dues)
        return (self.play["queue"], self.play["lane"], ranks)


Frozen = tuple[Any, ...]
STEP_FIELDS = ("status", "n", "landed", "lost", "effect", "retries", "parks", "waiting_for", "cancelled_at")


@dataclass
class Search:
    """Searches one flow. `effects` says what repeating each step's call does."""

    flow: Flow
    effects: dict[str, str]
    budget: Budget
    rules: Rules = Rules()
    engine: Engine | None = None
    states: int = 0
    endings: set[tuple[str, ...]] = field(default_factory=set)
    _frozen: dict[int, tuple[StepState, Frozen]] = field(default_factory=dict)

    def run(self) -> Search:
        """Visit every state. Raises `Violation` at the first promise that is broken, by the shortest path to it."""
        play = transitions.begin(identity(), self.flow, now=START)
        alike = self.engine is not None and self.engine.one_process
        workers = (Worker("w0"), Worker("w0" if alike else "w1"))
        first = State(play, workers, World(self.budget))
        graph = Graph(first.key(self._freeze))
        layer = [(0, first)]
        while layer:
            following: list[tuple[int, State]] = []
            for number, state in layer:
                self.states += 1
                try:
                    check(self, state)
                    if self.is_over(state.play):
                        graph.ends(number)
                    for event, after, is_move in self._events(state):
                        check_step(state, after)
                        new = graph.add(number, after.key(self._freeze), event, is_move=is_move)
                        if new is not None:
                            following.append((new, after))
                except Violation as broken:
                    raise Violation(f"{broken}\n  " + "\n  ".join(graph.path(number))) from None
            layer = following
        if (stuck := graph.stuck()) is not None:
            raise Violation("lost: no way leads from here to an end\n  " + "\n  ".join(graph.path(stuck)))
        return self

    def is_over(self, play: Play) -> bool:
        """Whether the play has ended, or all of it that these workers serve."""
        if play["status"] not in LIVE_PLAYS:
            return True
        names = self.flow.groups[play["group"]]
        served = [name for name in names if self.flow.step(name).queue in self._queues]
        return len(served) < len(names) and all(play["steps"][name]["status"] in TERMINAL for name in served)

    @property
    def _queues(self) -> tuple[str, ...]:
        return ("default",) if self.engine is None else self.engine.queues

    def _freeze(self, step: StepState) -> Frozen:
        """A step's state as a key; transitions share what they do not change, so most are frozen once."""
        known = self._frozen.get(id(step))
        if known is None:
            later = "due_at" in step and step["due_at"] > LATE
            frozen = (*map(step.get, STEP_FIELDS), tuple(step.get("open", ())), later)
            known = self._frozen[id(step)] = (step, frozen)  # kept, or its id may be another one's
        return known[1]

    def _events(self, state: State) -> Iterator[tuple[str, State, bool]]:
        for event, after in self._moves(state):
            yield event, after, True
        for event, after in self._mishaps(state):
            yield event, after, False

    def _moves(self, state: State) -> Iterator[tuple[str, State]]:
        """What must be possible until the play is over."""
        for index, worker in enumerate(state.workers):
            yield from self._worker(state, index, worker)
        if self.engine is not None and self.engine.one_process:
            yield from self._land_together(state)
        yield from self._sweep(state)
        yield from self._resume(state)

    def _resume(self, state: State) -> Iterator[tuple[str, State]]:
        """What waits for a link goes on when it works again, or looks by itself."""
        waiting = [name for name, step in state.play["steps"].items() if "waiting_for" in step]
        if waiting:
            play = self.rules.release(state.play, self.flow, LINK, now=START)
            yield "the link works again", state._replace(play=play)
        for name in waiting:
            if state.play["steps"][name]["due_at"] > LATE:
                play = self.rules.make_due(state.play, self.flow, name, now=LATE)
                yield f"{name} looks by itself", state._replace(play=play)

    def _worker(self, state: State, index: int, worker: Worker) -> Iterator[tuple[str, State]]:
        if worker.phase == "idle":
            yield from self._claim(state, index)
        elif worker.phase == "claimed":
            yield self._mark(state, index)
        elif worker.phase == "marked":
            yield self._send(state, index)
        elif worker.phase == "sent":
            yield self._write_row(state, index)
        elif self.engine is None:
            yield self._land(state, index)
        else:
            yield from self._land_composed(state, (index,))

    # ---- Claiming and landing, by single transitions

    def _claim(self, state: State, index: int) -> Iterator[tuple[str, State]]:
        if self.engine is not None:
            yield from self._claim_composed(state, index)
            return
        owner = state.workers[index].owner
        for name in transitions.ready(state.play, self.flow, now=LATE, queues=self._queues):
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
        check_call(self, state, worker.attempt)
        sent = (*world.sent, (worker.attempt, self.rules.key(worker.attempt)))
        world = world._replace(sent=tuple(sorted(sent)))
        return f"{worker.owner} calls {worker.attempt}", _with(state, index, worker._replace(phase="sent"), world=world)

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
        for following in transitions.ready(play, self.flow, now=LATE, queues=self._queues):
            play = self.rules.claim(play, self.flow, following, owner=worker.owner, now=LATE, until=UNTIL)
            taken = Worker(worker.owner, "claimed", (following, play["steps"][following]["n"]))
            break
        return f"{worker.owner} lands {worker.attempt}, takes {taken.attempt}", _with(state, index, taken, play=play)

    # ---- The same, as the engine writes it

    def _claim_composed(self, state: State, index: int) -> Iterator[tuple[str, State]]:
        owner = state.workers[index].owner
        for full in self._shares(state.play):
            play, claims = self._composer.claim(state.play, owner, self._queues, full)
            if len(claims) > 1:
                raise Violation(f"nobody's: {len(claims)} steps were taken by one thread")
            if claims:
                worker = _taker(owner, claims[0])
                yield f"{owner} takes {worker.attempt}, {worker.phase}", _with(state, index, worker, play=play)

    def _land_composed(self, state: State, indices: tuple[int, ...]) -> Iterator[tuple[str, State]]:
        """One or several threads of a process land, and each gets a next step if there is one."""
        landing = [state.workers[index] for index in indices]
        outcomes = [_outcome(state.play, worker) for worker in landing]
        told = " and ".join(f"{worker.owner} lands {worker.attempt}" for worker in landing)
        for full in self._shares(state.play):
            play, claims, _ = self._composer.land(state.play, outcomes, self._queues, full)
            after = state._replace(play=play)
            for place, index in enumerate(indices):
                owner = landing[place].owner
                worker = _taker(owner, claims[place]) if place < len(claims) else Worker(owner)
                after = _with(after, index, worker)
            if len(claims) > len(indices):
                raise Violation(f"nobody's: {len(claims)} steps were taken by {len(indices)} threads")
            yield f"{told}, {len(claims)} taken, with {sorted(full)} full", after

    def _land_together(self, state: State) -> Iterator[tuple[str, State]]:
        if all(worker.phase == "written" for worker in state.workers):
            yield from self._land_composed(state, (0, 1))

    @property
    def _composer(self) -> Composer:
        assert self.engine is not None
        return Composer(self.flow, self.effects, self.engine.prepares, LATE, UNTIL)

    def _shares(self, play: Play) -> list[frozenset[str]]:
        """Which lanes may have their share: none of them, and then any."""
        assert self.engine is not None
        if not self.engine.shares:
            return [frozenset()]
        lanes = sorted({lane(play, self.flow, step.name) for step in self.flow.steps})
        return [frozenset(some) for some in chain.from_iterable(combinations(lanes, k) for k in range(len(lanes) + 1))]

    # ---- The sweep

    def _sweep(self, state: State) -> Iterator[tuple[str, State]]:
        """Dead owners are found for certain; that the lease of a live one ends is a mishap."""
        if self.rules.blind_sweep:
            yield from self._blind_sweep(state)
            return
        alive = {worker.owner for worker in state.workers}
        for name, step in state.play["steps"].items():
            if step["status"] in LEASED and step["owner"] not in alive:
                yield f"sweep: {name} of a dead owner", state._replace(play=self._end(state, name, dead=True))
        if "rotate_at" in state.play and state.play["rotate_at"] <= LATE:
            play = self.rules.rotate(state.play, self.flow, now=state.play["rotate_at"])
            yield "sweep: another lane to the head", state._replace(play=_early(play, self.flow))

    def _end(self, state: State, name: str, *, dead: bool, sees_rows: bool = True) -> Play:
        n = state.play["steps"][name]["n"]
        for row_name, row_n, result in state.world.rows:
            if sees_rows and (row_name, row_n) == (name, n):
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

    # ---- Mishaps

    def _mishaps(self, state: State) -> Iterator[tuple[str, State]]:
        budget = state.world.budget
        if budget.crashes:
            yield from self._crash(state, _spent(state, crashes=budget.crashes - 1))
        if budget.timeouts and not self.rules.blind_sweep:
            yield from self._time_out(state, _spent(state, timeouts=budget.timeouts - 1))
        for index, worker in enumerate(state.workers):
            yield from self._worker_mishaps(state, index, worker)
        if budget.cancels and state.play["status"] in LIVE_PLAYS:
            yield self._cancel(_spent(state, cancels=budget.cancels - 1))
        if budget.step_cancels:
            yield from self._cancel_step(_spent(state, step_cancels=budget.step_cancels - 1))

    def _worker_mishaps(self, state: State, index: int, worker: Worker) -> Iterator[tuple[str, State]]:
        budget = state.world.budget
        if worker.phase == "sent" and budget.failures:
            yield self._write_row(_spent(state, failures=budget.failures - 1), index, "failed")
        if worker.phase == "sent" and budget.throttles:
            yield self._write_row(_spent(state, throttles=budget.throttles - 1), index, "parked")
        if worker.phase == "sent" and budget.doubts:
            yield self._write_row(_spent(state, doubts=budget.doubts - 1), index, self._doubtful(worker.attempt[0]))
        if worker.phase == "claimed" and budget.filters:
            after = _spent(state, filters=budget.filters - 1)
            yield self._write_row(after, index, "filtered")
            yield self._write_row(after, index, "failed")
        if worker.phase == "claimed" and budget.waits:
            yield self._write_row(_spent(state, waits=budget.waits - 1), index, "waits")
        if budget.returns and (worker.phase == "claimed" or (worker.phase == "marked" and worker.prepared)):
            yield self._give_back(_spent(state, returns=budget.returns - 1), index, worker)

    def _doubtful(self, name: str) -> str:
        """What comes of an answer that says nothing: as runner and attempt decide it."""
        once = self.effects[name] == "once" and self.flow.step(name).on_unknown == "fail"
        return "outcome_unknown" if once else "retry"

    def _give_back(self, state: State, index: int, worker: Worker) -> tuple[str, State]:
        name, n = worker.attempt
        play = state.play
        with suppress(Stale):
            play = self.rules.give_back(play, self.flow, name, n, now=LATE, uncalled=worker.prepared)
        return f"{worker.owner} gives {worker.attempt} back", _with(state, index, Worker(worker.owner), play=play)

    def _crash(self, state: State, after: State) -> Iterator[tuple[str, State]]:
        if self.engine is not None and self.engine.one_process:
            owner = state.workers[0].owner
            if any(worker.phase != "idle" for worker in state.workers):
                yield f"{owner} dies, with both its threads", after._replace(workers=(Worker(owner + "'"),) * 2)
            return
        for index, worker in enumerate(state.workers):
            if worker.phase != "idle":
                yield f"{worker.owner} dies as {worker.phase}", _with(after, index, Worker(worker.owner + "'"))

    def _time_out(self, state: State, after: State) -> Iterator[tuple[str, State]]:
        rows = {(name, n) for name, n, _ in state.world.rows}
        for name, step in state.play["steps"].items():
            if step["status"] in LEASED:
                play = self._end(state, name, dead=False)
                yield f"the lease of {name} ends, its owner lives", after._replace(play=play)
                if (name, step["n"]) in rows:
                    play = self._end(state, name, dead=False, sees_rows=False)
                    yield f"the lease of {name} ends, seen before its row was there", after._replace(play=play)

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


def _early(play: Play, flow: Flow) -> Play:
    """The same play with its steps due in the same order, but as early as can be: no rotation may use up the time."""
    steps = play["steps"]
    order = sorted({step["due_at"] for step in steps.values() if "due_at" in step and step["due_at"] <= LATE})
    early = {due: START + timedelta(seconds=rank) for rank, due in enumerate(order)}
    new = {
        name: {**step, "due_at": early[step["due_at"]]} for name, step in steps.items() if step.get("due_at") in early
    }
    return headed({**play, "steps": {**steps, **new}}, flow)


def _taker(owner: str, claim: Claim) -> Worker:
    prepared = claim.prepared is not None
    return Worker(owner, "marked" if prepared else "claimed", (claim.step, claim.n), prepared=prepared)


def _outcome(play: Play, worker: Worker) -> Outcome:
    name, n = worker.attempt
    result = _result(worker.result)
    return Outcome(
        Claim(play, name, n, worker.owner, UNTIL),
        result.status,  # type: ignore[arg-type]
        output={} if result.status == "done" else None,
        error=dict(result.error) if result.error else None,
        due_at=result.due_at,
        waiting_for=result.waiting_for,
        counts=result.counts,
    )


def _result(name: str) -> Result:
    if name == "done":
        return Result("done", output="{}")
    if name == "filtered":
        return Result("filtered")
    if name in ("parked", "retry", "waits"):
        if name == "waits":
            return Result("parked", error=DOWN, due_at=LATER, waiting_for=LINK)
        return Result("parked", error=DOWN, due_at=START, counts=name == "retry")
    return Result(name, error=DOWN)


def _spent(state: State, **spent: int) -> State:
    return state._replace(world=state.world._replace(budget=state.world.budget._replace(**spent)))


def _with(state: State, index: int, worker: Worker, *, play: Play | None = None, world: World | None = None) -> State:
    workers = (worker, state.workers[1]) if index == 0 else (state.workers[0], worker)
    return State(play or state.play, workers, world or state.world)
