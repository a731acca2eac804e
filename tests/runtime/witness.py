"""What a history of the ledger has promised, and whether it was kept: the calls that were made, what was cancelled, and
how each step ended.

A step's name begins with what repeating its call does (`EFFECTS`), so that a flow is all there is to know of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId

from flow8_modules.effect import Effect
from flow8_runtime import transitions
from flow8_runtime.claims import Claim
from flow8_runtime.definition import Flow
from flow8_runtime.documents import PLAYS, STEP_RUNS, Play, attempt_id
from flow8_runtime.ledger import Cancellation
from flow8_runtime.states import BROKEN, LEASED, LIVE_PLAYS, LOST_LIMIT, READY, SUCCEEDED, TERMINAL
from tests.runtime.kit import Watched

EFFECTS = {"o": Effect.ONCE, "k": Effect.KEYED, "r": Effect.READ, "p": Effect.REPEATABLE}
BAD = BROKEN | {"cancelled"}
STATES = {"waiting", "cancelled"} | READY | LEASED | SUCCEEDED | BROKEN

Step = tuple[ObjectId, str]
Attempt = tuple[ObjectId, str, int]


def effect_of(name: str) -> Effect:
    """What repeating the call of a step does."""
    return EFFECTS[name[0]]


@dataclass
class Witness:
    """Knows the flow of each play, hears of everything, and fails the test at the first promise that is broken."""

    store: Watched
    flows: dict[ObjectId, Flow] = field(default_factory=dict)
    effects: dict[Step, list[Attempt]] = field(default_factory=dict)  # the calls that happened, or may have
    keys: dict[Step, set[str]] = field(default_factory=dict)
    answers: dict[Attempt, str] = field(default_factory=dict)  # what an attempt came to, by its worker's word
    marked: set[Attempt] = field(default_factory=set)
    cancelled: dict[ObjectId, set[tuple[str, int]]] = field(default_factory=dict)
    stopped: dict[Step, set[int]] = field(default_factory=dict)
    _seen: dict[ObjectId, Play] = field(default_factory=dict)

    def calls(self, claim: Claim) -> None:
        """A worker is sending the request of a step."""
        play_id, name, n = claim.attempt_key
        earlier = self.effects.setdefault((play_id, name), [])
        if effect_of(name) is Effect.ONCE and self.flows[play_id].step(name).on_unknown == "fail":
            assert not earlier, f"twice: {name} is called by attempt {n} after {earlier}"
        self._check_cancelled(play_id, name, n)
        self._check_order(play_id, name)
        earlier.append(claim.attempt_key)
        keys = self.keys.setdefault((play_id, name), set())
        keys.add(claim.idempotency_key)
        assert len(keys) == 1, f"two keys: {name} was called with {sorted(keys)}"

    def marks(self, claim: Claim) -> None:
        """A worker has marked a claim, and is about to call."""
        state = claim.state
        assert (state["n"], state["owner"]) == (claim.n, claim.owner), f"not its own: {claim.step} is {state}"

    def answered(self, claim: Claim, came_to: str, *, happened: bool) -> None:
        """A worker knows what its attempt came to. A 429 and a refused connection have done nothing."""
        self.answers[claim.attempt_key] = came_to
        if not happened:
            done = self.effects.get((claim.play_id, claim.step), [])
            self.effects[claim.play_id, claim.step] = [each for each in done if each != claim.attempt_key]

    def was_cancelled(self, told: Cancellation, *, step: str | None = None) -> None:
        """Somebody was told that a play, or one step of it, is cancelled, but for what the answer names as open."""
        play_id = told.play["_id"]
        open_calls = [call for call in transitions.open_calls(told.play) if step in (None, call[0])]
        assert set(told.open) == {f"{play_id}:{name}" for name, _ in open_calls}
        if step is None:
            self.cancelled.setdefault(play_id, set(open_calls))
        elif told.play["steps"][step]["status"] not in TERMINAL - {"cancelled"}:
            self.stopped.setdefault((play_id, step), {n for _, n in open_calls})

    def look(self) -> None:
        """Each play is where it may be, and has not gone back on what it was."""
        for play_id, flow in self.flows.items():
            play = self._read(play_id)
            self._check_names(play)
            self._check_went_on(self._seen.get(play_id, play), play)
            self._seen[play_id] = play
            if play["status"] in LIVE_PLAYS:
                assert "due_at" in play or "until" in play, f"no head: {statuses(play)}"
            else:
                self._check_ending(play, flow)

    @property
    def over(self) -> bool:
        """Whether every play had ended when they were last looked at."""
        return all(self._seen[play_id]["status"] not in LIVE_PLAYS for play_id in self.flows)

    def _read(self, play_id: ObjectId) -> Play:
        play = self.store.get(PLAYS, play_id)
        assert play is not None, f"lost: the play {play_id} is gone"
        return play

    def _check_cancelled(self, play_id: ObjectId, name: str, n: int) -> None:
        if play_id in self.cancelled:
            told = self.cancelled[play_id]
            assert (name, n) in told, f"after the cancel: attempt {n} of {name} calls, and {told} were named"
        if (play_id, name) in self.stopped:
            known = self.stopped[play_id, name]
            assert n in known, f"after the step's cancel: attempt {n} of {name} calls, and {known} were named"

    def _check_order(self, play_id: ObjectId, name: str) -> None:
        """What comes earlier is over, and none of it has failed in a way that skips what comes later. (A worker may
        stand still before its call for as long as it likes, so that its play is over meanwhile.)"""
        play, flow = self._read(play_id), self.flows[play_id]
        for group in flow.groups[: flow.groups.index(next(group for group in flow.groups if name in group))]:
            earlier = {each: play["steps"][each]["status"] for each in group}
            assert set(earlier.values()) <= TERMINAL, f"out of order: {name} is called while there are {earlier}"
            bad = [each for each in group if earlier[each] in BAD and flow.step(each).on_error == "fail"]
            assert not bad, f"not skipped: {name} is called after {bad} ended so: {earlier}"

    def _check_names(self, play: Play) -> None:
        assert play["status"] in LIVE_PLAYS | {"DONE", "FAIL"}
        for name, state in play["steps"].items():
            assert state["status"] in STATES, f"no name: {name} is {state['status']}"
            if state["status"] in LEASED:
                assert {"owner", "until", "n"} <= state.keys(), f"nobody speaks for {name}: {state}"
            if state["status"] in READY:
                assert "due_at" in state, f"never due: {name} is {state}"

    def _check_went_on(self, before: Play, now: Play) -> None:
        assert now["rev"] >= before["rev"]
        if now["rev"] == before["rev"]:
            assert now == before, "a play was written without a new rev"
        assert before["status"] in LIVE_PLAYS or now["status"] == before["status"], "a play that was over goes on"
        for name, was in before["steps"].items():
            state = now["steps"][name]
            assert state.get("n", 0) >= was.get("n", 0), f"{name} has lost its fence"
            if was["status"] in TERMINAL:
                assert state["status"] == was["status"], f"{name} was {was['status']}, and is {state['status']}"

    def _check_ending(self, play: Play, flow: Flow) -> None:
        ended = statuses(play)
        assert set(ended.values()) <= TERMINAL, f"over too early: {play['status']} with {ended}"
        bad = [
            name
            for name, status in ended.items()
            if status == "cancelled" or (status in BROKEN and flow.step(name).on_error == "fail")
        ]
        assert (play["status"] == "FAIL") == bool(bad), f"not consistent: {play['status']} with {ended}"
        for name, state in play["steps"].items():
            assert self._explained(play, flow, name, state), f"without a reason: {name} is {state} in {ended}"

    def _explained(self, play: Play, flow: Flow, name: str, state: Mapping[str, Any]) -> bool:
        """Whether there is a reason for a step's having ended as it has."""
        attempt = (play["_id"], name, state.get("landed", 0))
        told = self.answers.get(attempt)
        status = state["status"]
        if told is not None and status in ("done", "failed", "filtered") and state["n"] != state["landed"]:
            return False  # an outcome counts only while nobody has claimed the step since
        if status == "done":
            row = self.store.get(STEP_RUNS, attempt_id(*attempt))
            return told == "done" and row is not None and row["status"] == "done"
        parked_out = told in ("parked", "waiting") and "parked for" in state.get("error", {}).get("message", "")
        if status == "failed":
            return told == "failed" or parked_out
        if status == "skipped" and told is None:
            others = {each for other, each in statuses(play).items() if other != name}
            return bool(others & BAD)
        if status == "skipped":
            return (told == "failed" or parked_out) and flow.step(name).on_error == "skip"
        if status == "outcome_unknown":
            lost = state.get("lost", 0) > 0 and (play["_id"], name, state["n"]) in self.marked
            once = effect_of(name) is Effect.ONCE and flow.step(name).on_unknown == "fail"
            return once and (told == "outcome_unknown" or lost)
        if status == "dead_letter":
            return bool(state["lost"] >= LOST_LIMIT)
        if status == "cancelled":
            return play["_id"] in self.cancelled or (play["_id"], name) in self.stopped
        return told == status


def statuses(play: Play) -> dict[str, str]:
    """The steps' states."""
    return {name: state["status"] for name, state in play["steps"].items()}
