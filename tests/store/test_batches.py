"""Batches: in order, each with an answer of its own."""

from __future__ import annotations

import pytest

from flow8_core.errors import ValidationFailed
from flow8_core.store import Delete, Filter, Index, Insert, Store, Update


def test_the_order_holds_over_collections_and_kinds(store: Store) -> None:
    applied = store.batch(
        [
            Insert("rows", {"_id": 1}),
            Insert("plays", {"_id": "p", "rev": 0}),
            Update("plays", {"_id": "p", "rev": 0}, {"rev": 1, "from": "zero"}),
            Update("plays", {"_id": "p", "rev": 1}, {"$set": {"rev": 2}}),
            Update("plays", {"_id": "p", "rev": 1}, {"$set": {"rev": 3}}),
            Delete("rows", {"_id": 1}),
            Insert("rows", {"_id": 1, "again": True}),
            Update("rows", {"again": True}, {"$inc": {"n": 1}}),
            Delete("rows", {"_id": 2}),
        ]
    )

    assert applied == [True, True, True, True, False, True, True, True, False]
    assert store.get("plays", "p") == {"_id": "p", "rev": 2, "from": "zero"}
    assert store.find("rows", {}) == [{"_id": 1, "again": True, "n": 1}]


def test_what_is_there_already_or_does_not_match_gives_false_and_the_rest_goes_on(store: Store) -> None:
    store.batch([Insert("rows", {"_id": number, "rev": 0}) for number in range(0, 20, 3)])

    inserted = store.batch([Insert("rows", {"_id": number, "rev": 1}) for number in range(20)])
    updated = store.batch([Update("rows", {"_id": number, "rev": 1}, {"rev": 2}) for number in range(20)])

    expected = [number % 3 != 0 for number in range(20)]
    assert inserted == expected
    assert updated == expected
    assert store.count("rows", {"rev": 2}) == sum(expected)


def test_inserts_that_go_together_are_found_by_every_index(store: Store) -> None:
    store.declare("crowd", [Index((("a", 1), ("b.c", -1))), Index((("b.c", 1),)), Index((("missing", 1),))])
    same = {"c": 7}
    documents = [
        {"_id": 1, "a": 1, "b": same},
        {"_id": 2, "a": 1, "b": same},
        {"_id": 3, "a": True, "b": same},
        {"_id": 4, "a": 1.0, "b": {"c": 7}},
        {"_id": 5, "a": 1, "b": {"c": [7, 8]}},
        {"_id": 6, "a": [1, 2], "b": {"c": 8}},
        {"_id": 7, "a": 1},
        {"_id": 8, "a": 1, "b": same},
    ]

    assert store.batch([Insert("crowd", document) for document in documents]) == [True] * 8

    def ids(wanted: Filter) -> list[int]:
        return [each["_id"] for each in store.find("crowd", wanted, sort=[("_id", 1)])]

    assert ids({"a": 1, "b.c": 7}) == [1, 2, 4, 5, 8]
    assert ids({"a": True}) == [3]
    assert ids({"a": 2, "b.c": 8}) == [6]
    assert ids({"b.c": 8}) == [5, 6]
    assert ids({"b.c": None}) == [7]
    assert ids({"missing": None}) == list(range(1, 9))


def test_a_duplicate_among_inserts_leaves_no_trace_of_its_own(store: Store) -> None:
    store.declare("crowd", [Index((("a", 1),))])
    store.insert("crowd", {"_id": 3, "a": "before"})

    applied = store.batch([Insert("crowd", {"_id": number, "a": "now"}) for number in (1, 2, 3, 4, 4)])

    assert applied == [True, True, False, True, False]
    assert [each["_id"] for each in store.find("crowd", {"a": "now"}, sort=[("_id", 1)])] == [1, 2, 4]
    assert [each["_id"] for each in store.find("crowd", {"a": "before"})] == [3]
    assert store.delete("crowd", {"_id": 4}) == {"_id": 4, "a": "now"}
    assert store.count("crowd", {"a": "now"}) == 2


def test_an_update_without_an_id_takes_the_first_match_like_any_other(store: Store) -> None:
    store.batch([Insert("jobs", {"_id": number, "status": "new"}) for number in range(2)])

    applied = store.batch([Update("jobs", {"status": "new"}, {"$set": {"status": "taken"}})] * 3)

    assert applied == [True, True, False]


def test_a_refusal_by_a_unique_index_leaves_nothing_of_its_own_behind(store: Store) -> None:
    store.declare("named", [Index((("rank", 1),)), Index((("name", 1),), unique=True)])
    store.insert("named", {"_id": 0, "name": "taken", "rank": 0})

    applied = store.batch(
        [
            Insert("named", {"_id": 1, "name": "free", "rank": 1}),
            Insert("named", {"_id": 2, "name": "taken", "rank": 2}),
            Update("named", {"_id": 1}, {"$set": {"name": "taken", "rank": 3}}),
            Insert("named", {"_id": 3, "name": "other", "rank": 4}),
        ]
    )

    assert applied == [True, False, False, True]
    found = store.find("named", {"rank": {"$gte": 0}}, sort=[("rank", 1)])
    assert [(each["_id"], each["rank"]) for each in found] == [(0, 0), (1, 1), (3, 4)]


def test_a_batch_with_a_fault_is_refused_before_anything_is_written(store: Store) -> None:
    for faulty in (
        Insert("rows", {"no": "id"}),
        Update("rows", {"_id": 1}, {"$rename": {"a": "b"}}),
        Update("rows", {"$where": "1"}, {"$set": {"a": 1}}),
        Delete("rows", {"a": {"$regex": "x"}}),
    ):
        with pytest.raises(ValidationFailed):
            store.batch([Insert("rows", {"_id": 1}), faulty])

    assert store.count("rows", {}) == 0


def test_large_batches_come_back_whole(store: Store) -> None:
    applied = store.batch([Insert("rows", {"_id": number}) for number in range(2500)])

    assert applied == [True] * 2500
    assert store.count("rows", {}) == 2500
    assert [row["_id"] for row in store.find("rows", {}, sort=[("_id", 1)])] == list(range(2500))
    assert len(store.find("rows", {}, limit=2000)) == 2000
