"""The stamps by which the MongoDB store knows its own writes again.

A document's `_writes` holds the ids of its last few writes, the newest at the end. A replacement keeps only its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument

from flow8_core.errors import ValidationFailed
from flow8_core.store.base import Filter
from flow8_core.store.dialect.documents import RESERVED, check_fields, check_storable, encode
from flow8_core.store.dialect.matching import Matcher
from flow8_core.store.dialect.updating import Change

STAMPS = RESERVED
KEPT = 8  # how many later writes a lost one may hide behind and still be found


def stamped_document(document: Mapping[str, Any], stamp: ObjectId) -> RawBSONDocument:
    """A document to insert. Raises `ValidationFailed`."""
    check_storable(document)
    return RawBSONDocument(encode({**document, STAMPS: [stamp]}))


def stamped_update(change: Change, stamp: ObjectId) -> Mapping[str, Any]:
    """An update or replacement to send. Raises `ValidationFailed`."""
    if change.replacement is not None:
        check_fields(change.replacement)
        return RawBSONDocument(encode({**change.replacement, STAMPS: [stamp]}))
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
