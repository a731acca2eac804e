"""The stamps by which the MongoDB store knows its own writes again.

A document's `_writes` holds the ids of its last few writes, the newest at the end. A replacement keeps those that this
process has seen there, for whoever wrote the version that it replaces may still have to find its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument

from flow8_core.errors import ValidationFailed
from flow8_core.store.base import Document, Filter
from flow8_core.store.dialect import keys
from flow8_core.store.dialect.documents import RESERVED, check_fields, check_storable, encode
from flow8_core.store.dialect.matching import Matcher
from flow8_core.store.dialect.updating import Change

STAMPS = RESERVED
KEPT = 8  # how many later writes a lost one may hide behind and still be found
MOST_SEEN = 4096  # documents


class Encoded(RawBSONDocument):
    """A document that was encoded by us, and is sent as it is."""

    def __bool__(self) -> bool:  # pymongo asks, and would have all of it decoded to see whether it has any field
        return True


def stamped_document(document: Mapping[str, Any], stamp: ObjectId) -> Encoded:
    """A document to insert. Raises `ValidationFailed`."""
    check_storable(document)
    return Encoded(encode({**document, STAMPS: [stamp]}))


class Seen:
    """The stamps that this process saw last in each of many documents. Each is of a write that did take place there, so
    that to pass on an old one does no harm. Threads share one."""

    def __init__(self) -> None:
        self._stamps: dict[tuple[str, bytes], tuple[ObjectId, ...]] = {}
        self._lock = threading.Lock()

    def shown(self, collection: str, document: Document) -> Document:
        """The document as callers see it: its stamps are kept here."""
        self.put(collection, document["_id"], document.pop(STAMPS, ()))
        return document

    def put(self, collection: str, document_id: Any, stamps: Sequence[ObjectId]) -> None:
        """These stand there now."""
        key = (collection, keys.encode(document_id))
        with self._lock:
            self._stamps.pop(key, None)
            self._stamps[key] = tuple(stamps)
            if len(self._stamps) > MOST_SEEN:
                del self._stamps[next(iter(self._stamps))]

    def before(self, collection: str, document_id: Any) -> tuple[ObjectId, ...]:
        """Those that a replacement is to pass on."""
        return self._stamps.get((collection, keys.encode(document_id)), ())[1 - KEPT :]


def stamped_update(change: Change, stamp: ObjectId, *, before: Sequence[ObjectId] = ()) -> Mapping[str, Any]:
    """An update or replacement to send; a replacement passes on the stamps `before` it. Raises `ValidationFailed`."""
    if change.replacement is not None:
        check_fields(change.replacement)
        return Encoded(encode({**change.replacement, STAMPS: [*before, stamp]}))
    operators: dict[str, dict[str, Any]] = {}
    for operator, parts, operand in change.steps:
        if parts[0] == STAMPS:
            raise ValidationFailed(f"{STAMPS} belongs to the store.", path=STAMPS)
        operators.setdefault(operator, {})[".".join(parts)] = operand
    encode(operators)
    operators.setdefault("$push", {})[STAMPS] = {"$each": [stamp], "$slice": -KEPT}
    return operators


def guarded(filter: Filter, stamp: ObjectId) -> dict[str, Any]:  # noqa: A002 - the word of the dialect
    """The filter, for documents that this very write has not changed yet."""
    return {**filter, STAMPS: {"$ne": stamp}}


def id_of(matcher: Matcher) -> Any:
    """The one `_id` that a filter is about; None where it may match several."""
    for condition in matcher.conditions:
        if condition.path == "_id" and condition.operator == "$eq":
            return condition.value
    return None
