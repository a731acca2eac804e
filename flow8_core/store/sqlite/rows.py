"""Documents in one collection's tables: finding, counting, writing them together with their index entries.

Everything happens within the caller's transaction. A `DuplicateKey` may leave part of a write behind: roll back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from flow8_core.store.base import Document, DuplicateKey, Sort
from flow8_core.store.dialect import keys
from flow8_core.store.dialect.documents import checked_body, decode
from flow8_core.store.dialect.matching import Matcher, in_order
from flow8_core.store.dialect.updating import Change, upserted
from flow8_core.store.sqlite.catalogue import Collection, Entry, IndexTable
from flow8_core.store.sqlite.plan import Statement, choose
from flow8_core.store.sqlite.versions import Version, Versions

Row = tuple[int, bytes, Document]
Moving = tuple[IndexTable, Sequence[Entry]]


def body(connection: sqlite3.Connection, collection: Collection, key: bytes) -> bytes | None:
    """The BSON of the document with this encoded `_id`."""
    found = connection.execute(collection.get_sql, (key,)).fetchall()
    return found[0][1] if found else None


def select(
    connection: sqlite3.Connection, collection: Collection, matcher: Matcher, sort: Sort = (), limit: int = 0
) -> list[Row]:
    """The first `limit` matches (0: all) in order, each with its row number and its BSON."""
    if matcher.one is not None:  # no plan for what every compare-and-set does
        rows = connection.execute(collection.get_sql, (matcher.one,)).fetchall()
        found = [(row, body, decode(body)) for row, body in rows]
        return [item for item in found if matcher.matches(item[2])]
    plan = choose(collection, matcher, sort)
    found = []
    if plan.multikey is not None:
        bodies = dict(_bodies(connection, plan.multikey))
        found = [(row, body, decode(body)) for row, body in bodies.items()]
        found = [item for item in found if matcher.matches(item[2])]
    ordered = plan.ordered and not (found and sort)
    for row, body in _bodies(connection, plan.main):
        document = decode(body)
        if plan.exact or plan.rest.matches(document):
            found.append((row, body, document))
            if ordered and 0 < limit <= len(found):
                break
    if not ordered:
        found = in_order(found, sort, document=itemgetter(2))
    return found[:limit] if limit else found


def count(connection: sqlite3.Connection, collection: Collection, matcher: Matcher) -> int:
    """How many documents match; from the index alone where that tells."""
    plan = choose(collection, matcher, ())
    if not plan.exact:
        return len(select(connection, collection, matcher))
    several = dict(_bodies(connection, plan.multikey)) if plan.multikey else {}
    sql = f"SELECT count(*) FROM {plan.main.source}"  # noqa: S608
    single: int = connection.execute(sql, plan.main.parameters).fetchone()[0]
    return single + sum(matcher.matches(decode(body)) for body in several.values())


def insert(connection: sqlite3.Connection, collection: Collection, document: Mapping[str, Any], body: bytes) -> None:
    """Add a document. Raises `DuplicateKey`."""
    try:
        row = connection.execute(
            f"INSERT INTO {collection.table} (id, body) VALUES (?, ?)",  # noqa: S608
            (keys.encode(document["_id"]), body),
        ).lastrowid
        for index in collection.indexes:
            entries = index.entries(document)
            if _met_array(entries):
                index.meet_array(connection)
            for entry in entries:
                connection.execute(index.insert_sql, (*entry, row))
    except sqlite3.IntegrityError:
        raise _duplicate(collection) from None


def insert_all(
    connection: sqlite3.Connection, collection: Collection, documents: Sequence[tuple[Document, bytes]]
) -> None:
    """Add documents, each with its BSON. Raises `DuplicateKey` where any of them is there already."""
    try:
        first = connection.execute(f"SELECT coalesce(max(row), 0) + 1 FROM {collection.table}").fetchall()[0][0]  # noqa: S608
        connection.executemany(
            f"INSERT INTO {collection.table} (row, id, body) VALUES (?, ?, ?)",  # noqa: S608
            [(row, keys.encode(document["_id"]), body) for row, (document, body) in enumerate(documents, first)],
        )
        for index in collection.indexes:
            entries = list(index.entries_of_all(document for document, _ in documents))
            if any(map(_met_array, entries)):
                index.meet_array(connection)
            rows = [(*entry, row) for row, each in enumerate(entries, first) for entry in each]
            connection.executemany(index.insert_sql, rows)
    except sqlite3.IntegrityError:
        raise _duplicate(collection) from None


def update(
    connection: sqlite3.Connection,
    collection: Collection,
    matcher: Matcher,
    change: Change,
    *,
    body: bytes | None = None,
    sort: Sort = (),
    upsert: bool = False,
    versions: Versions,
) -> bytes | None:
    """Change the first match, or insert; the new BSON. `body` is that of a whole replacement. Raises `DuplicateKey`."""
    key = None if body is None or matcher.one is None else (collection.name, matcher.one)
    if key is not None and body is not None and change.replacement is not None:
        last = versions.get(key)
        if last is not None and _replaced(connection, collection, last, matcher, change, body=body):
            versions.put(key, last.row, body, change.replacement)
            return body
    found = select(connection, collection, matcher, sort, 1)
    if not found:
        return _upsert(connection, collection, matcher, change) if upsert else None
    row, _, old = found[0]
    moving = _moving(collection, change, old)
    new = change.apply(old)
    body = body or checked_body(new)
    connection.execute(f"UPDATE {collection.table} SET body = ? WHERE row = ?", (body, row))  # noqa: S608
    _move_all(connection, collection, row, moving, new)
    if key is not None:
        versions.put(key, row, body, new)
    return body


def _replaced(
    connection: sqlite3.Connection,
    collection: Collection,
    last: Version,
    matcher: Matcher,
    change: Change,
    *,
    body: bytes,
) -> bool:
    """Replace a document that this process wrote last, if it still is as it was then. Raises `DuplicateKey`."""
    if change.replacement is None or not last.tells(collection, matcher):
        return False
    moving = _moving(collection, change, last.fields)
    sql = f"UPDATE {collection.table} SET body = ? WHERE row = ? AND body = ?"  # noqa: S608
    if connection.execute(sql, (body, last.row, last.body)).rowcount != 1:
        return False
    _move_all(connection, collection, last.row, moving, change.replacement)
    return True


def delete(
    connection: sqlite3.Connection, collection: Collection, matcher: Matcher, *, sort: Sort = ()
) -> Document | None:
    """Remove the first match and return it."""
    found = select(connection, collection, matcher, sort, 1)
    if not found:
        return None
    remove(connection, collection, found[0])
    return found[0][2]


def remove(connection: sqlite3.Connection, collection: Collection, found: Row) -> None:
    """Remove a document that `select` gave."""
    row, _, document = found
    for index in collection.indexes:
        connection.executemany(index.delete_sql, [(*entry, row) for entry in index.entries(document)])
    connection.execute(f"DELETE FROM {collection.table} WHERE row = ?", (row,))  # noqa: S608


def _moving(collection: Collection, change: Change, old: Mapping[str, Any]) -> list[Moving]:
    """The indexes in which a document may have to move, each with its entries there."""
    return [(index, index.entries(old)) for index in collection.indexes if change.may_move(old, index.parts)]


def _move_all(
    connection: sqlite3.Connection, collection: Collection, row: int, moving: Sequence[Moving], new: Mapping[str, Any]
) -> None:
    try:
        for index, before in moving:
            _move(connection, index, row, before, index.entries(new))
    except sqlite3.IntegrityError:
        raise _duplicate(collection) from None


def _move(
    connection: sqlite3.Connection, index: IndexTable, row: int, before: Sequence[Entry], after: Sequence[Entry]
) -> None:
    """Change a document's entries in an index."""
    if before == after:
        return
    if len(before) == len(after) == 1 and not _met_array(after):
        connection.execute(index.move_sql, (*after[0], *before[0], row))
        return
    if _met_array(after):
        index.meet_array(connection)
    for entry in before:
        if entry not in after:
            connection.execute(index.delete_sql, (*entry, row))
    for entry in after:
        if entry not in before:
            connection.execute(index.insert_sql, (*entry, row))


def _met_array(entries: Sequence[Entry]) -> bool:
    return bool(entries) and entries[0][0] == 1


def _upsert(connection: sqlite3.Connection, collection: Collection, matcher: Matcher, change: Change) -> bytes:
    document = upserted(matcher, change)
    body = checked_body(document)
    insert(connection, collection, document, body)
    return body


def _bodies(connection: sqlite3.Connection, statement: Statement) -> Iterator[tuple[int, bytes]]:
    cursor = connection.execute(
        f"SELECT d.row, d.body FROM {statement.source}{statement.order}",  # noqa: S608 - names are checked, values bound
        statement.parameters,
    )
    try:
        yield from cursor
    finally:
        cursor.close()  # ends the read where the caller stopped early


def _duplicate(collection: Collection) -> DuplicateKey:
    return DuplicateKey(f"{collection.name} already has a document with this _id or these unique values.")
