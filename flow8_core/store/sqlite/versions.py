"""The documents that this process wrote last, so that its next compare-and-set need not read and decode them again.

What is remembered is only believed where the stored bytes are still the very same, so that it may be out of date.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flow8_core.store.base import Document
from flow8_core.store.dialect.matching import Matcher
from flow8_core.store.dialect.updating import SIMPLE
from flow8_core.store.sqlite.catalogue import Collection

MOST = 256  # documents
LARGEST_BYTES = 16 * 1024

Key = tuple[str, bytes]  # collection, encoded _id


@dataclass(frozen=True, slots=True)
class Version:
    """A document as it was written: its row, its BSON, its simple top-level values, and the names of all others."""

    row: int
    body: bytes
    simple: Mapping[str, Any]
    others: frozenset[str]

    def tells(self, collection: Collection, matcher: Matcher) -> bool:
        """Whether the simple values are enough to say that it matches, and where it stands in every index."""
        if matcher.alternatives or not all(
            each.operator == "$eq" and self._is_simple(each.parts) for each in matcher.conditions
        ):
            return False
        indexed = all(self._is_simple(parts) for index in collection.indexes for parts in index.parts)
        return indexed and matcher.matches(self.simple)

    def _is_simple(self, parts: tuple[str, ...]) -> bool:
        return len(parts) == 1 and parts[0] not in self.others


class Versions:
    """The last few versions. Written to within write transactions, of which there is one at a time."""

    def __init__(self) -> None:
        self._versions: dict[Key, Version] = {}

    def get(self, key: Key) -> Version | None:
        """What this process wrote there last, if it is remembered."""
        return self._versions.get(key)

    def put(self, key: Key, row: int, body: bytes, document: Document) -> None:
        """Remember a version, and forget the oldest one where there are many."""
        self._versions.pop(key, None)
        if len(body) > LARGEST_BYTES:
            return
        simple = {name: value for name, value in document.items() if type(value) in SIMPLE}
        others = frozenset(document.keys() - simple.keys())
        self._versions[key] = Version(row, body, simple, others)
        if len(self._versions) > MOST:
            del self._versions[next(iter(self._versions))]
