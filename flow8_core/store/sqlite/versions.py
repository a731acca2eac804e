"""The documents that this process wrote or found last, so that its next compare-and-set need not read them again.

What is remembered is only believed where the stored bytes are still the very same, so that it may be out of date.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from flow8_core.store.base import Document
from flow8_core.store.dialect import keys
from flow8_core.store.dialect.matching import Matcher
from flow8_core.store.dialect.paths import MISSING, Parts
from flow8_core.store.dialect.updating import SIMPLE
from flow8_core.store.sqlite.catalogue import Collection

MOST = 256  # documents
FOUND_AT_MOST = 64  # by one find: who reads more will hardly write it all
LARGEST_BYTES = 16 * 1024

Key = tuple[str, bytes]  # collection, encoded _id


class Version(NamedTuple):
    """A document as it was: its row, its BSON, and its fields, of which only the simple values are to be believed:
    what stands deeper may have been changed by whoever holds the document."""

    row: int
    body: bytes
    fields: Mapping[str, Any]

    def tells(self, collection: Collection, matcher: Matcher) -> bool:
        """Whether the simple values are enough to say that it matches, and where it stands in every index."""
        if matcher.alternatives:
            return False
        for condition in matcher.conditions:
            if condition.operator != "$eq" or not self._is_simple(condition.parts) or not condition.holds(self.fields):
                return False
        return all(map(self._is_simple, collection.paths))

    def _is_simple(self, parts: Parts) -> bool:
        return len(parts) == 1 and type(self.fields.get(parts[0], MISSING)) in SIMPLE


class Versions:
    """The last few versions, some MB at most. Threads share one."""

    def __init__(self) -> None:
        self._versions: dict[Key, Version] = {}
        self._lock = threading.Lock()

    def get(self, key: Key) -> Version | None:
        """What is remembered of a document."""
        return self._versions.get(key)

    def put(self, key: Key, row: int, body: bytes, document: Mapping[str, Any]) -> None:
        """Remember a version, and forget the oldest one where there are many."""
        with self._lock:
            self._put(key, row, body, document)

    def found(self, collection: Collection, found: Iterable[tuple[int, bytes, Document]]) -> None:
        """Remember what a find gave."""
        with self._lock:
            for row, body, document in found:
                self._put((collection.name, keys.encode(document["_id"])), row, body, document)

    def _put(self, key: Key, row: int, body: bytes, document: Mapping[str, Any]) -> None:
        self._versions.pop(key, None)
        if len(body) > LARGEST_BYTES:
            return
        self._versions[key] = Version(row, body, dict(document))
        if len(self._versions) > MOST:
            del self._versions[next(iter(self._versions))]
