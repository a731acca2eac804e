# ruff: noqa: A002 - `filter` and `id` are the words of the dialect
"""What a store can do: a closed subset of MongoDB's dialect that MongoDB and SQLite give alike.

**Documents** are dicts with an `_id`. Values: None, bool, int (64 bits), float, str, bytes, ObjectId, datetime (kept to
the millisecond, given back UTC and aware), and lists and dicts of these.

**Filters:** equality (an array field matches when it equals the value or contains it; None matches null and missing),
`$eq $ne $gt $gte $lt $lte $in $nin $exists $and $or`, dotted paths. Values compare within their own type only, as in
MongoDB. **Updates:** `$set $unset $inc $max $min $push $pull $addToSet $setOnInsert`, or a whole document without any
operator, which replaces. Anything else raises `ValidationFailed` before the database is asked.

Only one document at a time is atomic. Each method may raise `StoreUnavailable`, within two seconds; its `ambiguous`
says that a write may have taken place (without it, it has not). The field `_writes` belongs to the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from flow8_core.errors import Conflict, ValidationFailed

Document = dict[str, Any]
Filter = Mapping[str, Any]
Sort = Sequence[tuple[str, int]]


class DuplicateKey(Conflict):
    """A document with this `_id`, or with these values of a unique index, is already there."""


@dataclass(frozen=True)
class Index:
    """An index that a query relies on: `keys` are (dotted path, 1 or -1), the most significant first.

    `unique` holds for missing fields too: they count as null, so that two documents without the field collide.
    `expire_after_s`: documents may be removed that many seconds after the date in the (single) field; this is
    housekeeping and happens late or never, so a reader must look at the date itself.
    `sparse`: documents without the (single) field cost nothing; only filters that no such document passes are served.
    """

    keys: tuple[tuple[str, int], ...]
    unique: bool = False
    expire_after_s: int | None = None
    sparse: bool = False

    def __post_init__(self) -> None:
        paths = {path for path, _ in self.keys}
        if not paths or len(paths) < len(self.keys) or any(direction not in (1, -1) for _, direction in self.keys):
            raise ValidationFailed("An index needs different paths, each with a direction 1 or -1.")
        if self.expire_after_s is not None and len(paths) > 1:
            raise ValidationFailed("An index that expires documents has one path.")
        if self.sparse and (len(paths) > 1 or self.unique):
            raise ValidationFailed("A sparse index has one path, and is not unique.")

    @property
    def name(self) -> str:
        """The name that MongoDB would give it, such as `company_id_1_name_1`."""
        return "_".join(f"{path}_{direction}" for path, direction in self.keys)


@dataclass(frozen=True)
class Insert:
    """One insert of a batch. The document carries its `_id`."""

    collection: str
    document: Mapping[str, Any]


@dataclass(frozen=True)
class Update:
    """One update of a batch: the first document that matches `filter` gets the operators or the replacement.

    On MongoDB False may, after a lost answer, also mean that it was applied and that somebody has replaced the document
    since: re-read before doing it again, as after any missed compare-and-set.
    """

    collection: str
    filter: Filter
    update: Mapping[str, Any]


@dataclass(frozen=True)
class Delete:
    """One delete of a batch: the first document that matches `filter`."""

    collection: str
    filter: Filter


Op = Insert | Update | Delete


class Store(Protocol):
    """The only way to a database. Threads may share one; a forked child may go on with it (it connects anew)."""

    def declare(self, collection: str, indexes: Sequence[Index], *, durable: bool = False) -> None:
        """Make the collection and its indexes, filling them from what is there. Harmless to repeat.

        `durable`: an acknowledged write survives a power cut, too (SQLite; MongoDB always waits for its journal).
        Raises `DuplicateKey` where a unique index contradicts the documents.
        """

    def now(self) -> datetime:
        """The store's own clock, UTC, to the millisecond: leases are judged by it and not by the workers' clocks."""

    def insert(self, collection: str, document: Mapping[str, Any]) -> None:
        """Add a document that carries its `_id`. Raises `DuplicateKey`."""

    def get(self, collection: str, id: Any) -> Document | None:
        """The document with this `_id`."""

    def find(
        self,
        collection: str,
        filter: Filter,
        *,
        sort: Sort = (),
        limit: int = 0,
        fields: Sequence[str] = (),
    ) -> list[Document]:
        """All documents that match, `limit` at most (0: all); with `fields`, only these paths and the `_id`."""

    def update(
        self,
        collection: str,
        filter: Filter,
        update: Mapping[str, Any],
        *,
        sort: Sort = (),
        upsert: bool = False,
    ) -> Document | None:
        """Atomically change the first match, and return the new document; None where nothing matches.

        With `upsert`, nothing matching makes a new document from the filter's equalities and the update.
        Raises `DuplicateKey` where a unique index forbids the outcome.
        """

    def delete(self, collection: str, filter: Filter, *, sort: Sort = ()) -> Document | None:
        """Atomically remove the first match and return it: of several callers exactly one gets the document."""

    def count(self, collection: str, filter: Filter) -> int:
        """How many documents match."""

    def batch(self, ops: Sequence[Op]) -> list[bool]:
        """Do all in order; True for each that was applied.

        An update or delete without a match gives False, and so does what a unique index refuses (an insert whose `_id`
        exists); the rest goes on. One transaction on SQLite; on MongoDB a crash leaves a prefix.
        """

    def close(self) -> None:
        """Give the connections back. The store connects anew when it is used again."""
