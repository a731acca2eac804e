"""The only way to a database: `open_store(url)` gives a `Store`, over SQLite or MongoDB."""

from __future__ import annotations

from pathlib import Path

from flow8_core.clock import Clock, SystemClock
from flow8_core.errors import ValidationFailed
from flow8_core.store.base import (
    Delete,
    Document,
    DuplicateKey,
    Filter,
    Index,
    Insert,
    Op,
    Sort,
    Store,
    Update,
)

__all__ = [
    "Delete",
    "Document",
    "DuplicateKey",
    "Filter",
    "Index",
    "Insert",
    "Op",
    "Sort",
    "Store",
    "Update",
    "open_store",
]


def open_store(url: str, *, clock: Clock = SystemClock()) -> Store:  # noqa: B008 - it has no state
    """The store that a URL names: `sqlite:///relative.db`, `sqlite:////absolute.db`, or `mongodb://host/database`.

    `clock` is SQLite's clock; MongoDB has its own. Connects on first use. Raises `ValidationFailed` for another URL.
    """
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        from flow8_core.store.sqlite import SqliteStore

        return SqliteStore(Path(url.removeprefix("sqlite:///")), clock=clock)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from flow8_core.store.mongo import MongoStore

        return MongoStore(url, clock=clock)
    raise ValidationFailed("A store is named by sqlite:///path or mongodb://host/database.", path="store")
