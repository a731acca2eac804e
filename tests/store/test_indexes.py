"""Declared indexes: unique, expiring, over arrays, over documents that were there before."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flow8_core.clock import ManualClock
from flow8_core.errors import ValidationFailed
from flow8_core.store import DuplicateKey, Index, Insert, Store, Update, open_store
from flow8_core.store.sqlite import SqliteStore


def test_a_unique_index_holds_for_inserts_updates_and_batches(store: Store) -> None:
    store.declare("links", [Index((("company", 1), ("name", 1)), unique=True)])
    store.insert("links", {"_id": 1, "company": "a", "name": "x"})

    with pytest.raises(DuplicateKey):
        store.insert("links", {"_id": 2, "company": "a", "name": "x"})
    applied = store.batch(
        [
            Insert("links", {"_id": 3, "company": "b", "name": "x"}),
            Insert("links", {"_id": 4, "company": "a", "name": "x"}),
            Update("links", {"_id": 3}, {"$set": {"company": "a", "other": 1}}),
            Insert("links", {"_id": 5, "company": "c", "name": "x"}),
        ]
    )

    assert applied == [True, False, False, True]
    assert store.find("links", {}, sort=[("_id", 1)]) == [
        {"_id": 1, "company": "a", "name": "x"},
        {"_id": 3, "company": "b", "name": "x"},
        {"_id": 5, "company": "c", "name": "x"},
    ]


def test_a_unique_value_is_free_again_after_its_document_changed_or_went(store: Store) -> None:
    store.declare("links", [Index((("name", 1),), unique=True)])
    store.insert("links", {"_id": 1, "name": "x"})
    store.update("links", {"_id": 1}, {"$set": {"name": "y"}})
    store.insert("links", {"_id": 2, "name": "x"})
    store.delete("links", {"_id": 2})

    store.insert("links", {"_id": 3, "name": "x"})

    assert store.count("links", {}) == 2


def test_missing_counts_as_null_in_a_unique_index(store: Store) -> None:
    store.declare("links", [Index((("name", 1),), unique=True)])
    store.insert("links", {"_id": 1})

    with pytest.raises(DuplicateKey):
        store.insert("links", {"_id": 2, "name": None})


def test_numbers_of_one_value_are_one_unique_value(store: Store) -> None:
    store.declare("links", [Index((("n", 1),), unique=True)])
    store.insert("links", {"_id": 1, "n": 1})

    with pytest.raises(DuplicateKey):
        store.insert("links", {"_id": 2, "n": 1.0})
    store.insert("links", {"_id": 3, "n": True})


def test_a_unique_index_looks_into_arrays(store: Store) -> None:
    store.declare("users", [Index((("emails", 1),), unique=True)])
    store.insert("users", {"_id": 1, "emails": ["a", "b", "a"]})

    with pytest.raises(DuplicateKey):
        store.insert("users", {"_id": 2, "emails": ["c", "b"]})
    store.insert("users", {"_id": 3, "emails": "c"})

    assert store.find("users", {"emails": "b"}) == [{"_id": 1, "emails": ["a", "b", "a"]}]


def test_a_unique_index_over_documents_that_contradict_it_is_refused(store: Store) -> None:
    store.batch([Insert("links", {"_id": 1, "name": "x"}), Insert("links", {"_id": 2, "name": "x"})])

    with pytest.raises(DuplicateKey):
        store.declare("links", [Index((("name", 1),), unique=True)])

    store.insert("links", {"_id": 3, "name": "x"})
    assert store.count("links", {"name": "x"}) == 3


def test_an_index_declared_later_covers_what_was_there(store: Store) -> None:
    store.batch([Insert("plays", {"_id": n, "due": n % 10, "tags": ["t", n % 3]}) for n in range(50)])

    store.declare("plays", [Index((("due", 1),)), Index((("tags", 1), ("due", -1)))])
    store.update("plays", {"_id": 4}, {"$set": {"due": 99}})
    store.delete("plays", {"_id": 14})

    assert [each["_id"] for each in store.find("plays", {"due": 4}, sort=[("_id", 1)])] == [24, 34, 44]
    assert [each["_id"] for each in store.find("plays", {"due": {"$gt": 9}})] == [4]
    assert store.count("plays", {"tags": 1, "due": {"$gte": 4}}) == 10


def test_an_index_over_an_array_follows_its_changes(store: Store) -> None:
    store.declare("plays", [Index((("waiting_for", 1),))])
    store.insert("plays", {"_id": 1, "waiting_for": ["link:a", "link:b"]})
    store.insert("plays", {"_id": 2, "waiting_for": "link:a"})

    store.update("plays", {"_id": 1}, {"$pull": {"waiting_for": "link:a"}})

    assert [each["_id"] for each in store.find("plays", {"waiting_for": "link:a"})] == [2]
    assert [each["_id"] for each in store.find("plays", {"waiting_for": {"$in": ["link:b", "link:c"]}})] == [1]
    store.update("plays", {"_id": 1}, {"$set": {"waiting_for": None}})
    assert store.find("plays", {"waiting_for": "link:b"}) == []


def test_the_first_array_in_an_index_is_found_by_whoever_knew_the_index_without_one(store_url: str) -> None:
    with closing(open_store(store_url)) as writer, closing(open_store(store_url)) as other:
        for each in (writer, other):
            each.declare("jobs", [Index((("tags", 1),))])
        writer.insert("jobs", {"_id": 1, "tags": "a"})
        assert len(other.find("jobs", {"tags": "a"})) == 1

        applied = writer.batch(
            [
                Update("jobs", {"_id": 1}, {"$set": {"tags": ["a", "b"]}}),
                Update("jobs", {"tags": "b"}, {"$set": {"seen": True}}),
            ]
        )

        assert applied == [True, True]
        assert other.find("jobs", {"tags": "b"}) == [{"_id": 1, "tags": ["a", "b"], "seen": True}]
        assert other.count("jobs", {"tags": "a"}) == 1


def test_an_index_that_somebody_else_has_replaced_is_used_at_once(store_url: str) -> None:
    with closing(open_store(store_url)) as writer, closing(open_store(store_url)) as other:
        for each in (writer, other):
            each.declare("jobs", [Index((("name", 1),))])
        writer.insert("jobs", {"_id": 1, "name": "a"})
        assert len(other.find("jobs", {"name": "a"})) == 1

        writer.declare("jobs", [Index((("name", 1),), unique=True)])
        writer.insert("jobs", {"_id": 2, "name": "b"})

        assert [job["_id"] for job in other.find("jobs", {"name": "b"})] == [2]


def test_an_array_that_was_rolled_back_does_no_harm(sqlite_url: str) -> None:
    with closing(open_store(sqlite_url)) as store:
        store.declare("jobs", [Index((("tags", 1),)), Index((("a", 1), ("b", 1)))])
        with pytest.raises(ValidationFailed):
            store.batch(
                [
                    Insert("jobs", {"_id": 1, "tags": ["x"]}),
                    Insert("jobs", {"_id": 2, "a": [1], "b": [2]}),
                ]
            )

        store.insert("jobs", {"_id": 3, "tags": ["x"]})

        assert [job["_id"] for job in store.find("jobs", {"tags": "x"})] == [3]


def test_declaring_again_changes_what_is_different(store: Store) -> None:
    store.declare("seen", [Index((("at", 1),)), Index((("name", 1),))])
    store.batch([Insert("seen", {"_id": 1, "name": "x"})])

    store.declare("seen", [Index((("at", 1),), expire_after_s=60), Index((("name", 1),), unique=True)], durable=True)
    store.declare("seen", [Index((("at", 1),), expire_after_s=60), Index((("name", 1),), unique=True)], durable=True)

    with pytest.raises(DuplicateKey):
        store.insert("seen", {"_id": 2, "name": "x"})


_PARTLY_WITHOUT = (
    {"_id": 1, "until": 5},
    {"_id": 2},
    {"_id": 3, "until": None},
    {"_id": 4, "until": "later"},
    {"_id": 5, "until": [3, 7]},
    {"_id": 6, "until": [None]},
    {"_id": 7, "until": []},
    {"_id": 8, "until": {"at": 5}},
)
_ABOUT_IT: tuple[dict[str, Any], ...] = (
    {"until": 5},
    {"until": None},
    {"until": []},
    {"until": {"$in": [5, "later"]}},
    {"until": {"$in": [5, None]}},
    {"until": {"$nin": [5]}},
    {"until": {"$ne": 5}},
    {"until": {"$ne": None}},
    {"until": {"$gt": 4}},
    {"until": {"$gte": None}},
    {"until": {"$lte": None}},
    {"until": {"$exists": True}},
    {"until": {"$exists": False}},
    {"until": {"$gt": 4}, "_id": {"$gt": 1}},
    {"$or": [{"until": 5}, {"until": None}]},
    {},
)


@pytest.mark.parametrize("asked", _ABOUT_IT, ids=str)
def test_a_sparse_index_changes_no_answer(store: Store, asked: dict[str, Any]) -> None:
    store.declare("sparse", [Index((("until", 1),), sparse=True)])
    for name in ("sparse", "bare"):
        store.batch([Insert(name, each) for each in _PARTLY_WITHOUT])

    def same() -> None:
        for sort in ([("_id", 1)], [("until", 1), ("_id", 1)]):
            assert store.find("sparse", asked, sort=sort) == store.find("bare", asked, sort=sort)
        assert store.count("sparse", asked) == store.count("bare", asked)

    same()
    for name in ("sparse", "bare"):
        store.update(name, {"_id": 1}, {"$unset": {"until": 1}})
        store.update(name, {"_id": 2}, {"$set": {"until": 5}})
        store.update(name, {"_id": 3}, {"_id": 3, "until": 6})
        store.update(name, {"_id": 4}, {"_id": 4})
        store.update(name, {"_id": 5}, {"_id": 5})
        store.update(name, {"_id": 7}, {"_id": 7, "until": [5, 6]})
        store.delete(name, {"_id": 6})
    same()


def test_a_plain_index_becomes_a_sparse_one(store: Store) -> None:
    store.declare("plays", [Index((("until", 1),))])
    store.batch([Insert("plays", {"_id": 1}), Insert("plays", {"_id": 2, "until": 5})])

    store.declare("plays", [Index((("until", 1),), sparse=True)])

    assert [each["_id"] for each in store.find("plays", {"until": None})] == [1]
    assert [each["_id"] for each in store.find("plays", {"until": {"$gt": 4}})] == [2]


def test_a_file_from_before_there_were_sparse_indexes_gets_them(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(SqliteStore(path, clock=ManualClock())) as store:
        store.declare("plays", [Index((("until", 1),))])
        store.insert("plays", {"_id": 2, "until": 5})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE flow8_indexes DROP COLUMN is_sparse")
        connection.commit()

    with closing(SqliteStore(path, clock=ManualClock())) as store:
        store.declare("plays", [Index((("until", 1),), sparse=True)])

        assert [each["_id"] for each in store.find("plays", {"until": 5})] == [2]


def test_an_index_of_two_arrays_is_refused(sqlite_url: str) -> None:
    with closing(open_store(sqlite_url)) as store:
        store.declare("plays", [Index((("a", 1), ("b", 1)))])

        with pytest.raises(ValidationFailed):
            store.insert("plays", {"_id": 1, "a": [1, 2], "b": [3, 4]})

        assert store.count("plays", {}) == 0


def test_the_name_of_an_index_is_mongodbs() -> None:
    assert Index((("company_id", 1), ("seq", -1))).name == "company_id_1_seq_-1"


@pytest.mark.parametrize(
    ("paths", "expire_after_s"),
    [((), None), ((("a", 2),), None), ((("a", 1), ("a", -1)), None), ((("a", 1), ("b", 1)), 60)],
)
def test_an_index_that_makes_no_sense_is_refused(
    paths: tuple[tuple[str, int], ...], expire_after_s: int | None
) -> None:
    with pytest.raises(ValidationFailed):
        Index(paths, expire_after_s=expire_after_s)


@pytest.mark.parametrize(("paths", "unique"), [((("a", 1), ("b", 1)), False), ((("a", 1),), True)])
def test_only_a_plain_index_of_one_path_may_be_sparse(paths: tuple[tuple[str, int], ...], unique: bool) -> None:
    with pytest.raises(ValidationFailed):
        Index(paths, unique=unique, sparse=True)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def expiring(tmp_path: Path, clock: ManualClock) -> Iterator[SqliteStore]:
    """A SQLite store whose `oauth_states` expire a minute after `expires_at`."""
    with closing(SqliteStore(tmp_path / "store.db", clock=clock)) as store:
        store.declare("oauth_states", [Index((("expires_at", 1),), expire_after_s=60)])
        store.insert("oauth_states", {"_id": 0, "expires_at": clock.now()})
        store.insert("oauth_states", {"_id": 1, "expires_at": None})
        store.insert("oauth_states", {"_id": 2})
        store.insert("oauth_states", {"_id": 3, "expires_at": "soon"})
        store.insert("oauth_states", {"_id": "list", "expires_at": [clock.now(), clock.now() + timedelta(days=1)]})
        store.insert("oauth_states", {"_id": "later", "expires_at": clock.now() + timedelta(days=1)})
        yield store


def test_what_expired_is_still_there_until_it_is_purged(expiring: SqliteStore, clock: ManualClock) -> None:
    clock.advance(59)
    assert expiring.purge() == 0

    clock.advance(2)
    assert expiring.get("oauth_states", 0) is not None
    assert expiring.purge() == 2
    assert [each["_id"] for each in expiring.find("oauth_states", {}, sort=[("_id", 1)])] == [1, 2, 3, "later"]
    assert expiring.count("oauth_states", {"expires_at": {"$lte": clock.now()}}) == 0


def test_a_write_purges_now_and_then(expiring: SqliteStore, clock: ManualClock) -> None:
    clock.advance(61)

    expiring.insert("other", {"_id": 1})

    assert expiring.get("oauth_states", 0) is None


def test_a_ttl_index_reaches_the_server(real_mongo: str) -> None:
    import pymongo

    with closing(open_store(real_mongo)) as store:
        store.declare("oauth_states", [Index((("expires_at", 1),), expire_after_s=60)])

    with pymongo.MongoClient[dict[str, object]](real_mongo) as client:
        information = client.get_default_database()["oauth_states"].index_information()
    assert information["expires_at_1"]["expireAfterSeconds"] == 60
