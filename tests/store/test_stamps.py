"""What a process remembers of the stamps that it saw: shared by its threads, and never without bound."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from bson.objectid import ObjectId

from flow8_core.store.mongo import stamps
from flow8_core.store.mongo.stamps import KEPT, Seen
from tests.runtime.kit import in_threads


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that change after hardly any step."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_threads_may_note_what_they_see_at_the_same_time(restless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "MOST_SEEN", 50)
    seen = Seen()

    def note(name: str) -> None:
        for number in range(5_000):
            seen.put("plays", f"{name}:{number}", (ObjectId(),))

    in_threads(8, note)

    remembered = [seen.before("plays", f"{name}:{number}") for name in range(8) for number in range(5_000)]
    assert sum(map(bool, remembered)) == 50


def test_of_many_stamps_the_newest_are_passed_on_and_one_more_has_room() -> None:
    seen, many = Seen(), [ObjectId() for _ in range(2 * KEPT)]

    shown = seen.shown("plays", {"_id": 1, stamps.STAMPS: many})

    assert shown == {"_id": 1}
    assert list(seen.before("plays", 1)) == many[1 - KEPT :]
    assert seen.before("plays", 2) == ()
