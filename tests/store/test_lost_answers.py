"""MongoDB's answer does not arrive, though the write took place: it is settled by re-reading, and happens once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pymongo
import pytest

from flow8_core.clock import SystemClock
from flow8_core.errors import StoreUnavailable
from flow8_core.store import Delete, Document, DuplicateKey, Index, Insert, Store, Update, open_store
from flow8_core.store.mongo import MongoStore
from tests.counterparts.chaos import ChaosProxy


class FirstAnswerLate(SystemClock):
    """A clock by which the first command of a process takes half a second, as it may where a connection is made."""

    LATE_S = 0.5

    def __init__(self) -> None:
        self.asked = 0

    def monotonic(self) -> float:
        self.asked += 1
        return super().monotonic() + (
            self.LATE_S if self.asked > 1 else 0.0
        )  # what was sent before that is answered late


@pytest.fixture
def proxy(mongo_uri: str, chaos: Callable[[str], ChaosProxy]) -> ChaosProxy:
    """What stands between the store and its server."""
    return chaos(urlsplit(mongo_uri).netloc)


@pytest.fixture
def far(mongo_uri: str, proxy: ChaosProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store behind the fault proxy, connected. Its client looks for the server again at once, not after 0.5 s."""
    monkeypatch.setattr("pymongo.common.MIN_HEARTBEAT_INTERVAL", 0.02)
    parts = urlsplit(mongo_uri)
    query = f"directConnection=true&{parts.query}" if parts.query else "directConnection=true"
    with closing(open_store(f"mongodb://{proxy.address}{parts.path}?{query}")) as store:
        store.get("things", "warm up")
        yield store


@pytest.fixture
def near(mongo_uri: str) -> Iterator[Store]:
    """The same database, without faults: what others see and do."""
    with closing(open_store(mongo_uri)) as store:
        yield store


def test_an_insert_whose_answer_was_lost_took_place_once(far: Store, near: Store, proxy: ChaosProxy) -> None:
    proxy.lose_reply_to(b"insert")

    far.insert("things", {"_id": 1, "a": 1})

    assert proxy.lost == 1
    assert near.find("things", {}) == [{"_id": 1, "a": 1}]


def test_anothers_document_is_not_taken_for_ones_own(far: Store, near: Store, proxy: ChaosProxy) -> None:
    near.insert("things", {"_id": 1, "a": 1})
    proxy.lose_reply_to(b"insert")

    with pytest.raises(DuplicateKey):
        far.insert("things", {"_id": 1, "a": 1})

    assert proxy.lost == 1


@pytest.mark.parametrize(
    "condition", [{"_id": 1}, {"_id": 1, "n": 0}, {"kind": "counter"}], ids=["by id", "compare and set", "first match"]
)
@pytest.mark.parametrize("losses", [1, 2])
def test_an_increment_whose_answer_was_lost_counts_once(
    far: Store, near: Store, proxy: ChaosProxy, condition: Document, losses: int
) -> None:
    near.insert("things", {"_id": 1, "kind": "counter", "n": 0})
    for _ in range(losses):
        proxy.lose_reply_to(b"findAndModify")

    outcome = far.update("things", condition, {"$inc": {"n": 1}})

    assert outcome == {"_id": 1, "kind": "counter", "n": 1}
    assert near.get("things", 1) == outcome


def test_a_replacement_whose_answer_was_lost_is_found_again(far: Store, near: Store, proxy: ChaosProxy) -> None:
    near.insert("things", {"_id": 1, "rev": 1})
    proxy.lose_reply_to(b"findAndModify")

    assert far.update("things", {"_id": 1, "rev": 1}, {"rev": 2}) == {"_id": 1, "rev": 2}


def test_a_claim_whose_answer_was_lost_does_not_claim_a_second(far: Store, near: Store, proxy: ChaosProxy) -> None:
    near.batch([Insert("jobs", {"_id": number, "status": "new"}) for number in range(3)])
    proxy.lose_reply_to(b"findAndModify")

    claimed = far.update("jobs", {"status": "new"}, {"$set": {"status": "taken"}}, sort=[("_id", 1)])

    assert claimed == {"_id": 0, "status": "taken"}
    assert near.count("jobs", {"status": "taken"}) == 1


