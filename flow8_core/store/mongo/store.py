# ruff: noqa: A002 - `filter` and `id` are the words of the dialect
"""The store of a deployment: MongoDB through pymongo, for a single server and for replica sets.

Every write leaves a stamp of its own in the document (`_writes`, the last few; never shown to callers), and carries a
guard that it has not been there yet. So a write whose answer was lost can be settled by re-reading, and issued again
without being applied twice. Replica sets do the like for a lost connection by themselves (retryable writes); single
servers do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bson.objectid import ObjectId
from pymongo import ReturnDocument
from pymongo import errors as mongo_errors

from flow8_core.clock import Clock
from flow8_core.store.base import Document, DuplicateKey, Filter, Index, Op, Sort
from flow8_core.store.dialect.documents import check_collection
from flow8_core.store.dialect.matching import check_limit, compile_filter, compile_sort
from flow8_core.store.dialect.paths import narrowest, split
from flow8_core.store.dialect.updating import compile_update
from flow8_core.store.mongo import batch
from flow8_core.store.mongo.client import DECLARE_WITHIN_S, Mongo, MongoConnection
from flow8_core.store.mongo.first import first
from flow8_core.store.mongo.settling import settle
from flow8_core.store.mongo.stamps import STAMPS, Seen, guarded, id_of, stamped_document, stamped_update

_OPTIONS_CONFLICT = frozenset((85, 86))  # IndexOptionsConflict, IndexKeySpecsConflict
_PART = 1000  # documents of a long answer, each part with a time limit of its own


class MongoStore:
    """`Store` over the database that the URL names (`flow8` where it names none)."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        self._connection = MongoConnection(url, clock=clock)
        self._clock = clock
        self._seen = Seen()

    def declare(self, collection: str, indexes: Sequence[Index], *, durable: bool = False) -> None:  # noqa: ARG002
        mongo = self._connection.collection(check_collection(collection))
        with self._connection.reading():
            mongo.database.command("ping")  # whether the server is there is known sooner than an index is filled
        with self._connection.reading(DECLARE_WITHIN_S):
            for index in indexes:
                _create_index(mongo, index)

    def now(self) -> datetime:
        return self._connection.now()

    def insert(self, collection: str, document: Mapping[str, Any]) -> None:
        mongo, stamp = self._connection.collection(check_collection(collection)), ObjectId()
        raw = stamped_document(document, stamp)

        def settled() -> bool | None:
            found = mongo.find_one({"_id": document["_id"]}, {STAMPS: 1})
            if found is not None and stamp not in found.get(STAMPS, ()):
                raise DuplicateKey("There already is a document with this _id.")
            return found is not None or None

        settle(self._connection, lambda: mongo.insert_one(raw).acknowledged, settled)

    def get(self, collection: str, id: Any) -> Document | None:
        compile_filter({"_id": {"$eq": id}})
        mongo = self._connection.collection(check_collection(collection))
        with self._connection.reading():
            found = first(mongo, {"_id": {"$eq": id}})
        return None if found is None else self._seen.shown(collection, found)

    def find(
        self, collection: str, filter: Filter, *, sort: Sort = (), limit: int = 0, fields: Sequence[str] = ()
    ) -> list[Document]:
        compile_filter(filter)
        compile_sort(sort)
        check_limit(limit)
        mongo = self._connection.collection(check_collection(collection))
        projection = dict.fromkeys(narrowest(map(split, fields)), 1) if fields else None
        found: list[Document] = []
        if limit == 1:
            with self._connection.reading():
                only = first(mongo, filter, sort=sort, projection=projection)
            found = [] if only is None else [only]
            return found if fields else [self._seen.shown(collection, each) for each in found]
        with mongo.find(filter, projection, sort=list(sort) or None, limit=limit) as cursor:
            while True:
                with self._connection.reading():
                    part = cursor.to_list(_PART)
                found += part if fields else [self._seen.shown(collection, each) for each in part]
                if len(part) < _PART:
                    return found

    def update(
        self, collection: str, filter: Filter, update: Mapping[str, Any], *, sort: Sort = (), upsert: bool = False
    ) -> Document | None:
        matcher, change = compile_filter(filter), compile_update(update)
        compile_sort(sort)
        mongo, stamp = self._connection.collection(check_collection(collection)), ObjectId()
        change_one = mongo.find_one_and_update if change.replacement is None else mongo.find_one_and_replace
        known_id = id_of(matcher)
        before = () if known_id is None else self._seen.before(collection, known_id)
        condition, stamped = guarded(filter, stamp), stamped_update(change, stamp, before=before)

        def issue() -> Document | None:
            changed = change_one(
                condition, stamped, sort=list(sort) or None, upsert=upsert, return_document=ReturnDocument.AFTER
            )
            return None if changed is None else self._seen.shown(collection, changed)

        def settled() -> Document | None:
            """The document that bears the stamp; without an `_id` in the filter this reads the collection, once."""
            found = mongo.find_one({STAMPS: stamp} if known_id is None else {"_id": known_id, STAMPS: stamp})
            if found is not None and found.pop(STAMPS)[-1] != stamp:
                raise self._connection.doubtful()  # it took place, but what it made has been changed since
            return found

        return settle(self._connection, issue, settled, repeat_duplicate=upsert)

    def delete(self, collection: str, filter: Filter, *, sort: Sort = ()) -> Document | None:
        known_id = id_of(compile_filter(filter))
        compile_sort(sort)
        mongo = self._connection.collection(check_collection(collection))

        def issue() -> Document | None:
            return mongo.find_one_and_delete(filter, projection={STAMPS: 0}, sort=list(sort) or None)

        def settled() -> None:
            """Raises where the document is gone, or was any of several: nobody can tell who consumed it."""
            if known_id is None or mongo.find_one(filter, {"_id": 1}) is None:
                raise self._connection.doubtful()

        return settle(self._connection, issue, settled)

    def count(self, collection: str, filter: Filter) -> int:
        compile_filter(filter)
        mongo = self._connection.collection(check_collection(collection))
        with self._connection.reading():
            return mongo.count_documents(filter)

    def batch(self, ops: Sequence[Op]) -> list[bool]:
        for op in ops:
            check_collection(op.collection)
        return batch.run(self._connection, ops, seen=self._seen, one_by_one=self)

    def close(self) -> None:
        self._connection.close()


def _create_index(mongo: Mongo, index: Index) -> None:
    options: dict[str, Any] = {"name": index.name, "unique": index.unique, "sparse": index.sparse}
    if index.expire_after_s is not None:
        options["expireAfterSeconds"] = index.expire_after_s
    try:
        mongo.create_index(list(index.keys), **options)
    except mongo_errors.OperationFailure as error:
        if error.code not in _OPTIONS_CONFLICT:
            raise
        mongo.drop_index(index.name)
        mongo.create_index(list(index.keys), **options)
