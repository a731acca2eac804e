"""What updates, upserts and deletes do to a document, and which are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from flow8_core.errors import ValidationFailed
from flow8_core.store import DuplicateKey, Index, Insert, Store, Update

_BEFORE: dict[str, Any] = {"n": 5, "f": 1.5, "s": "b", "m": {"x": 1, "y": {"z": 2}}, "a": [3, 1, 3, {"k": 1}]}
_APPLIED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"$set": {"n": 6}}, {"n": 6}),
    ({"$set": {"new": None}}, {"new": None}),
    ({"$set": {"m.y.z": 3, "m.y.w": 4}}, {"m": {"x": 1, "y": {"z": 3, "w": 4}}}),
    ({"$set": {"p.q.r": 1}}, {"p": {"q": {"r": 1}}}),
    ({"$set": {"a.1": "one"}}, {"a": [3, "one", 3, {"k": 1}]}),
    ({"$set": {"a.3.k": 2}}, {"a": [3, 1, 3, {"k": 2}]}),
    ({"$unset": {"n": ""}}, {"n": ...}),
    ({"$unset": {"m.x": 1, "none.such": 1}}, {"m": {"y": {"z": 2}}}),
    ({"$inc": {"n": 2}}, {"n": 7}),
    ({"$inc": {"f": 1, "n": 0.5}}, {"f": 2.5, "n": 5.5}),
    ({"$inc": {"new": -1, "m.x": 10}}, {"new": -1, "m": {"x": 11, "y": {"z": 2}}}),
    ({"$max": {"n": 9, "f": 1.0}}, {"n": 9}),
    ({"$min": {"n": 9, "f": 1.0, "new": 3}}, {"f": 1.0, "new": 3}),
    ({"$max": {"s": 100}}, {}),  # text is above all numbers
    ({"$push": {"a": 4}}, {"a": [3, 1, 3, {"k": 1}, 4]}),
    ({"$push": {"new": [1]}}, {"new": [[1]]}),
    ({"$pull": {"a": 3}}, {"a": [1, {"k": 1}]}),
    ({"$pull": {"a": {"k": 1}, "none": 1}}, {"a": [3, 1, 3]}),
    ({"$addToSet": {"a": 1}}, {}),
    ({"$addToSet": {"a": 2, "new": 1}}, {"a": [3, 1, 3, {"k": 1}, 2], "new": [1]}),
    ({"$setOnInsert": {"n": 9}, "$set": {"s": "c"}}, {"s": "c"}),
    ({"$set": {"n": 1}, "$inc": {"f": 1}, "$push": {"a": 1}}, {"n": 1, "f": 2.5, "a": [3, 1, 3, {"k": 1}, 1]}),
]
_REFUSED: list[Mapping[str, Any]] = [
    {},
    {"$set": {}},
    {"$rename": {"n": "m"}},
    {"$currentDate": {"n": True}},
    {"$mul": {"n": 2}},
    {"$bit": {"n": {"and": 1}}},
    {"$pop": {"a": 1}},
    {"$set": {"n": 1}, "plain": 1},
    {"$set": 1},
    {"$set": {"n": 1}, "$inc": {"n": 1}},
    {"$set": {"m": 1, "m.x": 2}},
    {"$inc": {"n": "1"}},
    {"$inc": {"n": True}},
    {"$push": {"a": {"$each": [1]}}},
    {"$addToSet": {"a": {"$each": [1]}}},
    {"$pull": {"a": {"$gt": 1}}},
    {"$set": {"": 1}},
    {"$set": {"a.$": 1}},
    {"$set": {"_writes": 1}},
]
_UNFIT: list[Mapping[str, Any]] = [
    {"$inc": {"s": 1}},
    {"$push": {"n": 1}},
    {"$addToSet": {"n": 1}},
    {"$pull": {"n": 1}},
    {"$set": {"n.x": 1}},
    {"$set": {"_id": 2}},
    {"_id": 2, "a": 1},
]


@pytest.mark.parametrize(("update", "changes"), _APPLIED, ids=lambda value: str(value)[:50])
def test_an_update_does_what_mongodb_does(store: Store, update: dict[str, Any], changes: dict[str, Any]) -> None:
    store.insert("things", {"_id": 1, **_BEFORE})
    expected = {name: value for name, value in {"_id": 1, **_BEFORE, **changes}.items() if value is not ...}

    assert store.update("things", {"_id": 1}, update) == expected
    assert store.get("things", 1) == expected


@pytest.mark.parametrize("update", _REFUSED, ids=str)
def test_an_update_outside_the_dialect_raises_and_changes_nothing(store: Store, update: Mapping[str, Any]) -> None:
    store.insert("things", {"_id": 1, **_BEFORE})

    with pytest.raises(ValidationFailed):
        store.update("things", {"_id": 1}, update)
    with pytest.raises(ValidationFailed):
        store.update("things", {"_id": 2}, update, upsert=True)
    with pytest.raises(ValidationFailed):
        store.batch([Insert("things", {"_id": 3}), Update("things", {"_id": 1}, update)])

    assert store.find("things", {}) == [{"_id": 1, **_BEFORE}]


@pytest.mark.parametrize("update", _UNFIT, ids=str)
def test_an_update_that_does_not_fit_the_document_raises_and_changes_nothing(
    store: Store, update: Mapping[str, Any]
) -> None:
    store.insert("things", {"_id": 1, **_BEFORE})

    with pytest.raises(ValidationFailed):
        store.update("things", {"_id": 1}, update)

    assert store.find("things", {}) == [{"_id": 1, **_BEFORE}]


def test_integers_do_not_leave_their_64_bits(store: Store) -> None:
    store.insert("things", {"_id": 1, "n": 2**53 + 1})

    assert store.update("things", {"_id": 1}, {"$inc": {"n": 2}}) == {"_id": 1, "n": 2**53 + 3}


def test_a_replacement_keeps_the_id_and_nothing_else(store: Store) -> None:
    store.insert("things", {"_id": 1, **_BEFORE})

    assert store.update("things", {"n": 5}, {"only": 1}) == {"_id": 1, "only": 1}
    assert store.update("things", {"_id": 1}, {"_id": 1, "other": 2}) == {"_id": 1, "other": 2}
    assert store.get("things", 1) == {"_id": 1, "other": 2}


def test_the_first_match_of_the_order_is_changed_and_no_other(store: Store) -> None:
    store.batch([Insert("things", {"_id": number, "rank": -number, "group": number % 2}) for number in range(6)])

    changed = store.update("things", {"group": 1}, {"$set": {"changed": True}}, sort=[("rank", 1)])
    removed = store.delete("things", {"group": 0}, sort=[("rank", -1)])

    assert changed == {"_id": 5, "rank": -5, "group": 1, "changed": True}
    assert removed == {"_id": 0, "rank": 0, "group": 0}
    assert store.count("things", {"changed": True}) == 1
    assert store.count("things", {}) == 5


def test_no_match_changes_nothing_and_gives_none(store: Store) -> None:
    store.insert("things", {"_id": 1, "rev": 3})

    assert store.update("things", {"_id": 1, "rev": 2}, {"rev": 4}) is None
    assert store.update("things", {"_id": 2}, {"$set": {"rev": 4}}) is None
    assert store.delete("things", {"_id": 1, "rev": 2}) is None
    assert store.find("things", {}) == [{"_id": 1, "rev": 3}]


def test_an_upsert_makes_the_document_from_the_filter_and_the_update(store: Store) -> None:
    condition = {"_id": 1, "kind": "k", "deep.er": {"$eq": 2}, "late": {"$gt": 5}, "$and": [{"more": 3}]}
    update = {"$set": {"x": 1}, "$inc": {"n": 2}, "$setOnInsert": {"made": True}, "$push": {"list": 1}}

    made = store.update("things", condition, update, upsert=True)

    assert made == {"_id": 1, "kind": "k", "deep": {"er": 2}, "more": 3, "x": 1, "n": 2, "made": True, "list": [1]}
    assert store.get("things", 1) == made


def test_an_upsert_without_an_id_makes_one(store: Store) -> None:
    made = store.update("things", {"name": "a"}, {"$set": {"x": 1}}, upsert=True)
    again = store.update("things", {"name": "a"}, {"$set": {"x": 2}}, upsert=True)

    assert made is not None
    assert again == {**made, "x": 2}
    assert store.count("things", {}) == 1


def test_an_upserted_replacement_takes_its_id_from_the_filter(store: Store) -> None:
    assert store.update("things", {"_id": 1, "rev": 0}, {"rev": 1}, upsert=True) == {"_id": 1, "rev": 1}


def test_an_upsert_of_an_id_that_is_there_but_does_not_match_is_a_duplicate(store: Store) -> None:
    store.insert("things", {"_id": 1, "rev": 5})

    with pytest.raises(DuplicateKey):
        store.update("things", {"_id": 1, "rev": 4}, {"$set": {"rev": 6}}, upsert=True)

    assert store.get("things", 1) == {"_id": 1, "rev": 5}


def test_an_update_into_anothers_unique_value_is_a_duplicate(store: Store) -> None:
    store.declare("things", [Index((("name", 1),), unique=True)])
    store.batch([Insert("things", {"_id": 1, "name": "a"}), Insert("things", {"_id": 2, "name": "b"})])

    with pytest.raises(DuplicateKey):
        store.update("things", {"_id": 2}, {"$set": {"name": "a", "x": 1}})

    assert store.get("things", 2) == {"_id": 2, "name": "b"}
    assert store.find("things", {"name": "a"}) == [{"_id": 1, "name": "a"}]
