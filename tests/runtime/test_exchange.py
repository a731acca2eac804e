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
        self.told: list[tuple[list[Outcome], Landing]] = []
        self.lost: list[tuple[Outcome, Exception]] = []
        self.returned: list[Claim] = []
        self.refuses: list[Outcome] = []
        self.away = False
        self.refuses_returns = False
        self.wanted = 0
        self.threads = 0
        self.first_goes = threading.Event()

    def land(self, outcomes: Sequence[Outcome], wanted: int, threads: int) -> Landing:
        self.writes.append(list(outcomes))
        if len(self.writes) == 1:
            assert self.first_goes.wait(10)
            return Landing()
        if self.away:
            raise StoreUnavailable("The store is away.")
        if any(refused in outcomes for refused in self.refuses):
            raise ValueError("cannot be landed")
        self.wanted += wanted
        self.threads = threads
        return Landing(next=self.following, claims=self.claims)

    def give_back(self, claims: list[Claim]) -> None:
        if self.refuses_returns:
            raise StoreUnavailable("The store is away.")
        self.returned += claims

    def landed(self, outcomes: Sequence[Outcome], landing: Landing) -> None:
        self.told.append((list(outcomes), landing))

    def exchange(self, *, room: int = 0) -> Exchange:
        return Exchange(
            self.land,
            self.landed,
            lambda outcome, error: self.lost.append((outcome, error)),
            self.give_back,
            lambda: room,
        )


def handed_in(books: Books, hand_ins: Sequence[HandIn]) -> dict[int, Exception]:
    """Hand these in while the first write lasts, so that the second one is for all of them; what was raised for
    which."""
    exchange = books.exchange()
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
    told = [outcome for outcomes, _ in books.told for outcome in outcomes]
    assert [hand_in.outcome in told for hand_in in hand_ins] == [True, True, False, True]


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


@pytest.mark.parametrize("wants", [True, False])
def test_whoever_leaves_still_gets_the_next_step_of_its_own_play(wants: bool) -> None:
    play = ObjectId()
    hand_in = HandIn(an_outcome(play), wants=wants)
    following = a_claim(play)

    handed_in(Books(following=[following]), [hand_in])

    assert hand_in.claim is following


class Ahead:
    """An exchange with steps that were taken ahead, and the one that the only thread has got."""

    def __init__(self, *, count: int = 3) -> None:
        self.claims = [a_claim() for _ in range(1 + count)]
        self.books = Books(claims=self.claims)
        self.books.writes.append([])  # no write waits
        self.exchange = self.books.exchange(room=count)
        hand_in = HandIn(None, wants=True)
        self.exchange.swap(hand_in)
        assert hand_in.claim is self.claims[0]
        self.books.claims = []

    @property
    def written(self) -> list[list[Outcome]]:
        return self.books.writes[2:]

    def defer(self) -> Outcome:
        outcome = an_outcome()
        assert self.exchange.defer(outcome) in self.claims
        return outcome


def test_as_many_are_claimed_as_are_wanted_and_as_there_is_room_for() -> None:
    ahead = Ahead(count=3)
    assert ahead.books.wanted == 4

    ahead.defer()
    ahead.exchange.swap(HandIn(an_outcome(), wants=True))  # gets one of two: two of three are to be claimed

    assert ahead.books.wanted == 4 + 2


def test_what_was_deferred_is_landed_by_the_next_write_and_told_of() -> None:
    ahead = Ahead(count=3)
    deferred = [ahead.defer() for _ in range(3)]
    assert ahead.exchange.defer(an_outcome()) is None
    assert ahead.written == []

    last = HandIn(an_outcome(), wants=True)
    ahead.exchange.swap(last)

    assert ahead.written == [[*deferred, last.outcome]]
    assert ahead.books.threads == 1
    assert ahead.books.told[-1][0] == [*deferred, last.outcome]
    assert ahead.exchange.held() == []


