"""Plays that wait for links: found and released by each of them, and by nobody else's."""

from __future__ import annotations

import pytest
from bson import ObjectId

from flow8_core.store import Store
from flow8_runtime.ledger import Ledger
from tests.runtime.kit import (
    COMPANY,
    USER,
    Watched,
    open_ledger,
    outcome,
    parallel,
    sequence,
    submit,
)

OTHER_COMPANY = ObjectId("64b0000000000000000000ff")


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return open_ledger(Watched(store))


def test_a_reconnected_link_releases_the_plays_of_its_company(ledger: Ledger) -> None:
    mine, other = submit(ledger, sequence("a")), ObjectId()
    ledger.submit(sequence("a"), {}, company_id=OTHER_COMPANY, user_id=USER, play_id=other)
    waiting = [outcome(claim, "parked", waiting_for="link:1") for claim in ledger.claim(2, owner="w1")]
    ledger.land(waiting, owner="w1")
    assert ledger.claim(2, owner="w1") == []

    assert ledger.release("1", company_id=COMPANY) == 1

    assert [claim.play_id for claim in ledger.claim(2, owner="w1")] == [mine]


@pytest.mark.parametrize("first", ["1", "2", "3"])
def test_a_play_that_waits_for_several_links_is_released_by_each_of_them_at_once(ledger: Ledger, first: str) -> None:
    play = submit(ledger, parallel("a", "b", "c"))
    link_of = {"a": "1", "b": "2", "c": "3"}
    claims = ledger.claim(3, owner="w1")
    ledger.land([outcome(c, "parked", waiting_for=f"link:{link_of[c.step]}") for c in claims], owner="w1")
    step_of = {link: step for step, link in link_of.items()}

    for link in (first, *sorted({"1", "2", "3"} - {first})):
        assert [each["_id"] for each in ledger.waits.plays(f"link:{link}", company_id=COMPANY)] == [play]
        assert ledger.waits.plays(f"link:{link}", company_id=OTHER_COMPANY) == []
        assert ledger.release(link, company_id=OTHER_COMPANY) == 0
        assert ledger.release(link, company_id=COMPANY) == 1
        assert [claim.step for claim in ledger.claim(3, owner="w1")] == [step_of[link]]
        assert ledger.release(link, company_id=COMPANY) == 0

    assert list(ledger.waits.each()) == []
