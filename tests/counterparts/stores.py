"""The two stores, for tests that must hold on both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flow8_core.store import Store, open_store


@pytest.fixture(params=["sqlite", "mongo"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, SQLite and MongoDB in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    uri: str = request.getfixturevalue("mongo_uri")
    return uri


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty store, closed after the test."""
    with closing(open_store(store_url)) as opened:
        yield opened


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an empty SQLite store."""
    return f"sqlite:///{tmp_path}/store.db"