def test_what_is_deferred_and_what_is_taken_ahead_counts_as_held() -> None:
    ahead = Ahead(count=3)
    deferred = ahead.defer()

    assert ahead.exchange.held() == [deferred.claim, *ahead.claims[2:]]


def test_the_next_step_of_a_play_that_was_deferred_goes_to_whoever_comes_next() -> None:
    ahead = Ahead(count=1)
    deferred = ahead.defer()
    own, follows = a_claim(), a_claim(deferred.claim.play_id)
    ahead.books.following, ahead.books.claims = [follows], [own]

    hand_in = HandIn(an_outcome(), wants=True)
    ahead.exchange.swap(hand_in)

    assert {id(hand_in.claim), id(ahead.exchange.defer(an_outcome()))} == {id(own), id(follows)}


def test_a_store_that_is_away_loses_nothing_of_what_was_deferred_and_keeps_what_was_taken_ahead() -> None:
    ahead = Ahead(count=2)
    deferred = ahead.defer()
    ahead.books.away = True

    with pytest.raises(StoreUnavailable):
        ahead.exchange.swap(HandIn(an_outcome(), wants=True))

    assert [outcome for outcome, _ in ahead.books.lost] == [deferred]
    assert ahead.exchange.held() == [ahead.claims[2]]


def test_what_was_deferred_and_cannot_be_landed_is_told_and_costs_the_others_nothing() -> None:
    ahead = Ahead(count=2)
    refused, deferred = ahead.defer(), ahead.defer()
    ahead.books.refuses = [refused]

    last = HandIn(an_outcome(), wants=True)
    ahead.exchange.swap(last)

    assert [outcome for outcome, _ in ahead.books.lost] == [refused]
    assert [outcomes for outcomes, _ in ahead.books.told[-2:]] == [[deferred], [last.outcome]]


def test_what_nobody_wants_waits_for_whoever_comes_next() -> None:
    ahead = Ahead(count=0)
    ahead.books.claims = further = [a_claim() for _ in range(2)]

    ahead.exchange.swap(HandIn(an_outcome(), wants=False))

    assert ahead.exchange.held() == further
    assert ahead.exchange.defer(an_outcome()) is further[0]


def test_nothing_is_taken_ahead_for_whoever_wants_nothing() -> None:
    ahead = Ahead(count=2)
    deferred = ahead.defer()
    wanted = ahead.books.wanted

    ahead.exchange.swap(HandIn(an_outcome(), wants=False))

    assert ahead.books.wanted == wanted
    assert deferred in ahead.written[0]


def test_what_cannot_be_given_back_is_held_on_and_nobody_waits_for_it() -> None:
    ahead = Ahead(count=2)
    ahead.books.refuses_returns = True

    ahead.exchange.swap(HandIn(Outcome(a_claim(), "parked", throttle=("link:a", UNTIL)), wants=False))
    ahead.exchange.settle()

    assert ahead.exchange.held() == ahead.claims[1:]
    ahead.books.refuses_returns = False
    ahead.exchange.settle()
    assert ahead.books.returned == ahead.claims[1:]
    assert ahead.exchange.held() == []


def test_what_was_taken_ahead_is_looked_at_anew_once_a_vendor_has_asked_for_patience() -> None:
    ahead = Ahead(count=2)
    told = Outcome(a_claim(), "parked", throttle=("link:a", UNTIL))

    ahead.exchange.swap(HandIn(told, wants=True))

    assert ahead.books.returned == ahead.claims[1:]
    assert ahead.books.wanted == 3 + 3  # anew


def test_settling_lands_what_was_deferred_and_gives_back_what_was_taken_ahead() -> None:
    ahead = Ahead(count=2)
    deferred = ahead.defer()

    ahead.exchange.settle()

    assert ahead.written == [[deferred]]
    assert ahead.books.told[-1][0] == [deferred]
    assert ahead.books.returned == [ahead.claims[2]]
