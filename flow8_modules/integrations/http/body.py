"""A request's body from what an author wrote: JSON, text, a form, or bytes in base64."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlencode

from flow8_modules import Fault, read_json

BodyType = Literal["auto", "json", "text", "form", "base64"]
MAX_BODY = 10 * 1024 * 1024

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
FORM = "application/x-www-form-urlencoded"
BYTES = "application/octet-stream"

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)  # dumps() would make one each time


def encode(body: Any, body_type: BodyType, *, content_type: str | None) -> tuple[bytes | None, str | None]:
    """The body's bytes, and the Content-Type that goes with them where the author set none. Raises `Fault`.

    `auto`: text is sent as it is, anything else as JSON, or as a form where the author's Content-Type says so.
    """
    if body is None:
        return None, None
    if body_type == "auto":
        body_type = _told(body, content_type)
    match body_type:
        case "json":
            data, kind = _json(body), JSON
        case "text":
            data, kind = _text(body), TEXT
        case "form":
            data, kind = pairs(body).encode(), FORM
        case _:
            data, kind = _bytes(body), BYTES
    if len(data) > MAX_BODY:
        raise Fault(f"should have at most {MAX_BODY:,} bytes")
    return data, kind


def pairs(values: Any) -> str:
    """Names and values as in a query or a form; a list repeats its name. Raises `Fault`."""
    if not isinstance(values, Mapping):
        raise Fault("should be an object of names and values")
    flat: list[tuple[str, str]] = []
    for name, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict | list):
                raise Fault("should have plain values, or lists of them")
            flat.append((name, _plain(each)))
    return urlencode(flat)


def _told(body: Any, content_type: str | None) -> BodyType:
    if isinstance(body, str):
        return "text"
    is_form = content_type is not None and content_type.partition(";")[0].strip().lower() == FORM
    return "form" if is_form and isinstance(body, dict) else "json"


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _json(body: Any) -> bytes:
    if isinstance(body, str):  # flow8 renders expressions to text: it is the JSON, not a string in JSON
        read_json(body)
        return body.encode()
    return _ENCODER.encode(body).encode()


def _text(body: Any) -> bytes:
    if isinstance(body, dict | list):
        raise Fault("should be text")
    return _plain(body).encode()


def _bytes(body: Any) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise Fault("should be bytes in base64") from None