def test_an_upsert_whose_answer_was_lost_made_one_document(far: Store, near: Store, proxy: ChaosProxy) -> None:
    proxy.lose_reply_to(b"findAndModify")

    made = far.update("things", {"name": "a"}, {"$inc": {"n": 1}}, upsert=True)

    assert near.find("things", {}) == [made]


def test_a_miss_whose_answer_was_lost_is_still_a_miss(far: Store, near: Store, proxy: ChaosProxy) -> None:
    near.insert("things", {"_id": 1, "rev": 5})
    proxy.lose_reply_to(b"findAndModify")

    assert far.update("things", {"_id": 1, "rev": 4}, {"$set": {"rev": 6}}) is None
    assert near.get("things", 1) == {"_id": 1, "rev": 5}


def test_a_write_that_others_wrote_over_since_is_doubtful_and_not_repeated(
    far: Store, near: Store, proxy: ChaosProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    near.insert("things", {"_id": 1, "n": 0})
    proxy.lose_reply_to(b"findAndModify")
    _before_the_reread(monkeypatch, lambda: near.update("things", {"_id": 1}, {"$inc": {"n": 10}}))

    with pytest.raises(StoreUnavailable) as doubt:
        far.update("things", {"_id": 1}, {"$inc": {"n": 1}})

    assert doubt.value.ambiguous
    assert near.get("things", 1) == {"_id": 1, "n": 11}


def test_a_consuming_delete_whose_answer_was_lost_fails_closed(far: Store, near: Store, proxy: ChaosProxy) -> None:
    near.insert("states", {"_id": 1})
    proxy.lose_reply_to(b"findAndModify")

    with pytest.raises(StoreUnavailable) as doubt:
        far.delete("states", {"_id": 1})

    assert doubt.value.ambiguous
    assert near.get("states", 1) is None


def test_a_consuming_delete_that_never_arrived_is_issued_again(far: Store, near: Store, proxy: ChaosProxy) -> None:
    near.insert("states", {"_id": 1, "a": 1})
    proxy.cut()

    assert far.delete("states", {"_id": 1}) == {"_id": 1, "a": 1}
    assert near.count("states", {}) == 0


@pytest.mark.parametrize("command", [b"insert", b"update"])
def test_a_batch_whose_answer_was_lost_is_settled_one_by_one(
    far: Store, near: Store, proxy: ChaosProxy, command: bytes
) -> None:
    near.batch([Insert("plays", {"_id": number, "rev": number % 2, "n": 0}) for number in range(10)])
    near.insert("rows", {"_id": 3})
    proxy.lose_reply_to(command)

    applied = far.batch(
        [
            *(Insert("rows", {"_id": number}) for number in range(6)),
            *(Update("plays", {"_id": number, "rev": 0}, {"$inc": {"n": 1, "rev": 2}}) for number in range(10)),
            *(Update("plays", {"_id": number, "rev": 1}, {"rev": 9, "n": 1}) for number in range(10)),
            Delete("rows", {"_id": 0}),
        ]
    )

    assert proxy.lost == 1
    assert applied == [
        *(number != 3 for number in range(6)),
        *(number % 2 == 0 for number in range(10)),
        *(number % 2 == 1 for number in range(10)),
        True,
    ]
    assert near.count("rows", {}) == 5
    assert near.count("plays", {"n": 1}) == 10


def test_a_batch_cut_off_on_its_way_is_sent_again(far: Store, near: Store, proxy: ChaosProxy) -> None:
    proxy.cut()

    applied = far.batch([Insert("rows", {"_id": number}) for number in range(5)])

    assert applied == [True] * 5
    assert near.count("rows", {}) == 5


def test_reads_survive_a_cut_connection(far: Store, near: Store, proxy: ChaosProxy) -> None:
    near.insert("things", {"_id": 1})
    proxy.cut()

    assert far.get("things", 1) == {"_id": 1}
    proxy.cut()
    assert far.find("things", {}) == [{"_id": 1}]
    assert far.count("things", {}) == 1


def test_a_read_of_one_document_whose_answer_was_lost_is_asked_again(
    far: Store, near: Store, proxy: ChaosProxy
) -> None:
    near.insert("things", {"_id": 1, "company_id": 7, "at": datetime(2026, 4, 4, tzinfo=UTC)})
    proxy.lose_reply_to(b"find")

    found = far.find("things", {"_id": 1, "company_id": 7}, sort=[("at", -1)], limit=1, fields=["at"])

    assert found == [{"_id": 1, "at": datetime(2026, 4, 4, tzinfo=UTC)}]
    assert proxy.lost == 1


def test_stamps_are_kept_short_and_never_shown(near: Store, mongo_uri: str) -> None:
    near.declare("things", [Index((("n", 1),))])
    near.insert("things", {"_id": 1, "n": 0})
    shown = [near.update("things", {"_id": 1}, {"$inc": {"n": 1}}) for _ in range(20)]
    shown += [near.get("things", 1), *near.find("things", {}), *near.find("things", {}, fields=["n"])]

    with pymongo.MongoClient[dict[str, Any]](mongo_uri) as client:
        raw = client.get_default_database()["things"].find_one()

    assert all(document is not None and set(document) == {"_id", "n"} for document in shown)
    assert near.delete("things", {"_id": 1}) == {"_id": 1, "n": 20}
    assert raw is not None
    assert len(raw["_writes"]) == 8


def test_documents_that_another_program_wrote_can_be_updated(near: Store, mongo_uri: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](mongo_uri) as client:
        client.get_default_database()["links"].insert_one({"_id": 1, "service": "slack", "at": datetime(2026, 1, 1)})  # noqa: DTZ001

    assert near.update("links", {"_id": 1}, {"$set": {"status": "active"}}) == {
        "_id": 1,
        "service": "slack",
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "status": "active",
    }
    assert near.batch([Update("links", {"_id": 1}, {"$set": {"status": "revoked"}})]) == [True]


def test_an_answer_that_takes_long_does_not_set_the_servers_clock_wrong(mongo_uri: str) -> None:
    with closing(MongoStore(mongo_uri, clock=FirstAnswerLate())) as store:
        assert abs((store.now() - datetime.now(UTC)).total_seconds()) < FirstAnswerLate.LATE_S / 4


def test_the_servers_clock_is_asked_now_and_then(far: Store, proxy: ChaosProxy) -> None:
    first = far.now()
    proxy.refuse()  # what was asked a moment ago still holds

    second = far.now()

    assert timedelta(0) <= second - first < timedelta(seconds=5)
    assert abs(first - datetime.now(UTC)) < timedelta(seconds=5)
    assert first.microsecond % 1000 == 0


@pytest.mark.parametrize("later_writes", [1, 7])
def test_a_write_of_a_batch_that_others_wrote_over_at_once_is_known_as_applied(
    near: Store, mongo_uri: str, monkeypatch: pytest.MonkeyPatch, later_writes: int
) -> None:
    """A bulk's answer counts what matched; which ones did is read back, from documents that others write meanwhile."""
    near.batch([Insert("things", {"_id": 1, "rev": 0}), Insert("things", {"_id": 2, "rev": 9})])

    with closing(open_store(mongo_uri)) as other:

        def overwrite() -> None:
            assert other.get("things", 1) == {"_id": 1, "rev": 1}
            for rev in range(1, 1 + later_writes):
                assert other.batch([Update("things", {"_id": 1, "rev": rev}, {"_id": 1, "rev": rev + 1})]) == [True]

        _before_the_read_back(monkeypatch, overwrite)
        applied = near.batch(
            [
                Update("things", {"_id": 1, "rev": 0}, {"_id": 1, "rev": 1}),
                Update("things", {"_id": 2, "rev": 0}, {"_id": 2, "rev": 1}),
            ]
        )

    assert applied == [True, False]
    assert near.find("things", {}, sort=[("_id", 1)]) == [{"_id": 1, "rev": 1 + later_writes}, {"_id": 2, "rev": 9}]


def _before_the_reread(monkeypatch: pytest.MonkeyPatch, interfere: Callable[[], object]) -> None:
    """Let somebody else act between a lost answer and its settling."""
    from flow8_core.store.mongo import settling

    reread = settling._reread

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(settling, "_reread", reread)
        interfere()
        return reread(*arguments)

    monkeypatch.setattr(settling, "_reread", late)


def _before_the_read_back(monkeypatch: pytest.MonkeyPatch, interfere: Callable[[], object]) -> None:
    """Let somebody else act between a bulk and the look at what it did."""
    from flow8_core.store.mongo.batch import _Bulk

    read_back = _Bulk._read_back

    def late(bulk: _Bulk, operations: Any) -> Any:
        monkeypatch.setattr(_Bulk, "_read_back", read_back)
        interfere()
        return read_back(bulk, operations)

    monkeypatch.setattr(_Bulk, "_read_back", late)
