"""Who gets the slots of a process where there are more steps than slots: nobody more than a share while others wait."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bson import ObjectId

from flow8_core.clock import SystemClock
from flow8_core.store import Store
from flow8_runtime import engine as engine_module
from flow8_runtime.claims import Claim, Outcome
from flow8_runtime.definition import Flow
from flow8_runtime.engine import Engine
from flow8_runtime.ledger import Ledger
from flow8_runtime.owners import Owner
from tests.processes import until
from tests.runtime.kit import USER, Silent, call, flow_of, nothing_ahead, open_ledger, outcome, sequence, step

SLOTS = 16
MOST = SLOTS - SLOTS // 8  # of one company, and of its only credential
HALF = SLOTS // 2
A, B, C = ObjectId(), ObjectId(), ObjectId()


@dataclass
class Vendor:
    """A vendor that answers when it is told to, and knows who waits for it."""

    ledger: Ledger
    called: list[tuple[ObjectId, str]] = field(default_factory=list)
    _waiting: dict[int, tuple[Claim, threading.Event]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    open: bool = False

    ahead = staticmethod(nothing_ahead)

    def prepare(self, claim: Claim) -> None:
        return None

    def run(self, claim: Claim) -> Outcome | None:
        marked = call(self.ledger, claim)
        answer = threading.Event()
        with self._lock:
            self._waiting[id(answer)] = (claim, answer)
            self.called.append((claim.company_id, claim.step))
            if self.open:
                answer.set()
        assert answer.wait(30)
        with self._lock:
            del self._waiting[id(answer)]
        return None if marked is None else outcome(marked)

    @property
    def held(self) -> Counter[ObjectId]:
        """Calls under way, by company."""
        return Counter(claim.company_id for claim, _ in list(self._waiting.values()))

    def held_of(self, company: ObjectId) -> Counter[str]:
        """A company's calls under way, by credential."""
        return Counter(
            self.ledger.flow(claim.play["definition"]).step(claim.step).credential_hint or ""
            for claim, _ in list(self._waiting.values())
            if claim.company_id == company
        )

    def answer(self, company: ObjectId | None = None) -> None:
        """Answer calls under way, of this company or of all."""
        with self._lock:
            waiting = [answer for claim, answer in self._waiting.values() if company in (None, claim.company_id)]
            for answer in waiting:
                answer.set()

    def answer_all(self) -> None:
        """From now on answer at once."""
        with self._lock:
            self.open = True
        self.answer()


@dataclass
class House:
    """A worker process with `SLOTS` slots."""

    ledger: Ledger
    vendor: Vendor
    engine: Engine

    def submit(self, company: ObjectId, count: int = 1, flow: Flow | None = None) -> None:
        ids = [ObjectId() for _ in range(count)]
        self.ledger.submit_many(flow or sequence("a"), [{}] * count, company_id=company, user_id=USER, play_ids=ids)

    def comes_to(self, held: dict[ObjectId, int]) -> None:
        """Wake-ups bring about that so many calls are under way, and no more."""

        def woken() -> bool:
            self.engine.drain()
            return self.vendor.held == held

        until(woken, f"{held} (of {A}, {B})", timeout=15)
        for _ in range(3):
            self.engine.drain()
        assert self.vendor.held == held


@pytest.fixture
def house(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    for name in ("HAND_OVER_S", "HAND_OVER_MOST_S", "HAND_OVER_EVERY_S"):
        monkeypatch.setattr(engine_module, name, 0.01)  # there is no other process to leave anything to
    ledger = open_ledger(store)
    vendor = Vendor(ledger)
    engine = Engine(
        ledger=ledger, runner=vendor, wakeup=Silent(), owner=Owner(tmp_path), clock=SystemClock(),  # type: ignore[arg-type]
        budget_s=0.1, threads=SLOTS,
    )  # fmt: skip
    yield House(ledger, vendor, engine)
    vendor.answer_all()
    engine.close()


def with_key(name: str, key: str, order: int = 1) -> dict[str, object]:
    return step(name, order, component_config_ids={"storage": key})


def test_even_alone_a_company_leaves_an_eighth_of_the_slots_free(house: House) -> None:
    house.submit(A, 60)

    house.comes_to({A: MOST})


def test_a_newcomer_is_called_while_all_that_another_may_hold_is_held(house: House) -> None:
    house.submit(A, 60)
    house.comes_to({A: MOST})

    house.submit(B)

    house.comes_to({A: MOST, B: 1})


def test_where_two_companies_wait_each_holds_half(house: House) -> None:
    house.submit(A, 60)
    house.submit(B, 60)

    house.comes_to({A: HALF, B: HALF})


def test_what_a_company_holds_beyond_its_share_it_loses_as_its_calls_end(house: House) -> None:
    house.submit(A, 60)
    house.comes_to({A: MOST})
    house.submit(B, 60)
    house.comes_to({A: MOST, B: SLOTS - MOST})

    house.vendor.answer(A)

    house.comes_to({A: HALF, B: HALF})


def test_begun_plays_keep_no_slot_that_another_company_waits_for(house: House) -> None:
    house.submit(A, 60, sequence("a", "b", "c"))
    house.comes_to({A: MOST})
    house.submit(B, 60)
    house.comes_to({A: MOST, B: SLOTS - MOST})

    house.vendor.answer(A)

    house.comes_to({A: HALF, B: HALF})


def test_a_credential_holds_no_more_than_its_share_of_its_companys_slots(house: House) -> None:
    house.submit(A, 60, flow_of(with_key("a", "k1")))
    house.submit(A, 60, flow_of(with_key("a", "k2")))
    house.submit(B, 60)

    house.comes_to({A: HALF, B: HALF})
    assert sorted(house.vendor.held_of(A).values()) == [SLOTS // 4, SLOTS // 4]


def test_begun_plays_go_before_new_ones(house: House) -> None:
    house.submit(A, 30, sequence("a", "b"))
    house.comes_to({A: MOST})

    house.vendor.answer(A)

    house.comes_to({A: MOST})

    assert house.vendor.called[MOST:] == [(A, "b")] * MOST


def test_what_others_leave_a_company_may_have(house: House) -> None:
    house.submit(A, 60)
    house.submit(B, 2)

    house.comes_to({A: MOST, B: 2})
