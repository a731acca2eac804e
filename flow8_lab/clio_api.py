"""Clio's API, as far as it says who is connected: versions, `fields`, errors, limits.

Source: docs.developers.clio.com, "Fields", "Rate limits", "API versioning". Without `fields` only id and etag come, and
fields nest one level deep.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from flow8_lab.http import TEXT, Reply, Request, json_reply

LATEST_VERSION = (4, 0, 13)
LIMIT_PER_MINUTE = 50

# HTTP status -> type and message of an API error; only ForbiddenError is a name that Clio documents
ERRORS: Mapping[int, tuple[str, str]] = {
    401: ("UnauthorizedError", "User is not authorized"),
    403: ("ForbiddenError", "User is forbidden from taking that action"),
    404: ("ResourceNotFound", "not found"),
    429: ("RateLimited", "Rate limited"),
}


def who_am_i(request: Request, account: Mapping[str, str] | None, *, now: float) -> Reply:
    """GET users/who_am_i for an account; None where the token is not honoured. `now`: seconds since the epoch."""
    version = request.headers.get("x-api-version")
    if version is not None and not _is_served(version):
        return Reply(410, b"", TEXT)
    if account is None:
        return refusal(401, headers=limits(LIMIT_PER_MINUTE - 1, now=now))
    wanted = _fields(request.query().get("fields") or "id,etag")
    if wanted is None:
        return _api_error(400, "InvalidFields", "fields nests one level deep")
    data = _chosen(_user(account, now), wanted)
    if isinstance(data, str):
        return _api_error(400, "InvalidFields", f"{data} is not a valid field.")
    return json_reply({"data": data}, headers=limits(LIMIT_PER_MINUTE - 1, now=now))


def refusal(status: int, *, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """The error that goes with a status."""
    return _api_error(status, *ERRORS[status], headers=headers)


def limits(remaining: int, *, now: float) -> tuple[tuple[str, str], ...]:
    """The headers that every answer has: the limit, what is left of it, and when it begins anew (Unix time)."""
    resets_at = int(now) // 60 * 60 + 60
    return (
        ("X-RateLimit-Limit", str(LIMIT_PER_MINUTE)),
        ("X-RateLimit-Remaining", str(remaining)),
        ("X-RateLimit-Reset", str(resets_at)),
    )


def _api_error(status: int, type_: str, message: str, *, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return json_reply({"error": {"type": type_, "message": message}}, status=status, headers=headers)


def _is_served(version: str) -> bool:
    """The majors and minors that exist up to the latest; others are gone."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        return False
    parts = tuple(int(part) for part in version.split("."))
    return parts[0] == LATEST_VERSION[0] and parts <= LATEST_VERSION


def _user(account: Mapping[str, str], now: float) -> dict[str, Any]:
    first, _, last = account["name"].partition(" ")
    firm = {"id": int(account["account_id"]), "etag": '"1"', "name": "Example LLP", "state": "ACTIVE"}
    return {
        "id": int(account["id"]),
        "etag": f'"{zlib.crc32(account["id"].encode())}"',
        "name": account["name"],
        "first_name": first,
        "last_name": last,
        "email": account["email"],
        "enabled": True,
        "roles": ["Admin"],
        "subscription_type": "Attorney",
        "time_zone": "Pacific Time (US & Canada)",
        "updated_at": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "account": firm,
    }


def _fields(text: str) -> list[tuple[str, list[str]]] | None:
    """`a,b{c,d}` as names with what is wanted of them; None where it nests deeper or is malformed."""
    if not re.fullmatch(r"\w+(\{\w+(,\w+)*\})?(,\w+(\{\w+(,\w+)*\})?)*", text):
        return None
    found = re.findall(r"(\w+)(?:\{([\w,]+)\})?", text)
    return [(name, inner.split(",") if inner else []) for name, inner in found]


def _chosen(user: Mapping[str, Any], wanted: Sequence[tuple[str, Sequence[str]]]) -> dict[str, Any] | str:
    """The wanted fields, or the name of one that there is not. Of a nested one only id and etag come unasked."""
    chosen: dict[str, Any] = {}
    for name, inner in wanted:
        if name not in user:
            return name
        value = user[name]
        if isinstance(value, Mapping):
            missing = [field for field in inner if field not in value]
            if missing:
                return f"{name}{{{missing[0]}}}"
            value = {field: value[field] for field in inner or ("id", "etag")}
        chosen[name] = value
    return chosen
