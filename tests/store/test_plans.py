"""Declared queries use their index: seen in the plan, and in the time that many documents take."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flow8_core.clock import SystemClock
from flow8_core.store import Index, Insert, Sort, open_store
from flow8_core.store.dialect.matching import compile_filter
from flow8_core.store.sqlite import SqliteStore
from flow8_core.store.sqlite.plan import choose

COUNT, MANY = 10_000, 100_000  # where a scan takes ten times, a hundred times what a query may
_START = datetime(2026, 1, 1, tzinfo=UTC)
_INDEXES = [
    Index((("queue", 1), ("lane", 1), ("rank", 1), ("due_at", 1))),
    Index((("until", 1),), sparse=True),
    Index((("waiting_for", 1),), sparse=True),
    Index((("company_id", 1), ("created_at", -1))),
    Index((("company_id", 1), ("name", 1)), unique=True),
]
_QUERIES: dict[str, tuple[Mapping[str, Any], Sort, str]] = {
    "the next of a lane": (
        {"queue": "default", "lane": "lane7", "rank": 1, "due_at": {"$lte": _START + timedelta(days=1)}},
        [("due_at", 1)],
        "m=? AND k0=? AND k1=? AND k2=? AND k3>? AND k3<?",
    ),
    "the order of a lane": (
        {"queue": "default", "lane": "lane7"},
        [("rank", 1), ("due_at", 1)],
        "m=? AND k0=? AND k1=?",
    ),
    "leases that ended": ({"until": {"$lt": _START + timedelta(seconds=9)}}, [("until", 1)], "m=? AND k0>? AND k0<?"),
    "parked on a link": ({"waiting_for": "link:77"}, [], "m=? AND k0=?"),
    "one of several links": ({"waiting_for": {"$in": ["link:77", "link:78"]}}, [], "m=? AND k0=?"),
    "the newest of a company": ({"company_id": 5}, [("created_at", -1)], "m=? AND k0=?"),
    "a range of a company": (
        {"company_id": 5, "created_at": {"$gt": _START, "$lt": _START + timedelta(seconds=999)}},
        [],
        "m=? AND k0=? AND k1>? AND k1<?",
    ),
    "by a unique name": ({"company_id": 3, "name": "name 7003"}, [], "k0=? AND k1=? AND m=?"),
    "with a residue": (
        {"waiting_for": "link:77", "rank": {"$ne": 5}, "$or": [{"lane": "x"}, {"rank": 1}]},
        [],
        "m=? AND k0=?",
    ),
}


@pytest.fixture(scope="module", params=[COUNT, pytest.param(MANY, marks=pytest.mark.proof)])
def large(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[SqliteStore]:
    """Plays with the indexes of a ledger, each company's a thousandth of them."""
    store = SqliteStore(tmp_path_factory.mktemp("large") / "store.db", clock=SystemClock())
    with closing(store):
        store.batch([Insert("plays", _play(number)) for number in range(request.param)])
        store.declare("plays", _INDEXES)
        yield store


def _play(number: int) -> dict[str, Any]:
    waiting = [f"link:{number}", "link:x"] if number % 1000 == 77 else None
    return {
        "_id": number,
        "queue": "default" if number % 3 else "other",
        "lane": f"lane{number % 50}",
        "rank": number % 2,
        "due_at": _START + timedelta(seconds=number),
        "until": _START + timedelta(seconds=number) if number % 10 == 0 else None,
        "waiting_for": f"link:{number}" if number < 1000 else waiting,
        "company_id": number % 1000,
        "created_at": _START + timedelta(milliseconds=number),
        "name": f"name {number}",
    }


@pytest.mark.parametrize("name", _QUERIES)
def test_a_declared_query_searches_its_index_without_sorting(large: SqliteStore, name: str) -> None:
    condition, sort, expected = _QUERIES[name]

    plan = _explained(large, condition, sort)

    assert f"({expected})" in plan[0]
    assert plan[0].startswith("SEARCH i ")
    assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan)


