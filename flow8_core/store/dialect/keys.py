"""Values as bytes that sort as MongoDB sorts the values, so that SQLite's indexes give MongoDB's order.

One tag byte for the type, in the order of https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/,
then the value. Every encoding ends by itself, so that nested values can follow one another. Two values are equal for
MongoDB exactly where their bytes are (1 and 1.0 are; True is not).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bson.binary import Binary
from bson.int64 import Int64
from bson.objectid import ObjectId

from flow8_core.errors import ValidationFailed
from flow8_core.store.dialect.paths import Missing

EMPTY_ARRAY = b"\x08"  # sorts before null, in sort keys only
NULL = b"\x10"
NUMBER = b"\x20"
STRING = b"\x30"
OBJECT = b"\x40"
ARRAY = b"\x50"
BINARY = b"\x60"
OBJECT_ID = b"\x70"
FALSE = b"\x80\x00"
TRUE = b"\x80\x01"
DATE = b"\x90"
NAN = NUMBER + b"\x00" * 10

_END = b"\x00"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SIGN = 1 << 63
_ALL_BITS = (1 << 64) - 1
_EXACT = 1 << 53
_double = struct.Struct(">d")
_bits = struct.Struct(">Q")
_number = struct.Struct(">QH")


def encode(value: Any) -> bytes:
    """The value's sort key; `MISSING` counts as null. Raises `ValidationFailed` for a type that does not compare."""
    encoder = _ENCODERS.get(type(value)) or _inherited(value)
    return encoder(value)


def bracket(key: bytes) -> tuple[bytes, bytes]:
    """The half-open range [low, high) of all keys with this key's type; NaN, which no range holds, is left out."""
    tag = key[:1]
    low = NAN + b"\x00" if tag == NUMBER else tag
    return low, bytes((tag[0] + 1,))


def _inherited(value: Any) -> Callable[[Any], bytes]:
    for kind, encoder in _ENCODERS.items():
        if isinstance(value, kind):
            return encoder
    if isinstance(value, Mapping):
        return _object
    raise ValidationFailed(f"A value of type {type(value).__name__} cannot be compared or indexed.")


def _integer(value: int) -> bytes:
    if -_EXACT <= value <= _EXACT:
        return _float(float(value))
    if not -_SIGN <= value < _SIGN:
        raise ValidationFailed("Integers are limited to 64 bits.")
    floor = float(value)
    if floor > value:
        floor = math.nextafter(floor, -math.inf)
    return _float(floor)[:-2] + (value - int(floor)).to_bytes(2, "big")


def _float(value: float) -> bytes:
    """The double's bits made to sort, and two bytes for what an integer beyond 2**53 has above the double below it."""
    if value != value:  # noqa: PLR0124 - NaN, below all numbers
        return NAN
    bits: int = _bits.unpack(_double.pack(value + 0.0))[0]
    return NUMBER + _number.pack(bits ^ _ALL_BITS if bits & _SIGN else bits | _SIGN, 0)


def _text(value: str) -> bytes:
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise ValidationFailed("Text holds a lone surrogate, which is not Unicode.") from None
    return raw.replace(b"\x00", b"\x00\xff") + b"\x00\x00"


def _bytes(value: bytes) -> bytes:
    subtype = value.subtype if isinstance(value, Binary) else 0
    return BINARY + len(value).to_bytes(4, "big") + bytes((subtype,)) + bytes(value)


def millis(value: datetime) -> int:
    """Milliseconds since 1970, cut; a moment without a zone is UTC, as the BSON library takes it."""
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MILLISECOND


def _object(value: Mapping[str, Any]) -> bytes:
    parts = [OBJECT]
    for name, item in value.items():
        if not isinstance(name, str):
            raise ValidationFailed("The keys of a mapping must be text.")
        key = encode(item)
        parts += (key[:1], _text(name), key)
    return b"".join((*parts, _END))


def _array(value: list[Any] | tuple[Any, ...]) -> bytes:
    return b"".join((ARRAY, *map(encode, value), _END))


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: NULL,
    Missing: lambda _: NULL,
    bool: lambda value: TRUE if value else FALSE,
    str: lambda value: STRING + _text(value),
    int: _integer,
    Int64: _integer,
    float: _float,
    datetime: lambda value: DATE + (millis(value) + _SIGN).to_bytes(8, "big"),
    ObjectId: lambda value: OBJECT_ID + value.binary,
    bytes: _bytes,
    Binary: _bytes,
    dict: _object,
    list: _array,
    tuple: _array,
}
