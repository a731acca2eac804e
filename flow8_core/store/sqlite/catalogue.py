"""The tables behind a SQLite store: one for each collection's documents, one b-tree for each declared index.

An index table holds (m, k0, k1, ..., row): sort keys of the indexed paths and the document's row. A document whose path
meets an array has an entry for each element and one for the whole array, all with m=1; an index has either met an array
or is asked by one statement alone. The catalogue itself lies in
`flow8_collections` and `flow8_indexes`; `PRAGMA user_version` counts its changes, so that every process notices them.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import Any

from flow8_core.errors import ValidationFailed
from flow8_core.store.base import Index
from flow8_core.store.dialect import keys
from flow8_core.store.dialect.documents import check_collection, decode
from flow8_core.store.dialect.paths import ARRAY, ARRAYS, MISSING, Parts, lookup, scalar, split

Entry = tuple[int | bytes, ...]
_FILL_AT_ONCE = 25_000  # documents in memory while a new index is filled

TABLES = """
CREATE TABLE IF NOT EXISTS flow8_collections (name TEXT PRIMARY KEY, durable INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS flow8_indexes (number INTEGER PRIMARY KEY, collection TEXT NOT NULL, keys TEXT NOT NULL,
    is_unique INTEGER NOT NULL, expire_after_s INTEGER, is_sparse INTEGER NOT NULL DEFAULT 0,
    UNIQUE (collection, keys));
"""


@dataclass(frozen=True, slots=True)
class IndexTable:
    """A declared index and its table."""

    number: int
    index: Index
    with_arrays: set[int] = field(compare=False)  # the numbers of the collection's indexes that have met one
    table: str = field(init=False)
    columns: tuple[str, ...] = field(init=False)
    parts: tuple[Parts, ...] = field(init=False)
    insert_sql: str = field(init=False)
    delete_sql: str = field(init=False)
    move_sql: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", f"i_{self.number}")
        object.__setattr__(self, "columns", tuple(f"k{position}" for position in range(len(self.index.keys))))
        entry = ("m", *self.columns)
        marks = ", ".join("?" * (len(entry) + 1))
        where = " AND ".join(f"{column} = ?" for column in (*entry, "row"))
        placed = ", ".join(f"{column} = ?" for column in entry)
        object.__setattr__(self, "parts", tuple(split(path) for path, _ in self.index.keys))
        object.__setattr__(self, "insert_sql", f"INSERT INTO {self.table} VALUES ({marks})")  # noqa: S608
        object.__setattr__(self, "delete_sql", f"DELETE FROM {self.table} WHERE {where}")  # noqa: S608
        object.__setattr__(self, "move_sql", f"UPDATE {self.table} SET {placed} WHERE {where}")  # noqa: S608

    def entries(self, document: Mapping[str, Any]) -> tuple[Entry, ...]:
        """The index entries that belong to a document. Raises `ValidationFailed` where two paths meet arrays."""
        entry: list[int | bytes] = [0]
        for parts in self.parts:
            value = scalar(document, parts)
            if value is ARRAY:
                return self._multikey(document)
            if value is MISSING and self.index.sparse:
                return ()
            entry.append(keys.encode(value))
        return (tuple(entry),)

    def entries_of_all(self, documents: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Entry, ...]]:
        """The entries of each document. Documents that are written together often share their values: what is the very
        same as in the one before is not encoded again."""
        last: list[Any] = []
        entries: tuple[Entry, ...] = ()
        for document in documents:
            values = [scalar(document, parts) for parts in self.parts]
            if not last or ARRAY in values or not all(map(is_, values, last)):
                last, entries = values, self.entries(document)
            yield entries

    @property
    def has_arrays(self) -> bool:
        """Whether it may have entries with m=1."""
        return self.number in self.with_arrays

    def meet_array(self, connection: sqlite3.Connection) -> None:
        """Let every process know, from the caller's transaction on, that it has entries with m=1."""
        if not self.has_arrays:
            self.with_arrays.add(self.number)
            connection.execute(f"PRAGMA user_version = {version_of(connection) + 1}")

    def _multikey(self, document: Mapping[str, Any]) -> tuple[Entry, ...]:
        arrays = {parts[0] for parts in self.parts if scalar(document, parts) is ARRAY}
        if len(arrays) > 1:
            raise ValidationFailed(f"An index cannot span two arrays: {', '.join(sorted(arrays))}.")
        columns = [sorted(set(_flat_keys(lookup(document, parts)))) for parts in self.parts]
        return tuple((1, *combination) for combination in itertools.product(*columns))


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection, its table of documents and its indexes."""

    name: str
    durable: bool
    indexes: tuple[IndexTable, ...]
    plans: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)  # plan.py's, by the query's shape
    table: str = field(init=False)
    get_sql: str = field(init=False)
    has_unique: bool = field(init=False)
    paths: frozenset[Parts] = field(init=False)  # of all indexes

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", f"d_{self.name}")
        object.__setattr__(self, "get_sql", f"SELECT row, body FROM {self.table} WHERE id = ?")  # noqa: S608
        object.__setattr__(self, "has_unique", any(index.index.unique for index in self.indexes))
        object.__setattr__(self, "paths", frozenset(parts for index in self.indexes for parts in index.parts))

    @property
    def has_arrays(self) -> bool:
        """Whether a find may take two statements."""
        return bool(self.indexes and self.indexes[0].with_arrays)  # all of a collection's share the set


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All collections as they are at `version`."""

    version: int
    collections: Mapping[str, Collection]


def prepare(connection: sqlite3.Connection) -> None:
    """Make the catalogue's own tables, or what newer versions have added to them."""
    connection.executescript(TABLES)
    columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(flow8_indexes)").fetchall()}
    if "is_sparse" not in columns:
        connection.execute("ALTER TABLE flow8_indexes ADD COLUMN is_sparse INTEGER NOT NULL DEFAULT 0")


def version_of(connection: sqlite3.Connection) -> int:
    """The number of the newest catalogue."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def read(connection: sqlite3.Connection) -> Catalogue:
    """The newest catalogue, as the caller's transaction sees it."""
    names = connection.execute("SELECT name FROM flow8_collections").fetchall()
    return Catalogue(version_of(connection), {name: _collection(connection, name) for (name,) in names})


def _collection(connection: sqlite3.Connection, name: str) -> Collection:
    """One of the catalogue's collections."""
    (durable,) = connection.execute("SELECT durable FROM flow8_collections WHERE name = ?", (name,)).fetchall()[0]
    rows = connection.execute(
        "SELECT number, keys, is_unique, expire_after_s, is_sparse FROM flow8_indexes WHERE collection = ?"
        " ORDER BY number",
        (name,),
    ).fetchall()
    with_arrays: set[int] = set()
    tables = []
    for number, paths, unique, expire, sparse in rows:
        fields = tuple((path, direction) for path, direction in json.loads(paths))
        table = IndexTable(number, Index(fields, bool(unique), expire, bool(sparse)), with_arrays)
        if connection.execute(f"SELECT 1 FROM {table.table} WHERE m = 1 LIMIT 1").fetchall():  # noqa: S608
            with_arrays.add(number)
        tables.append(table)
    return Collection(name, bool(durable), tuple(tables))


def create(
    connection: sqlite3.Connection, seen: Catalogue, name: str, indexes: Sequence[Index], *, durable: bool
) -> Catalogue:
    """Make the collection and indexes that are not there yet, within the caller's transaction, which has `seen` the
    newest catalogue; the new one."""
    check_collection(name)
    known = seen.collections.get(name)
    if known is None:
        connection.execute(
            f"CREATE TABLE d_{name} (row INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, body BLOB NOT NULL)"
        )
    connection.execute("INSERT OR REPLACE INTO flow8_collections VALUES (?, ?)", (name, durable))
    existing = {table.index.keys: table for table in (known.indexes if known else ())}
    made = []
    for index in indexes:
        table = existing.get(index.keys)
        if table is not None and table.index != index:
            connection.execute(f"DROP TABLE {table.table}")
            connection.execute("DELETE FROM flow8_indexes WHERE number = ?", (table.number,))
        if table is None or table.index != index:
            made.append(_create_index(connection, name, index))
    if known is not None:
        _fill(connection, known, made)
    version = version_of(connection) + 1
    connection.execute(f"PRAGMA user_version = {version}")
    return Catalogue(version, {**seen.collections, name: _collection(connection, name)})


def satisfied(known: Collection | None, indexes: Sequence[Index], *, durable: bool) -> bool:
    """Whether a declaration asks for nothing new."""
    return known is not None and known.durable == durable and set(indexes) <= {table.index for table in known.indexes}


def _create_index(connection: sqlite3.Connection, collection: str, index: Index) -> IndexTable:
    number = connection.execute(
        "INSERT INTO flow8_indexes (collection, keys, is_unique, expire_after_s, is_sparse) VALUES (?, ?, ?, ?, ?)"
        " RETURNING number",
        (collection, json.dumps(index.keys), index.unique, index.expire_after_s, index.sparse),
    ).fetchall()[0][0]
    table = IndexTable(number, index, set())
    columns = ", ".join(f"{column} BLOB NOT NULL" for column in table.columns)
    order = ", ".join(
        f"{column} {'ASC' if direction > 0 else 'DESC'}"
        for column, (_, direction) in zip(table.columns, index.keys, strict=True)
    )
    connection.execute(
        f"CREATE TABLE {table.table} (m INTEGER NOT NULL, {columns}, row INTEGER NOT NULL,"
        f" PRIMARY KEY (m, {order}, row)) WITHOUT ROWID"
    )
    if index.unique:
        connection.execute(f"CREATE UNIQUE INDEX u_{number} ON {table.table} ({', '.join(table.columns)})")
    return table


def _fill(connection: sqlite3.Connection, collection: Collection, tables: Sequence[IndexTable]) -> None:
    """Enter the documents that are there, each decoded once, and in the order of each index."""
    if not tables:
        return
    documents = connection.execute(f"SELECT row, body FROM {collection.table}")  # noqa: S608
    while part := [(row, decode(body)) for row, body in itertools.islice(documents, _FILL_AT_ONCE)]:
        for table in tables:
            entries = sorted((*entry, row) for row, document in part for entry in table.entries(document))
            connection.executemany(table.insert_sql, entries)


def _flat_keys(values: list[Any]) -> Iterator[bytes]:
    for value in values:
        if isinstance(value, ARRAYS):
            yield from map(keys.encode, value)
        yield keys.encode(value)
