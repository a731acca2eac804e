"""What goes in comes out: types survive in every way in and out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from bson.objectid import ObjectId

from flow8_core.errors import ValidationFailed
from flow8_core.store import Document, Insert, Store, Update

_ID = ObjectId()
_MOMENT = datetime(2026, 4, 4, 10, 30, 0, 123000, tzinfo=UTC)
_VALUES: dict[str, Any] = {
    "object_id": _ID,
    "date": _MOMENT,
    "date_before_1970": datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
    "bytes": b"\x00\xff\x80",
    "empty_bytes": b"",
    "beyond_doubles": 2**53 + 1,
    "largest": 2**63 - 1,
    "least": -(2**63),
    "float": 0.1,
    "infinite": math.inf,
    "true": True,
    "zero": 0,
    "null": None,
    "text": "Zürich ☃ \U0001f600 \x00 end",
    "list": [1, "a", None, [True, {"b": _MOMENT}], []],
    "mapping": {"z": 1, "a": {"deep": [_ID]}, "empty": {}},
}


def _by_insert(store: Store) -> Document | None:
    store.insert("typed", {"_id": _ID, **_VALUES})
    return store.get("typed", _ID)


def _by_batch(store: Store) -> Document | None:
    assert store.batch([Insert("typed", {"_id": _ID, **_VALUES})]) == [True]
    return store.find("typed", {"object_id": _ID})[0]


def _by_set(store: Store) -> Document | None:
    store.insert("typed", {"_id": _ID})
    return store.update("typed", {"_id": _ID}, {"$set": _VALUES})


def _by_deep_set(store: Store) -> Document | None:
    store.insert("typed", {"_id": _ID})
    found = store.update("typed", {"_id": _ID}, {"$set": {f"in.{name}": value for name, value in _VALUES.items()}})
    return None if found is None else {"_id": found["_id"], **found["in"]}


def _by_replacement(store: Store) -> Document | None:
    store.insert("typed", {"_id": _ID, "old": 1})
    return store.update("typed", {"_id": _ID}, _VALUES)


def _by_batched_replacement(store: Store) -> Document | None:
    store.insert("typed", {"_id": _ID, "old": 1})
    assert store.batch([Update("typed", {"_id": _ID}, _VALUES)]) == [True]
    return store.get("typed", _ID)


def _by_upsert(store: Store) -> Document | None:
    return store.update("typed", {"_id": _ID}, {"$setOnInsert": _VALUES}, upsert=True)


def _by_delete(store: Store) -> Document | None:
    store.insert("typed", {"_id": _ID, **_VALUES})
    return store.delete("typed", {"_id": _ID})


@pytest.mark.parametrize(
    "way",
    [
        _by_insert,
        _by_batch,
        _by_set,
        _by_deep_set,
        _by_replacement,
        _by_batched_replacement,
        _by_upsert,
        _by_delete,
    ],
)
def test_every_type_survives_every_way(store: Store, way: Callable[[Store], Document | None]) -> None:
    found = way(store)

    assert found == {"_id": _ID, **_VALUES}
    assert {name: _kind(value) for name, value in found.items()} == {
        name: _kind(value) for name, value in {"_id": _ID, **_VALUES}.items()
    }
    assert list(found["mapping"]) == list(_VALUES["mapping"])


def _kind(value: Any) -> type:
    """The type by which callers tell values apart; the BSON library gives large integers as a subclass of int."""
    return next(
        kind
        for kind in (bool, int, float, str, bytes, datetime, ObjectId, list, dict, type(None))
        if isinstance(value, kind)
    )


def test_dates_come_back_aware_in_utc_and_cut_to_milliseconds(store: Store) -> None:
    summer = timezone(timedelta(hours=2))
    store.insert("typed", {"_id": 1, "at": datetime(2026, 4, 4, 12, 0, 0, 123999, tzinfo=summer)})

    found = store.find("typed", {"at": datetime(2026, 4, 4, 10, 0, 0, 123000, tzinfo=UTC)})

    assert [each["at"] for each in found] == [datetime(2026, 4, 4, 10, 0, 0, 123000, tzinfo=UTC)]
    assert found[0]["at"].utcoffset() == timedelta(0)


def test_what_a_store_returns_is_the_callers_own(store: Store) -> None:
    inner = {"list": [1]}
    store.insert("typed", {"_id": 1})
    first = store.update("typed", {"_id": 1}, {"$set": {"inner": inner}})
    assert first is not None

    first["inner"]["list"].append(2)

    assert inner == {"list": [1]}
    assert store.get("typed", 1) == {"_id": 1, "inner": {"list": [1]}}


def test_arguments_are_left_as_they_were(store: Store) -> None:
    document = {"_id": 1, "a": [1]}
    condition = {"_id": 1, "a": {"$in": [1]}}
    update = {"$push": {"a": 2}, "$set": {"b": {"c": 1}}}
    replacement = {"a": [3]}

    store.insert("typed", document)
    store.update("typed", condition, update)
    store.update("typed", {"_id": 1}, replacement)
    store.batch([Insert("typed", {"_id": 2}), Update("typed", {"_id": 2}, update)])

    assert document == {"_id": 1, "a": [1]}
    assert condition == {"_id": 1, "a": {"$in": [1]}}
    assert update == {"$push": {"a": 2}, "$set": {"b": {"c": 1}}}
    assert replacement == {"a": [3]}


@pytest.mark.parametrize(
    "value",
    [2**63, -(2**63) - 1, {1: "key"}, "\ud800", {"\ud800": 1}, object(), {1, 2}, "x" * (16 * 1024 * 1024), 1j],
    ids=["too large", "too small", "key", "surrogate", "surrogate key", "object", "set", "16 MiB", "complex"],
)
def test_what_cannot_be_kept_is_refused_without_being_quoted(store: Store, value: Any) -> None:
    store.insert("typed", {"_id": 1})
    ways: tuple[Callable[[], Any], ...] = (
        lambda: store.insert("typed", {"_id": 2, "field": value}),
        lambda: store.update("typed", {"_id": 1}, {"$set": {"field": value}}),
        lambda: store.update("typed", {"_id": 1}, {"field": value}),
        lambda: store.batch([Insert("typed", {"_id": 2, "field": value})]),
    )

    for way in ways:
        with pytest.raises(ValidationFailed) as refused:
            way()
        assert len(refused.value.message) < 200

    assert store.find("typed", {}) == [{"_id": 1}]


@pytest.mark.parametrize("document", [{}, {"a": 1}, {"_id": [1]}, {"_id": 1, "$set": 1}, {"_id": 1, "_writes": []}])
def test_a_document_needs_an_id_and_plain_field_names(store: Store, document: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationFailed):
        store.insert("typed", document)

    with pytest.raises(ValidationFailed):
        store.batch([Insert("typed", document)])

    assert store.count("typed", {}) == 0


@pytest.mark.parametrize("key", ["", "text", 0, -1, 2**60, 1.5, True, None, b"bytes", _ID, _MOMENT, {"a": 1, "b": "x"}])
def test_an_id_may_have_any_scalar_type_or_be_a_mapping(store: Store, key: Any) -> None:
    store.insert("typed", {"_id": key, "field": 1})

    assert store.get("typed", key) == {"_id": key, "field": 1}
    assert store.update("typed", {"_id": {"$eq": key}}, {"$inc": {"field": 1}}) == {"_id": key, "field": 2}
    assert store.delete("typed", {"_id": {"$eq": key}}) == {"_id": key, "field": 2}