def test_an_id_is_searched_and_never_scanned_for(large: SqliteStore) -> None:
    assert _explained(large, {"_id": 5, "rank": 1}, []) == ["SEARCH d USING INDEX sqlite_autoindex_d_plays_1 (id=?)"]
    assert "id>? AND id<?" in _explained(large, {"_id": {"$gt": 5, "$lt": 9}}, [("_id", -1)])[0]


@pytest.mark.parametrize("name", _QUERIES)
def test_an_indexed_find_takes_less_than_a_millisecond(large: SqliteStore, name: str) -> None:
    condition, sort, _ = _QUERIES[name]

    assert large.find("plays", condition, sort=sort, limit=1)
    assert _median_s(lambda _: large.find("plays", condition, sort=sort, limit=5)) < 0.001


def test_a_get_and_a_compare_and_set_take_less_than_a_millisecond(large: SqliteStore) -> None:
    def compare_and_set(number: int) -> None:
        changed = {**_play(number), "due_at": _START, "name": f"changed {number}"}
        assert large.update("plays", {"_id": number, "name": f"name {number}"}, changed)

    assert _median_s(lambda number: large.get("plays", number * 97)) < 0.001
    assert _median_s(compare_and_set) < 0.001


def test_a_count_on_an_index_reads_no_document(large: SqliteStore) -> None:
    assert large.count("plays", {"company_id": 77}) == large.count("plays", {}) // 1000
    assert _median_s(lambda _: large.count("plays", {"company_id": 77})) < 0.001


def _median_s(work: Callable[[int], object]) -> float:
    times = []
    for number in range(51):
        began = time.perf_counter()
        work(number)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _explained(store: SqliteStore, condition: Mapping[str, Any], sort: Sort) -> list[str]:
    """SQLite's own account of both statements that a find issues."""
    plan = choose(store._catalogue.collections["plays"], compile_filter(condition), sort)
    steps: list[str] = []
    for statement in filter(None, (plan.main, plan.multikey)):
        sql = f"EXPLAIN QUERY PLAN SELECT d.row, d.body FROM {statement.source}{statement.order}"
        with store._database.reading() as connection:
            steps += [row[3] for row in connection.execute(sql, statement.parameters).fetchall()]
    return steps


def test_mongodb_answers_declared_queries_from_their_index(real_mongo: str) -> None:
    import pymongo

    with closing(open_store(real_mongo)) as store:
        store.declare("plays", _INDEXES)
        store.batch([Insert("plays", _play(number)) for number in range(2000)])

    with pymongo.MongoClient[dict[str, Any]](real_mongo) as client:
        for condition, sort, _ in _QUERIES.values():
            cursor = client.get_default_database()["plays"].find(condition)
            plan = str((cursor.sort(list(sort)) if sort else cursor).explain()["queryPlanner"]["winningPlan"])
            assert "IXSCAN" in plan
            assert "'stage': 'SORT'" not in plan


def test_a_remembered_plan_gives_what_a_new_one_does_whatever_the_values(tmp_path: Path) -> None:
    values = (None, True, False, 1, 0, "x", "y")
    documents = [{"_id": number, "a": a, "b": b} for number, (a, b) in enumerate(itertools.product(values, values))]
    with closing(SqliteStore(tmp_path / "store.db", clock=SystemClock())) as store:
        store.declare("pairs", [Index((("a", 1), ("b", 1)))])
        store.batch([Insert("pairs", document) for document in documents])

        for a, b in itertools.product(values, values):
            for condition in ({"a": a, "b": b}, {"b": b, "a": a}, {"b": b}):
                fits = compile_filter(condition)
                expected = [document["_id"] for document in documents if fits.matches(document)]
                assert sorted(found["_id"] for found in store.find("pairs", condition)) == expected
