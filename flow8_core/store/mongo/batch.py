"""Batches on MongoDB: ordered bulks, cut where their single results could not be told apart otherwise.

A bulk takes operations of one kind on one collection, each on a document of its own that its `_id` names, so that the
stamp which an operation leaves cannot be overwritten by the same bulk. Everything else is done one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson.objectid import ObjectId
from pymongo import InsertOne, ReplaceOne, UpdateOne
from pymongo import errors as mongo_errors

from flow8_core.clock import Deadline, SystemClock
from flow8_core.store.base import Delete, Document, DuplicateKey, Insert, Op, Store, Update
from flow8_core.store.dialect import keys
from flow8_core.store.dialect.matching import compile_filter
from flow8_core.store.dialect.updating import compile_update
from flow8_core.store.mongo.client import ANSWER_WITHIN_S, TOTAL_S, AnswerLost, Mongo, MongoConnection
from flow8_core.store.mongo.settling import TIMES
from flow8_core.store.mongo.stamps import STAMPS, Encoded, Seen, guarded, id_of, stamped_document, stamped_update

LARGEST_BULK = 1000
EXTRA_S = 0.001  # of patience for each operation

Request = InsertOne[Any] | UpdateOne | ReplaceOne[Document]


@dataclass(slots=True, eq=False)
class _Stamped:
    """An operation of a bulk: its place in the batch, the document it is about, and what is sent. `stamps` are those of
    a replacement, its own the last."""

    position: int
    id: Any
    stamp: ObjectId
    request: Request
    stamps: tuple[ObjectId, ...] = ()


def run(connection: MongoConnection, ops: Sequence[Op], *, seen: Seen, one_by_one: Store) -> list[bool]:
    """Do all in order; True for each that was applied. Raises `ValidationFailed` before anything is sent."""
    prepared = [_prepared(position, op, seen) for position, op in enumerate(ops)]
    applied = [False] * len(ops)
    for part in _parts(ops, prepared):
        first = ops[part[0]]
        bulk = [each for each in (prepared[position] for position in part) if each is not None]
        if bulk:
            mongo = connection.collection(first.collection)
            for each in _Bulk(connection, mongo, bulk).run():
                applied[each.position] = True
                if each.stamps:
                    seen.put(first.collection, each.id, each.stamps)
        else:
            applied[part[0]] = _alone(one_by_one, first)
    return applied


def _prepared(position: int, op: Op, seen: Seen) -> _Stamped | None:
    """The operation as part of a bulk; None where it has to go alone."""
    stamp = ObjectId()
    if isinstance(op, Insert):
        return _Stamped(position, op.document.get("_id"), stamp, InsertOne(stamped_document(op.document, stamp)))
    matcher = compile_filter(op.filter)
    if isinstance(op, Delete):
        return None
    change = compile_update(op.update)
    known_id = id_of(matcher)
    before = () if known_id is None else seen.before(op.collection, known_id)
    stamped = stamped_update(change, stamp, before=before)
    if known_id is None:
        return None
    condition = guarded(op.filter, stamp)
    if isinstance(stamped, Encoded):
        return _Stamped(position, known_id, stamp, ReplaceOne(condition, stamped), (*before, stamp))
    return _Stamped(position, known_id, stamp, UpdateOne(condition, stamped))


def _parts(ops: Sequence[Op], prepared: Sequence[_Stamped | None]) -> Iterator[list[int]]:
    """The positions cut into bulks, and operations that go alone."""
    part: list[int] = []
    ids: set[bytes] = set()
    for position, (op, ready) in enumerate(zip(ops, prepared, strict=True)):
        key = b"" if ready is None else keys.encode(ready.id)
        last = ops[part[-1]] if part else None
        joins = (
            last is not None
            and ready is not None
            and prepared[part[-1]] is not None
            and (type(last), last.collection) == (type(op), op.collection)
            and key not in ids
            and len(part) < LARGEST_BULK
        )
        if part and not joins:
            yield part
            part, ids = [], set()
        part.append(position)
        ids.add(key)
    if part:
        yield part


def _alone(store: Store, op: Op) -> bool:
    try:
        if isinstance(op, Update):
            return store.update(op.collection, op.filter, op.update) is not None
        if isinstance(op, Delete):
            return store.delete(op.collection, op.filter) is not None
        store.insert(op.collection, op.document)
    except DuplicateKey:
        return False
    return True


class _Bulk:
    """One ordered bulk, sent again from where it stopped until all of it is done or refused."""

    def __init__(self, connection: MongoConnection, mongo: Mongo, operations: list[_Stamped]) -> None:
        self._connection = connection
        self._mongo = mongo
        self._pending = operations
        self._applied: dict[int, _Stamped] = {}
        self._losses = 0
        self._deadline = Deadline.after(TOTAL_S + EXTRA_S * len(operations), SystemClock())

    def run(self) -> Collection[_Stamped]:
        """What was applied. Raises `StoreUnavailable`, `ambiguous` where a prefix may be applied."""
        while self._pending:
            try:
                with self._connection.asking(min(self._left(), ANSWER_WITHIN_S + EXTRA_S * len(self._pending))):
                    self._send()
            except AnswerLost:
                self._losses += 1
                if self._losses == TIMES:
                    raise self._connection.doubtful() from None
                self._settle()
        return self._applied.values()

    def _send(self) -> None:
        requests = [each.request for each in self._pending]
        try:
            result = self._mongo.bulk_write(requests, ordered=True)
        except mongo_errors.BulkWriteError as error:
            self._stopped(error.details)
            return
        if result.inserted_count + result.matched_count == len(requests):
            self._note(self._pending)
        else:
            self._note(self._read_back(self._pending))
        self._pending = []

    def _stopped(self, details: Mapping[str, Any]) -> None:
        """The bulk ended early: at a duplicate, which is an answer, or at something that is none."""
        failures = details.get("writeErrors") or ()
        if not failures:
            raise AnswerLost  # applied, but not known to be on a majority
        failure = failures[0]
        index: int = failure["index"]
        refusal = self._connection.refused(failure.get("code"), failure)
        if not isinstance(refusal, DuplicateKey):
            raise refusal
        # The refused one may be an insert of ours whose answer was lost: it is read back like the others.
        self._note(self._read_back(self._pending[: index + 1]))
        self._pending = self._pending[index + 1 :]

    def _settle(self) -> None:
        """After a lost answer: all up to the last one found was attempted, the rest may not have been."""
        try:
            with self._connection.asking(self._left()):
                found = self._read_back(self._pending)
        except AnswerLost:
            raise self._connection.doubtful() from None
        self._note(found)
        attempted = max((index for index, each in enumerate(self._pending) if each in found), default=-1)
        self._pending = self._pending[attempted + 1 :]

    def _read_back(self, operations: list[_Stamped]) -> list[_Stamped]:
        ids = [each.id for each in operations]
        stamps = {
            stamp for each in self._mongo.find({"_id": {"$in": ids}}, {STAMPS: 1}) for stamp in each.get(STAMPS, ())
        }
        return [each for each in operations if each.stamp in stamps]

    def _note(self, applied: Iterable[_Stamped]) -> None:
        self._applied.update((each.position, each) for each in applied)

    def _left(self) -> float:
        left = self._deadline.remaining()
        if left <= 0:
            raise self._connection.doubtful()
        return left
