"""A SQLite store among threads, forks, other processes and other versions of itself."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from flow8_core.clock import SystemClock
from flow8_core.errors import StoreUnavailable, ValidationFailed
from flow8_core.store import DuplicateKey, Index, Insert, Store, Update, open_store
from flow8_core.store.sqlite import SqliteStore
from tests.store import rivals


def test_threads_share_a_store(sqlite_url: str) -> None:
    with closing(open_store(sqlite_url)) as store, ThreadPoolExecutor(64) as pool:
        store.insert("counters", {"_id": 1, "n": 0})

        def work(number: int) -> bool:
            store.insert("rows", {"_id": number})
            store.update("counters", {"_id": 1}, {"$inc": {"n": 1}})
            return store.get("rows", number) == {"_id": number}

        read_back = list(pool.map(work, range(640)))

        assert all(read_back)
        assert store.get("counters", 1) == {"_id": 1, "n": 640}
        assert store.count("rows", {}) == 640


def test_a_child_keeps_its_writes_when_its_parent_closes_the_store(sqlite_url: str) -> None:
    store = open_store(sqlite_url)
    store.insert("rows", {"_id": "parent"})
    parent_closed, child_may_end = os.pipe()

    def child() -> bool:
        store.insert("rows", {"_id": "before"})
        os.write(child_may_end, b".")
        return all(store.update("rows", {"_id": "before"}, {"$inc": {"n": 1}}) for _ in range(200))

    finished = rivals.in_child(child)
    os.read(parent_closed, 1)
    store.close()  # were it SQLite's last connection, this would fold and remove the log
    assert finished()

    assert store.get("rows", "before") == {"_id": "before", "n": 200}
    store.close()
    os.close(parent_closed)
    os.close(child_may_end)


def test_children_forked_while_a_thread_writes_are_not_stuck(sqlite_url: str) -> None:
    with closing(open_store(sqlite_url)) as store:
        stop = threading.Event()
        written = 0

        def write() -> None:
            nonlocal written
            while not stop.is_set():
                store.insert("rows", {"_id": written})
                written += 1

        thread = threading.Thread(target=write)
        thread.start()
        children = [rivals.in_child(partial(_inserts, store, f"child {number}")) for number in range(10)]
        outcomes = [finished() for finished in children]
        stop.set()
        thread.join()

        assert all(outcomes)
        assert store.count("rows", {}) == written + 10


def _inserts(store: Store, name: str) -> bool:
    store.insert("rows", {"_id": name})
    return True


def test_an_index_that_another_process_adds_is_kept_by_all(sqlite_url: str) -> None:
    with closing(open_store(sqlite_url)) as old, closing(open_store(sqlite_url)) as new:
        old.declare("rows", [])
        old.insert("rows", {"_id": 1, "name": "a"})

        new.declare("rows", [Index((("name", 1),), unique=True)])
        old.insert("rows", {"_id": 2, "name": "b"})

        assert new.find("rows", {"name": "b"}) == [{"_id": 2, "name": "b"}]
        with pytest.raises(DuplicateKey):
            old.insert("rows", {"_id": 3, "name": "a"})


def test_an_index_that_another_process_replaced_does_not_break_a_reader(sqlite_url: str) -> None:
    with closing(open_store(sqlite_url)) as old, closing(open_store(sqlite_url)) as new:
        old.declare("rows", [Index((("name", 1),))])
        old.insert("rows", {"_id": 1, "name": "a"})

        new.declare("rows", [Index((("name", 1),), unique=True)])

        assert old.find("rows", {"name": "a"}) == [{"_id": 1, "name": "a"}]


def test_what_fails_half_way_leaves_no_trace(sqlite_url: str) -> None:
    with closing(open_store(sqlite_url)) as store:
        with pytest.raises(ValidationFailed):
            store.batch([Insert("fresh", {"_id": 1, "s": "text"}), Update("fresh", {"_id": 1}, {"$inc": {"s": 1}})])

        assert store.count("fresh", {}) == 0
        store.insert("fresh", {"_id": 1})
        assert store.count("fresh", {}) == 1


def test_a_closed_store_opens_again(sqlite_url: str) -> None:
    store = open_store(sqlite_url)
    store.insert("rows", {"_id": 1})
    store.close()
    store.close()

    assert store.get("rows", 1) == {"_id": 1}
    store.close()


def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "flow8.db"
    with closing(open_store(f"sqlite:///{path}")) as store:
        store.insert("rows", {"_id": 1})

        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}

    assert modes == dict.fromkeys(("flow8.db", "flow8.db-wal", "flow8.db-shm", "flow8.db.gate"), 0o600)


def test_a_relative_url_means_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(open_store("sqlite:///flow8.db")) as store:
        store.insert("rows", {"_id": 1})

    assert (tmp_path / "flow8.db").exists()


@pytest.mark.parametrize(
    "url", ["sqlite:///", "sqlite://flow8.db", "postgres://localhost/x", "", "mongodb://a b:1:2/x"]
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ValidationFailed):
        open_store(url)


def test_a_gate_that_a_stopped_process_holds_is_given_up_on(sqlite_url: str, tmp_path: Path) -> None:
    with closing(open_store(sqlite_url)) as store:
        store.insert("rows", {"_id": 1})
        with (tmp_path / "store.db.gate").open("r+") as stopped:
            fcntl.flock(stopped, fcntl.LOCK_EX)
            began = time.monotonic()

            with pytest.raises(StoreUnavailable, match="write lock"):
                store.insert("rows", {"_id": 2})

            assert time.monotonic() - began < 2.0
            assert store.get("rows", 1) == {"_id": 1}
        store.insert("rows", {"_id": 2})


def test_a_tool_that_holds_sqlites_own_lock_is_given_up_on(sqlite_url: str, tmp_path: Path) -> None:
    with closing(open_store(sqlite_url)) as store:
        store.insert("rows", {"_id": 1})
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as tool:
            tool.execute("BEGIN IMMEDIATE")
            began = time.monotonic()

            with pytest.raises(StoreUnavailable, match="locked"):
                store.insert("rows", {"_id": 2})

            assert time.monotonic() - began < 2.0


def test_readers_do_not_wait_for_a_writer(sqlite_url: str) -> None:
    store = SqliteStore(Path(sqlite_url.removeprefix("sqlite:///")), clock=SystemClock())
    with closing(store):
        store.insert("rows", {"_id": 1})
        with store._database.writing() as connection:
            connection.execute("DELETE FROM d_rows")
            seen: list[object] = []
            reader = threading.Thread(target=lambda: seen.append(store.get("rows", 1)))
            reader.start()
            reader.join(5)

        assert seen == [{"_id": 1}]
        assert store.get("rows", 1) is None


def test_a_durable_collection_waits_for_the_disk_and_another_does_not(sqlite_url: str) -> None:
    store = SqliteStore(Path(sqlite_url.removeprefix("sqlite:///")), clock=SystemClock())
    with closing(store):
        store.declare("links", [], durable=True)
        store.declare("plays", [])

        levels: list[int] = []
        for collection in ("links", "plays", "links"):
            store.insert(collection, {"_id": len(levels)})
            connection = store._database._open
            assert connection is not None
            levels.append(connection.writer.execute("PRAGMA synchronous").fetchone()[0])

        assert levels == [2, 1, 2]  # FULL, NORMAL, FULL
