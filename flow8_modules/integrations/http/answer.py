"""What a server said, in the shape that later steps can use: JSON, text, or bytes in base64."""

from __future__ import annotations

import base64
import re
from typing import Any, Literal

from flow8_core.egress import Response
from flow8_modules import errors

Wanted = Literal["auto", "json", "text", "base64", "file"]
Given = Literal["none", "json", "text", "base64", "file"]

MASK = "[secret]"
_JSON_TYPE = re.compile(r"application/(json|[\w.+-]+\+json)|text/json")


def decode(answer: Response, wanted: Wanted, secrets: tuple[str, ...] = ()) -> tuple[Any, Given]:
    """The body, and how it is given. One that is not what was wanted is given as what it is: an error page, say. Only
    what comes out in base64 is without `secrets` already; see `masked`."""
    if not answer.body:
        return None, "none"
    if wanted == "base64":
        return _in_base64(answer.body, secrets), "base64"
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    told = wanted in ("auto", "file")  # what was to be a file and is none goes by its type
    if wanted == "json" or (told and _JSON_TYPE.fullmatch(kind)):
        try:
            return answer.json(), "json"
        except errors.VendorBadResponse:
            pass  # its text helps more than a failure
    if told and not _is_text(answer.body, kind):
        return _in_base64(answer.body, secrets), "base64"
    return answer.text, "text"


def masked_json(value: Any, body: bytes, secrets: tuple[str, ...]) -> Any:
    """As `masked`, for what was read from a JSON text: where that holds neither a secret nor an escape behind which one
    might stand, there is nothing to look for."""
    if b"\\" in body or any(secret.encode() in body for secret in secrets):
        return masked(value, secrets)
    return value


def masked(value: Any, secrets: tuple[str, ...]) -> Any:
    """The value without the secrets that went out with the request: a server that echoes them must not put them into
    the play's outputs."""
    if not secrets:
        return value
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, list):
        return [masked(each, secrets) for each in value]
    if isinstance(value, dict):
        return {masked(name, secrets): masked(each, secrets) for name, each in value.items()}
    return value


def _is_text(body: bytes, kind: str) -> bool:
    if kind.startswith("text/") or kind.endswith(("xml", "json", "javascript", "urlencoded")):
        return True
    try:
        return "\x00" not in body.decode()
    except UnicodeDecodeError:
        return False


def _in_base64(body: bytes, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        body = body.replace(secret.encode(), MASK.encode())
    return base64.b64encode(body).decode()
