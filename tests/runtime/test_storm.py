"""The ledger under a storm: workers that die at every point, and sweeps that clean up after them."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import ClassVar

import pytest
from bson import ObjectId

from flow8_core.store import Store
from flow8_modules.effect import Effect
from flow8_runtime.ledger import Claim, Ledger
from flow8_runtime.sweep import Sweep
from tests.runtime.kit import COMPANY, call, in_threads, open_ledger, outcome, sequence, submit


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return open_ledger(store)


class Storm:
    """Workers that die at every point, sweeps that clean up after them, and a count of every call."""

    EFFECTS: ClassVar = {"a": Effect.ONCE, "b": Effect.KEYED, "c": Effect.ONCE}

    def __init__(self, ledger: Ledger, store: Store, plays: list[ObjectId]) -> None:
        self.ledger = ledger
        self.store = store
        self.plays = plays
        self.calls: Counter[tuple[ObjectId, str]] = Counter()
        self.dead: set[str] = set()
        self.over = threading.Event()
        self.orphans = 0

    def work(self, name: str) -> None:
        rng = random.Random(name)
        mine = Ledger(self.store, rng=rng)
        generation = 0
        while not self.over.is_set():
            owner = f"{name}.{generation}"
            claims = mine.claim(2, owner=owner)
            while claims and owner not in self.dead:
                following = self._run(mine, claims.pop(0), owner, rng)
                claims += following
            generation += owner in self.dead
            if not claims:
                self.over.wait(0.001)

    def _run(self, mine: Ledger, claim: Claim, owner: str, rng: random.Random) -> list[Claim]:
        marked = None if self._dies(owner, rng) else call(mine, claim, effect=self.EFFECTS[claim.step])
        if marked is None or self._dies(owner, rng):
            return []
        self.calls[marked.play_id, marked.step] += 1
        if self._dies(owner, rng):
            return []
        landing = mine.land([outcome(marked)], owner=owner, claim=1)
        return landing.next + landing.claims

    def _dies(self, owner: str, rng: random.Random) -> bool:
        if rng.random() < 0.04:
            self.dead.add(owner)
        return owner in self.dead

    def sweep(self) -> None:
        mine = Ledger(self.store)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            self.orphans += Sweep(mine, self.store, dead=lambda owner: owner in self.dead).run().orphans
            if all(mine.get(play, company_id=COMPANY)["status"] in ("DONE", "FAIL") for play in self.plays):
                break
        self.over.set()


def test_a_storm_of_dying_workers_loses_no_step_and_calls_no_once_step_twice(ledger: Ledger, store: Store) -> None:
    storm = Storm(ledger, store, [submit(ledger, sequence("a", "b", "c")) for _ in range(30)])

    in_threads(6, lambda name: storm.sweep() if name in "01" else storm.work(name))

    assert storm.orphans == 0
    for play_id in storm.plays:
        play = ledger.get(play_id, company_id=COMPANY)
        ended = {name: state["status"] for name, state in play["steps"].items()}
        assert play["status"] == ("DONE" if set(ended.values()) == {"done"} else "FAIL")
        assert set(ended.values()) <= {"done", "outcome_unknown", "dead_letter", "skipped"}
        for name, status in ended.items():
            assert storm.calls[play_id, name] >= (status == "done")
            assert storm.calls[play_id, name] <= 1 or storm.EFFECTS[name] is Effect.KEYED
