# ruff: noqa: A002
"""The probe believes honest stores and finds out the others."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from flow8_core.store import Document, Index, Store, open_store
from flow8_core.store.base import Sort
from flow8_core.store.probe import COLLECTION, probe


def test_both_stores_keep_their_promises(store: Store) -> None:
    findings = probe(store)

    assert [finding.kept for finding in findings] == [True, True, True]
    assert findings[0].seen == "200 of 200 increments kept"
    assert findings[1].seen == "50 jobs claimed 50 times"
    assert store.count(COLLECTION, {}) == 0


def test_a_store_that_reads_and_then_writes_is_found_out(sqlite_url: str) -> None:
    class Careless:
        """Keeps what it is given, but finds and updates in two steps, and knows no unique index."""

        def __init__(self, store: Store) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        def declare(self, collection: str, indexes: list[Index], *, durable: bool = False) -> None:
            self._store.declare(collection, [])

        def update(
            self, collection: str, filter: Mapping[str, Any], update: Mapping[str, Any], *, sort: Sort = ()
        ) -> Document | None:
            found = self._store.find(collection, filter, limit=1)
            if not found:
                return None
            time.sleep(0.001)
            changed = found[0]
            for name, value in update.get("$inc", {}).items():
                changed[name] += value
            return self._store.update(collection, {"_id": changed["_id"]}, {**changed, **update.get("$set", {})})

    honest = open_store(sqlite_url)

    findings = probe(Careless(honest))  # type: ignore[arg-type]

    honest.close()
    assert [finding.kept for finding in findings] == [False, False, False]
