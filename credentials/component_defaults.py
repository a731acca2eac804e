"""Which component of a kind is a company's default: the marked one with the highest `default_seq`.

A switch marks the new one, with a higher number, and then unmarks the others. The first of these writes decides, so at
no moment are there two defaults to be seen, nor none; a crash in between leaves a mark that means nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from bson import ObjectId

from flow8_core.store import Document, Store


class Defaults:
    """The defaults of one company."""

    SORT: ClassVar[Sequence[tuple[str, int]]] = (("is_default", -1), ("default_seq", -1), ("_id", -1))

    def __init__(self, store: Store, collection: str, company_id: ObjectId) -> None:
        self._store = store
        self._collection = collection
        self._company_id = company_id

    def marked(self, kind: str) -> list[Document]:
        """The components that carry the mark, the default first."""
        wanted = {"company_id": self._company_id, "kind": {"$eq": kind}, "is_default": True}
        return self._store.find(self._collection, wanted, sort=self.SORT)

    def current(self, kind: str) -> Document | None:
        """The default of the kind; None where there is none."""
        return next(iter(self.marked(kind)), None)

    @staticmethod
    def is_default(row: Document, rows: Sequence[Document]) -> bool:
        """Whether `row` is the default, among `rows` that hold at least all marked ones of its kind."""
        marked = [other for other in rows if other["kind"] == row["kind"] and other.get("is_default") is True]
        return bool(marked) and max(marked, key=_rank)["_id"] == row["_id"]

    def switch(self, row: Document) -> bool:
        """Make `row` the default. False where it is no longer there."""
        number = max((_rank(other)[0] for other in self.marked(row["kind"])), default=0) + 1
        mark = {"is_default": True, "default_seq": number, "updated_at": self._store.now()}
        mine = {"_id": row["_id"], "company_id": self._company_id}
        if self._store.update(self._collection, mine, {"$set": mark}) is None:
            return False
        # Of two switches at once both read the same number; both then see both marks here, and keep the same one.
        for other in self.marked(row["kind"])[1:]:
            as_seen = {"_id": other["_id"], "company_id": self._company_id, "default_seq": other.get("default_seq")}
            self._store.update(self._collection, as_seen, {"$set": {"is_default": False}})
        return True


def _rank(row: Document) -> tuple[int, ObjectId]:
    number = row.get("default_seq")
    return (number if isinstance(number, int) else 0, row["_id"])
