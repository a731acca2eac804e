"""Documents as BSON and back, with MongoDB's own C codec, so that types survive as they do there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import bson
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.errors import BSONError

from flow8_core.errors import ValidationFailed
from flow8_core.store.base import Document
from flow8_core.store.dialect.paths import may_have_dollars

RESERVED = "_writes"  # where the MongoDB store stamps its writes
_COLLECTION = re.compile(r"[a-z][a-z0-9_]{0,60}\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)  # as the codec gives dates
LARGEST_BYTES = 16 * 1024 * 1024


class _Aware(TypeDecoder):
    """Dates aware and in UTC: `tz_aware` asks a zone that is written in Python, for each of them, and `replace` takes
    three times as long as counting on from the beginning of time."""

    bson_type = datetime

    @staticmethod
    def transform_bson(value: datetime) -> datetime:  # called by the C codec
        return _EPOCH + (value - _NAIVE_EPOCH)


OPTIONS: CodecOptions[Document] = CodecOptions(document_class=dict, type_registry=TypeRegistry([_Aware()]))


def check_collection(name: str) -> str:
    """A collection's name, which SQLite makes part of a table's. Raises `ValidationFailed`."""
    if not isinstance(name, str) or not _COLLECTION.match(name):
        raise ValidationFailed(f"{name!r} is no collection name: lower-case letters, digits and underscores.")
    return name


def encode(document: Mapping[str, Any]) -> bytes:
    """The document's BSON. Raises `ValidationFailed` for values that BSON lacks, and above 16 MiB as MongoDB does."""
    try:
        body: bytes = bson.encode(document)
    except (BSONError, OverflowError, ValueError, TypeError, RecursionError) as error:
        raise ValidationFailed(f"The document cannot be stored: {_reason(error)}.") from None
    if len(body) > LARGEST_BYTES:
        raise ValidationFailed(f"The document has {len(body)} bytes; a store takes {LARGEST_BYTES} at most.")
    return body


def checked_body(document: Mapping[str, Any]) -> bytes:
    """A document that is to be stored, as BSON. Raises `ValidationFailed` for what no store keeps."""
    check_storable(document)
    return encode(document)


def check_storable(document: Mapping[str, Any]) -> None:
    """Raises `ValidationFailed` for a document without an `_id`, or with a field that none may have."""
    if not isinstance(document, dict | Mapping) or "_id" not in document:
        raise ValidationFailed("A document needs an _id.", path="_id")
    if isinstance(document["_id"], list | tuple):
        raise ValidationFailed("An _id cannot be an array.", path="_id")
    check_fields(document)


def check_fields(document: Mapping[str, Any]) -> None:
    """Raises `ValidationFailed` for a top-level field that no document may have."""
    if RESERVED not in document and not may_have_dollars(document):
        return
    for name in document:
        if type(name) is not str or name == RESERVED or name.startswith("$"):
            raise ValidationFailed(f"A document's field cannot be named {name!r}.", path=str(name))


def decode(body: bytes) -> Document:
    """The document: dates aware and UTC, bytes as bytes."""
    return bson.decode(body, codec_options=OPTIONS)


def _reason(error: Exception) -> str:
    """What is wrong, without the value itself, which may be secret."""
    if isinstance(error, OverflowError):
        return "an integer needs more than 64 bits"
    if isinstance(error, UnicodeError):
        return "text holds a lone surrogate"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return "a key is not text, or a value has a type that MongoDB does not keep"
