"""Eight processes at one store: nothing is done twice, nothing is lost."""

from __future__ import annotations

from collections import Counter
from itertools import chain

from flow8_core.store import Index, Insert, Store
from tests.store import rivals


def test_no_increment_is_lost(store: Store, store_url: str) -> None:
    store.insert("counters", {"_id": "all", "count": 0})

    acknowledged = rivals.compete(rivals.increments, store_url)

    assert sum(acknowledged) == 400
    assert store.get("counters", "all") == {"_id": "all", "count": 400}


def test_no_job_is_claimed_twice_and_none_is_left(store: Store, store_url: str) -> None:
    store.declare("jobs", [Index((("status", 1), ("rank", 1)))])
    store.batch([Insert("jobs", {"_id": number, "status": "new", "rank": number % 7}) for number in range(200)])

    taken = rivals.compete(rivals.claims, store_url)

    assert sorted(chain.from_iterable(taken)) == list(range(200))
    assert store.count("jobs", {"status": "new"}) == 0


def test_a_consuming_delete_gives_each_document_to_one_caller(store: Store, store_url: str) -> None:
    store.batch([Insert("tickets", {"_id": number, "kind": "one-time"}) for number in range(100)])

    consumed = rivals.compete(rivals.consumptions, store_url)

    assert sorted(chain.from_iterable(consumed)) == list(range(100))


def test_a_lease_has_one_winner(store: Store, store_url: str) -> None:
    store.batch([Insert("leases", {"_id": number, "until": None}) for number in range(40)])

    won = rivals.compete(rivals.leases, store_url)

    assert sorted(chain.from_iterable(won)) == list(range(40))
    owners = Counter(lease["owner"] for lease in store.find("leases", {}))
    assert {f"rival{number}": len(each) for number, each in enumerate(won) if each} == dict(owners)


def test_a_compare_and_set_never_overwrites_another(store: Store, store_url: str) -> None:
    store.insert("plays", {"_id": "p", "rev": 0, "log": []})

    done = rivals.compete(rivals.compare_and_set, store_url, processes=4)

    play = store.get("plays", "p")
    assert play is not None
    assert play["rev"] == sum(done) == 100
    assert len(set(play["log"])) == 100


def test_a_unique_index_lets_one_of_all_insert(store: Store, store_url: str) -> None:
    store.declare("named", [Index((("name", 1),), unique=True)])

    first = rivals.compete(rivals.inserts, store_url)

    assert sum(first) == 30
    assert store.count("named", {}) == 30


def test_rival_upserts_make_one_document(store: Store, store_url: str) -> None:
    rivals.compete(rivals.upserts, store_url)

    assert store.find("upserted", {}, sort=[("_id", 1)]) == [{"_id": number, "count": 8} for number in range(30)]


def test_a_forked_child_goes_on_with_connections_of_its_own(store: Store) -> None:
    store.insert("rows", {"_id": "parent"})

    def child() -> bool:
        store.insert("rows", {"_id": "child", "saw": store.get("rows", "parent")})
        return store.count("rows", {}) == 2

    finished = rivals.in_child(child)
    assert finished()
    store.insert("rows", {"_id": "parent again"})

    assert store.get("rows", "child") == {"_id": "child", "saw": {"_id": "parent"}}
    assert store.count("rows", {}) == 3
