"""A store that is down gives one clear error within two seconds, and works again when it is back."""

from __future__ import annotations

import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flow8_core.errors import StoreUnavailable
from flow8_core.store import Index, Insert, Store, Update, open_store
from tests import processes
from tests.counterparts.chaos import ChaosProxy
from tests.store import rivals

_ASKED: dict[str, Callable[[Store], object]] = {
    "get": lambda store: store.get("things", 1),
    "find": lambda store: store.find("things", {"a": 1}),
    "count": lambda store: store.count("things", {}),
    "insert": lambda store: store.insert("things", {"_id": 2}),
    "update": lambda store: store.update("things", {"_id": 1}, {"$inc": {"n": 1}}),
    "delete": lambda store: store.delete("things", {"_id": 1}),
    "batch": lambda store: store.batch([Insert("things", {"_id": 3}), Update("things", {"_id": 1}, {"a": 1})]),
    "declare": lambda store: store.declare("things", [Index((("a", 1),))]),
    "now": lambda store: store.now(),
}


@contextmanager
def _within_two_seconds() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 2.0


def _answers(store: Store) -> bool:
    with suppress(StoreUnavailable):
        return store.count("things", {}) <= 2
    return False


@pytest.fixture
def nobody() -> str:
    """The address of a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_is_not_there_is_named_and_its_password_is_not(nobody: str) -> None:
    with closing(open_store(f"mongodb://flow8:s3cr3t-pw@{nobody}/flow8?authSource=admin")) as store:
        for ask in ("get", "update", "declare"):
            with _within_two_seconds(), pytest.raises(StoreUnavailable) as down:
                _ASKED[ask](store)

            assert nobody in down.value.message
            assert "Check that MongoDB runs" in down.value.message
            assert "s3cr3t-pw" not in repr(down.value) + str(down.value.__cause__) + str(down.value.__context__)
            assert not down.value.ambiguous


@pytest.mark.parametrize(
    ("fault", "ask"),
    [
        ("refuse", "get"),
        ("refuse", "update"),
        ("refuse", "declare"),
        ("blackhole", "declare"),
        ("blackhole", "find"),
        ("blackhole", "get"),
        ("blackhole", "update"),
        ("blackhole", "batch"),
    ],
)
def test_a_server_that_goes_away_is_an_error_in_time(
    mongo_uri: str, chaos: Callable[[str], ChaosProxy], fault: str, ask: str
) -> None:
    parts = urlsplit(mongo_uri)
    proxy = chaos(parts.netloc)
    with closing(open_store(f"mongodb://{proxy.address}{parts.path}?directConnection=true")) as store:
        store.insert("things", {"_id": 1})
        getattr(proxy, fault)()

        with _within_two_seconds(), pytest.raises(StoreUnavailable):
            _ASKED[ask](store)

        proxy.mend()
        proxy.cut()
        processes.until(lambda: _answers(store), "the store's recovery")


@pytest.mark.parametrize("ask", sorted(set(_ASKED) - {"now"}))
def test_a_sqlite_file_that_cannot_be_used_is_an_error_in_time(tmp_path: Path, ask: str) -> None:
    places = {"a folder": tmp_path, "below a file": tmp_path / "file" / "store.db", "no database": tmp_path / "file"}
    (tmp_path / "file").write_bytes(b"this is not a database, " * 100)

    for path in places.values():
        with closing(open_store(f"sqlite:///{path}")) as store:
            with _within_two_seconds(), pytest.raises(StoreUnavailable) as down:
                _ASKED[ask](store)

            assert str(path) in down.value.message


def test_a_full_disk_is_an_error_and_not_a_broken_store(tmp_path: Path) -> None:
    with closing(open_store(f"sqlite:///{tmp_path}/store.db")) as store:
        store.insert("things", {"_id": 1})

        def fill() -> bool:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, 256 * 1024))
            return _keeps_what_it_acknowledged(store)

        finished = rivals.in_child(fill)
        assert finished()
        store.insert("things", {"_id": "after"})
        assert store.count("things", {}) >= 2


def _keeps_what_it_acknowledged(store: Store) -> bool:
    """Insert until the disk is full; whether what was acknowledged until then, and nothing else, is there."""
    acknowledged = 0
    try:
        while acknowledged < 1000:
            store.insert("things", {"_id": f"large {acknowledged}", "text": "x" * 10_000})
            acknowledged += 1
    except StoreUnavailable:
        return store.count("things", {"text": {"$exists": True}}) == acknowledged
    return False
