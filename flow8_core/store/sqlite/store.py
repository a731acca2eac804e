# ruff: noqa: A002 - `filter` and `id` are the words of the dialect
"""The embedded store: documents as BSON in SQLite, for one host.

Every write is one `BEGIN IMMEDIATE` transaction behind the gate, so that reading, matching and writing are one step
for all processes. Commits survive the death of a process; those of a collection declared durable survive a power cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from flow8_core.clock import Clock
from flow8_core.store.base import Document, DuplicateKey, Filter, Index, Insert, Op, Sort, Update
from flow8_core.store.dialect import keys
from flow8_core.store.dialect.documents import check_collection, checked_body, decode
from flow8_core.store.dialect.matching import Matcher, check_limit, compile_filter, compile_sort
from flow8_core.store.dialect.paths import project, split
from flow8_core.store.dialect.updating import Change, compile_update
from flow8_core.store.sqlite import catalogue, rows
from flow8_core.store.sqlite.catalogue import Catalogue, Collection
from flow8_core.store.sqlite.database import Database
from flow8_core.store.sqlite.versions import FOUND_AT_MOST, Versions

PURGE_EVERY_S = 60.0
PURGE_AT_MOST = 500  # documents of an index in one go, since a write of somebody's carries it


@dataclass(frozen=True, slots=True)
class _Write:
    """An operation of a batch, checked and encoded as far as possible before anybody waits for us.

    `document` and `body` are there where it is an insert.
    """

    collection: str
    run: Callable[[sqlite3.Connection, Collection], bool]
    document: Document | None = None
    body: bytes = b""

    @property
    def inserts_into(self) -> str:
        """The collection; empty where it is no insert."""
        return "" if self.document is None else self.collection


class SqliteStore:
    """`Store` over one SQLite file. `clock` gives `now()`."""

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._database = Database(path)
        self._clock = clock
        self._catalogue = Catalogue(-1, {})
        self._versions = Versions()
        self._purge_at = clock.monotonic() + PURGE_EVERY_S

    def declare(self, collection: str, indexes: Sequence[Index], *, durable: bool = False) -> None:
        check_collection(collection)
        with self._writing() as transaction:
            if catalogue.satisfied(transaction.catalogue.collections.get(collection), indexes, durable=durable):
                return
            transaction.create(collection, indexes, durable=durable)

    def now(self) -> datetime:
        return self._clock.now()

    def insert(self, collection: str, document: Mapping[str, Any]) -> None:
        body = checked_body(document)
        with self._writing(collection) as transaction:
            rows.insert(transaction.connection, transaction.collection(collection), document, body)

    def get(self, collection: str, id: Any) -> Document | None:
        key, known = keys.encode(id), self._catalogue.collections.get(collection)
        if known is None:
            with self._reading(collection) as (_, known):
                if known is None:
                    return None
        return self._only(known, key)

    def find(
        self, collection: str, filter: Filter, *, sort: Sort = (), limit: int = 0, fields: Sequence[str] = ()
    ) -> list[Document]:
        matcher = compile_filter(filter)
        if sort:
            compile_sort(sort)
        check_limit(limit)
        known = self._catalogue.collections.get(collection)
        paths = [split(path) for path in fields]
        if matcher.one is not None and known is not None:
            only = self._only(known, matcher.one)
            found = [only] if only is not None and matcher.matches(only) else []
        else:
            remembered = not paths and 0 < limit <= FOUND_AT_MOST
            found = [row[-1] for row in self._select(collection, matcher, sort, limit, remembered=remembered)]
        return [project(document, paths) for document in found] if paths else found

    def update(
        self, collection: str, filter: Filter, update: Mapping[str, Any], *, sort: Sort = (), upsert: bool = False
    ) -> Document | None:
        matcher, change = compile_filter(filter), compile_update(update)
        body = _replacement_body(change)
        compile_sort(sort)
        with self._writing(collection) as transaction:
            known = transaction.collection(collection)
            body = rows.update(
                transaction.connection,
                known,
                matcher,
                change,
                body=body,
                sort=sort,
                upsert=upsert,
                versions=self._versions,
            )
        return None if body is None else decode(body)

    def delete(self, collection: str, filter: Filter, *, sort: Sort = ()) -> Document | None:
        matcher = compile_filter(filter)
        compile_sort(sort)
        with self._writing(collection) as transaction:
            return rows.delete(transaction.connection, transaction.collection(collection), matcher, sort=sort)

    def count(self, collection: str, filter: Filter) -> int:
        matcher = compile_filter(filter)
        with self._reading(collection) as (connection, known):
            return rows.count(connection, known, matcher) if known else 0

    def batch(self, ops: Sequence[Op]) -> list[bool]:
        prepared = map(self._prepared, ops)
        runs = [(name, list(of_one)) for name, of_one in groupby(prepared, lambda write: write.inserts_into)]
        with self._writing(*{op.collection for op in ops}) as transaction:
            applied: list[bool] = []
            for name, writes in runs:
                if name and len(writes) > 1 and transaction.inserts(name, writes):
                    applied += [True] * len(writes)
                else:
                    applied += [transaction.applies(write.collection, write) for write in writes]
            return applied

    def purge(self) -> int:
        """Remove documents whose TTL index says so; how many. Writes do it now and then by themselves."""
        with self._writing() as transaction:
            return self._purge(transaction)

    def close(self) -> None:
        self._database.close()

    def _only(self, known: Collection, key: bytes) -> Document | None:
        """The document of this `_id`: what nearly every step reads. No index takes part, so any catalogue will do."""
        with self._database.reading(snapshot=False) as connection:
            body = rows.body(connection, known, key)
        return None if body is None else decode(body)

    def _select(
        self, name: str, matcher: Matcher, sort: Sort, limit: int, *, remembered: bool = False
    ) -> list[rows.Row]:
        """The documents of one snapshot, which one statement is by itself: then nothing has to be begun and ended."""
        seen = self._catalogue
        known = seen.collections.get(name)
        if known is not None and not known.has_arrays:
            with self._database.reading(snapshot=False) as connection:
                try:
                    found = rows.select(connection, known, matcher, sort, limit)
                    if seen.version == catalogue.version_of(connection):
                        if remembered:
                            self._versions.found(known, found)
                        return found
                except sqlite3.OperationalError:
                    pass  # an index was dropped meanwhile; or it happens again below
        with self._reading(name) as (connection, known):
            return rows.select(connection, known, matcher, sort, limit) if known else []

    @contextmanager
    def _reading(self, name: str) -> Iterator[tuple[sqlite3.Connection, Collection | None]]:
        """One snapshot, and the collection in it: another process may have replaced an index."""
        check_collection(name)
        with self._database.reading() as connection:
            seen = self._catalogue
            if name not in seen.collections or seen.version != catalogue.version_of(connection):
                self._catalogue = seen = catalogue.read(connection)
            yield connection, seen.collections.get(name)

    @contextmanager
    def _writing(self, *names: str) -> Iterator[_Transaction]:
        """A transaction with the newest catalogue: another process may have added an index that is to be kept."""
        known = (self._catalogue.collections.get(name) for name in names)
        with self._database.writing(durable=any(each is not None and each.durable for each in known)) as connection:
            seen = self._catalogue
            if seen.version != catalogue.version_of(connection):
                seen = catalogue.read(connection)
            transaction = _Transaction(connection, seen)
            yield transaction
            if self._clock.monotonic() >= self._purge_at:
                self._purge(transaction)
        self._catalogue = transaction.catalogue

    def _prepared(self, op: Op) -> _Write:
        name = op.collection
        if isinstance(op, Insert):
            document, body = dict(op.document), checked_body(op.document)

            def insert(connection: sqlite3.Connection, collection: Collection) -> bool:
                rows.insert(connection, collection, document, body)
                return True

            return _Write(name, insert, document, body)
        matcher = compile_filter(op.filter)
        if isinstance(op, Update):
            change = compile_update(op.update)
            whole = _replacement_body(change)

            def update(connection: sqlite3.Connection, collection: Collection) -> bool:
                versions = self._versions
                return rows.update(connection, collection, matcher, change, body=whole, versions=versions) is not None

            return _Write(name, update)
        return _Write(name, lambda connection, known: rows.delete(connection, known, matcher) is not None)

    def _purge(self, transaction: _Transaction) -> int:
        self._purge_at = self._clock.monotonic() + PURGE_EVERY_S
        connection, removed = transaction.connection, 0
        for collection in transaction.catalogue.collections.values():
            for table in collection.indexes:
                if table.index.expire_after_s is None:
                    continue
                before = self.now() - timedelta(seconds=table.index.expire_after_s)
                expired = compile_filter({table.index.keys[0][0]: {"$lt": before}})
                for found in rows.select(connection, collection, expired, limit=PURGE_AT_MOST):
                    rows.remove(connection, collection, found)
                    removed += 1
        return removed


class _Transaction:
    """A write transaction, and the catalogue as it stands within."""

    def __init__(self, connection: sqlite3.Connection, seen: Catalogue) -> None:
        self.connection = connection
        self.catalogue = seen

    def create(self, name: str, indexes: Sequence[Index], *, durable: bool) -> None:
        """Make a collection or indexes of it. Raises `DuplicateKey`."""
        try:
            self.catalogue = catalogue.create(self.connection, self.catalogue, name, indexes, durable=durable)
        except sqlite3.IntegrityError:
            raise DuplicateKey(f"A unique index declared for {name} contradicts its documents.") from None

    def collection(self, name: str) -> Collection:
        """The collection, made now where nobody declared it, as MongoDB does."""
        if name not in self.catalogue.collections:
            self.create(name, (), durable=False)
        return self.catalogue.collections[name]

    def inserts(self, name: str, writes: Sequence[_Write]) -> bool:
        """Whether several inserts were applied at once. False: nothing was, for one of them is a duplicate."""
        collection = self.collection(name)
        self.connection.execute("SAVEPOINT inserts")
        try:
            rows.insert_all(
                self.connection, collection, [(write.document, write.body) for write in writes if write.document]
            )
        except DuplicateKey:
            self.connection.execute("ROLLBACK TO inserts")
            return False
        finally:
            self.connection.execute("RELEASE inserts")
        return True

    def applies(self, name: str, write: _Write) -> bool:
        """Whether a write of a batch was applied. What a unique index refuses is undone alone."""
        collection = self.collection(name)
        careful = collection.has_unique  # without one, a refusal comes before anything was written
        if careful:
            self.connection.execute("SAVEPOINT op")
        try:
            applied = write.run(self.connection, collection)
        except DuplicateKey:
            applied = False
            if careful:
                self.connection.execute("ROLLBACK TO op")
        if careful:
            self.connection.execute("RELEASE op")
        return applied


def _replacement_body(change: Change) -> bytes | None:
    """The BSON that a change leads to, where that does not depend on the document."""
    document = change.replacement
    return checked_body(document) if document is not None and "_id" in document else None
