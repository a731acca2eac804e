"""Handing in: one writes for all that wait, and what befalls one outcome is not the others' loss."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from bson import ObjectId

from flow8_core.errors import StoreUnavailable
from flow8_runtime.claims import Claim, Landing, Outcome
from flow8_runtime.exchange import Exchange, HandIn
from tests.processes import until

UNTIL = datetime(2026, 4, 4, tzinfo=UTC)


def a_claim(play_id: ObjectId | None = None) -> Claim:
    return Claim({"_id": play_id or ObjectId()}, "a", 1, "w1", UNTIL)


def an_outcome(play_id: ObjectId | None = None) -> Outcome:
    return Outcome(a_claim(play_id), "done", output={})


class Books:
    """Where outcomes are landed: the writes one by one, the first of which waits until it is let go."""

    def __init__(self, *, claims: Sequence[Claim] = (), following: Sequence[Claim] = ()) -> None:
        self.claims = list(claims)
        self.following = list(following)
        self.writes: list[list[Outcome]] = []
        self.returned: list[Claim] = []
        self.refuses: list[Outcome] = []
        self.away = False
        self.wanted = 0
        self.first_goes = threading.Event()

    def land(self, outcomes: Sequence[Outcome], wanted: int) -> Landing:
        self.writes.append(list(outcomes))
        if len(self.writes) == 1:
            assert self.first_goes.wait(10)
            return Landing()
        if self.away:
            raise StoreUnavailable("The store is away.")
        if any(refused in outcomes for refused in self.refuses):
            raise ValueError("cannot be landed")
        self.wanted += wanted
        return Landing(next=self.following, claims=self.claims)


def handed_in(books: Books, hand_ins: Sequence[HandIn]) -> dict[int, Exception]:
    """Hand these in while the first write lasts, so that the second one is for all of them; what was raised for
    which."""
    exchange = Exchange(books.land, books.returned.extend)
    raised: dict[int, Exception] = {}

    def swap(index: int, hand_in: HandIn) -> None:
        try:
            exchange.swap(hand_in)
        except (StoreUnavailable, ValueError) as error:
            raised[index] = error

    first = threading.Thread(target=swap, args=(-1, HandIn(an_outcome(), wants=False)))
    first.start()
    until(lambda: bool(books.writes), "the first write")
    threads = [threading.Thread(target=swap, args=pair) for pair in enumerate(hand_ins)]
    for thread in threads:
        thread.start()
    until(lambda: len(exchange._waiting) == len(hand_ins), "everybody waiting")
    books.first_goes.set()
    for thread in (first, *threads):
        thread.join(10)
    return raised


def test_what_comes_while_one_writes_is_written_together() -> None:
    books = Books()
    hand_ins = [HandIn(an_outcome(), wants=True) for _ in range(8)]

    assert handed_in(books, hand_ins) == {}

    assert [len(write) for write in books.writes] == [1, 8]
    assert books.wanted == 8


def test_an_outcome_that_cannot_be_landed_costs_the_others_nothing() -> None:
    books = Books()
    hand_ins = [HandIn(an_outcome(), wants=False) for _ in range(4)]
    assert hand_ins[2].outcome is not None
    books.refuses = [hand_ins[2].outcome]

    raised = handed_in(books, hand_ins)

    assert list(raised) == [2]
    assert [hand_in.landing is not None for hand_in in hand_ins] == [True, True, False, True]


def test_a_store_that_is_away_is_told_to_each_and_asked_once() -> None:
    books = Books()
    books.away = True

    raised = handed_in(books, [HandIn(an_outcome(), wants=True) for _ in range(4)])

    assert sorted(raised) == [0, 1, 2, 3]
    assert all(isinstance(error, StoreUnavailable) for error in raised.values())
    assert len(books.writes) == 2


def test_a_plays_next_step_goes_to_whoever_had_the_one_before() -> None:
    plays = [ObjectId() for _ in range(3)]
    following = [a_claim(play) for play in reversed(plays)]
    hand_ins = [HandIn(an_outcome(play), wants=True) for play in plays]

    handed_in(Books(following=following), hand_ins)

    assert [hand_in.claim.play_id for hand_in in hand_ins if hand_in.claim] == plays


def test_what_nobody_has_use_for_is_given_back() -> None:
    claims = [a_claim() for _ in range(3)]
    books = Books(claims=claims)
    hand_ins = [HandIn(an_outcome(), wants=True), HandIn(an_outcome(), wants=False)]

    handed_in(books, hand_ins)

    assert hand_ins[1].claim is None
    assert hand_ins[0].claim in claims
    assert len(books.returned) == 2
    assert {id(claim) for claim in (*books.returned, hand_ins[0].claim)} == {id(claim) for claim in claims}


@pytest.mark.parametrize("wants", [True, False])
def test_whoever_leaves_still_gets_the_next_step_of_its_own_play(wants: bool) -> None:
    play = ObjectId()
    hand_in = HandIn(an_outcome(play), wants=wants)
    following = a_claim(play)

    handed_in(Books(following=[following]), [hand_in])

    assert hand_in.claim is following
