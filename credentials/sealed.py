"""Everything that is sealed, declared in one place: what a rotation re-seals, and what has to be gone before a key is.

A vault seals for the collections that are listed here and for no others, so that a new sealed field cannot be
forgotten: its first test fails. Within a listed collection nothing needs to be said, for a field's place is where it
lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bson import ObjectId

if TYPE_CHECKING:
    from flow8_core.store import Document, Store

_BATCH = 200
_DEPTH = 16
_FIRST = ObjectId(b"\0" * 12)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A collection whose documents hold envelopes. `ends_at` names the date from which on a document counts no more."""

    collection: str
    ends_at: str | None = None


SEALED = (
    Sealed("db_links"),
    Sealed("component_configs"),
    Sealed("oauth_states", ends_at="expires_at"),
    Sealed("outbox"),
)
COLLECTIONS = frozenset(each.collection for each in SEALED)


def envelopes(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every envelope of a document with its dotted path; the number is the step where a path leads through a list."""
    yield from _within(document, "", _DEPTH)


def _within(value: Any, path: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if depth == 0:
        return
    if isinstance(value, Mapping):
        if path and value.get("encrypted") is True:
            yield path, value
            return
        for name, inner in value.items():
            yield from _within(inner, f"{path}.{name}" if path else str(name), depth - 1)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _within(inner, f"{path}.{number}", depth - 1)


def documents(store: Store, sealed: Sealed) -> Iterator[Document]:
    """All documents of a collection that count, in the order of their ids, read in batches."""
    after: dict[str, Any] = {"$gte": _FIRST}
    while True:
        rows = store.find(sealed.collection, {"_id": after}, sort=[("_id", 1)], limit=_BATCH)
        now = store.now() if sealed.ends_at else None
        for row in rows:
            if not (sealed.ends_at and row.get(sealed.ends_at) is not None and row[sealed.ends_at] <= now):
                yield row
        if len(rows) < _BATCH:
            return
        after = {"$gt": rows[-1]["_id"]}
