"""The embedded store, for one host: documents as BSON in one SQLite file."""

from __future__ import annotations

from flow8_core.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
