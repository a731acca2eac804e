"""Reading one document by one command.

A cursor of pymongo's keeps ready what the next batch would take. Where there is none, the bare `find` command takes
two thirds of its time, and nearly every read of a step is of one document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import errors as mongo_errors

from flow8_core.store.base import Document, Filter, Sort
from flow8_core.store.dialect.documents import decode
from flow8_core.store.mongo.client import Mongo

# a command's answer is decoded without our own decoder of dates, so the document is decoded by itself
_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


def first(
    mongo: Mongo,
    wanted: Filter,
    *,
    sort: Sort = (),
    projection: Mapping[str, Any] | None = None,
) -> Document | None:
    """The first match; None where there is none. Raises pymongo's errors."""
    command: dict[str, Any] = {"find": mongo.name, "filter": wanted, "limit": 1, "singleBatch": True}
    if sort:
        command["sort"] = dict(sort)
    if projection:
        command["projection"] = projection
    if mongo.read_concern.level is not None:
        command["readConcern"] = mongo.read_concern.document
    try:
        answer = mongo.database.command(command, codec_options=_RAW)
    except mongo_errors.PyMongoError as error:
        if error.timeout:
            raise
        # a command is asked once, but a read may be repeated over another connection, and pymongo knows when
        return mongo.find_one(wanted, projection, sort=list(sort) or None)
    batch = answer["cursor"]["firstBatch"]
    return decode(batch[0].raw) if batch else None
