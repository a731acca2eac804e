"""kill -9: no acknowledged write of a SQLite store is lost, and the file stays whole."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

from flow8_core.store import Index, Store, open_store
from tests.store import rivals

ROUNDS = 20
WRITERS = 3


def test_killed_writers_lose_no_acknowledged_write(tmp_path: Path, sqlite_url: str) -> None:
    lengths = random.Random(4454)
    acknowledged: dict[str, int] = {}
    with closing(open_store(sqlite_url)) as store:
        store.declare("written", [Index((("owner", 1),)), Index((("list", 1),))])

    for number in range(ROUNDS):
        names = [f"{number}.{writer}" for writer in range(WRITERS)]
        writers = [rivals.start_writer(sqlite_url, name) for name in names]
        for _ in range(lengths.randrange(1, 20)):
            acknowledged[names[0]] = writers[0][1].recv()
        for process, _ in writers:
            process.kill()
        for name, (process, pipe) in zip(names, writers, strict=True):
            process.join()
            process.close()
            acknowledged[name] = _last_of(pipe, acknowledged.get(name, -1))
            pipe.close()

    with closing(open_store(sqlite_url)) as store:
        for name, last in acknowledged.items():
            _check(store, name, last)
    assert sum(acknowledged.values()) > ROUNDS
    assert _integrity(tmp_path / "store.db") == "ok"


def _last_of(pipe: Connection, last: int) -> int:
    """The last number that a dead writer acknowledged."""
    try:
        while True:
            last = pipe.recv()
    except EOFError:
        return last


def _check(store: Store, name: str, last: int) -> None:
    """All up to the last acknowledged write is there; of the one in flight any prefix, and each index knows of it."""
    rows = store.find("written", {"owner": name})
    ids = {row["_id"] for row in rows}
    assert {f"{name}.{number}" for number in range(last + 1)} <= ids
    assert {f"{name}.{number}.batch" for number in range(last + 1)} <= ids
    assert len(ids) <= 2 * (last + 2)
    assert all(
        store.count("written", {"_id": row["_id"], "list": row["list"][0]}) == 1 for row in rows if "list" in row
    )
    counter = store.get("counters", name)
    assert last < 0 or (counter is not None and last <= counter["last"] <= last + 1)
    assert counter is None or last + 1 <= counter["count"] <= last + 2


def _integrity(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        answer: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
    return answer
