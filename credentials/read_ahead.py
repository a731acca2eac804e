"""Credentials that several steps need at the same moment, read once for all of them.

A worker prepares many steps for one write, often with the same component or link, and each of them reads its own just
before its call. Within `of` those reads come by one for each company and kind. Nothing outlives the block: what a step
is prepared with is as fresh as if it had been read for it alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from bson import ObjectId

from credentials import components, grants
from flow8_core.store import Document, Store

COLLECTIONS = {"component": components.COLLECTION, "link": grants.COLLECTION}

# a company, and a credential as throttles and lanes know it: "link:<id>", "component:<id>"
Wanted = tuple[ObjectId, str]
_Place = tuple[str, ObjectId, str]  # collection, company, id as text


class ReadAhead:
    """Threads may share one: whoever finds nothing here reads for itself."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[_Place, Document] = {}

    @contextmanager
    def of(self, wanted: Iterable[Wanted]) -> Iterator[None]:
        """Around preparing the steps that want these, each as often as steps want it. Raises `StoreUnavailable`."""
        rows = self._read(wanted)
        self._rows.update(rows)
        try:
            yield
        finally:
            for place in rows:
                self._rows.pop(place, None)

    def find(self, collection: str, company_id: ObjectId, document_id: object) -> Document | None:
        """The document, where it has been read ahead; None says nothing of whether it exists. Not to be changed:
        several steps get the same."""
        if not self._rows or not isinstance(document_id, str):
            return None
        return self._rows.get((collection, company_id, document_id))

    def _read(self, wanted: Iterable[Wanted]) -> dict[_Place, Document]:
        times = Counter(wanted)
        if times.total() < 2:  # a step that is alone reads for itself
            return {}
        groups: dict[tuple[str, ObjectId], list[str]] = {}
        for (company_id, credential), count in times.items():
            kind, _, document_id = credential.partition(":")
            if kind in COLLECTIONS and ObjectId.is_valid(document_id):
                groups.setdefault((COLLECTIONS[kind], company_id), []).extend([document_id] * count)
        return {
            (collection, company_id, str(row["_id"])): row
            for (collection, company_id), ids in groups.items()
            if len(ids) > 1
            for row in self._find(collection, company_id, set(ids))
        }

    def _find(self, collection: str, company_id: ObjectId, ids: set[str]) -> list[Document]:
        if len(ids) == 1:
            wanted = {"_id": ObjectId(ids.pop()), "company_id": company_id}
            return self._store.find(collection, wanted, limit=1)
        among = {"_id": {"$in": [ObjectId(each) for each in sorted(ids)]}, "company_id": company_id}
        return self._store.find(collection, among)
