"""What may stand in an audit event's states, and the bytes that its chain is computed over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId

from flow8_core import redaction
from flow8_core.errors import InternalError
from flow8_core.secret import MASK, Secret

TEXT_LIMIT = 500  # characters
DEPTH_LIMIT = 6

# Names whose values may be seen. Everything else is shown as `[secret]`: a new field is hidden until it is listed here.
ALLOWED = frozenset(
    """
    integration_type service provider_user_id provider_user_email scopes status status_reason token_expiry refresh_at
    issued_at lifetime_s generation grant_expires_at grant_idle_at shared source outcome attempts reason link_id links
    name kind config provider is_default changed default previous
    bucket region endpoint allow_public_acl base_url model organization project temperature top_p frequency_penalty
    presence_penalty max_tokens database hosts auth type honours_idempotency_key timeout_seconds max_retries level
    host port security from_address from_name protocol host_key root allow_plaintext
    kid kids from_kid to_kid envelopes unreadable email role companies created_at updated_at
    """.split()  # noqa: SIM905  a list of this length is for reading
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def allowed(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state with the values of unlisted fields masked. Raises `InternalError` where a `Secret` or an envelope
    stands anywhere in it: whoever passes one has not thought about what is recorded."""
    refuse_secrets(state)
    return {str(name): _allowed(value) if name in ALLOWED else MASK for name, value in state.items()}


def _allowed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return allowed(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_allowed(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool | int | float | datetime | ObjectId):
        return value
    raise InternalError(f"An audit state cannot hold a {type(value).__name__}.")


def text(value: str) -> str:
    """A text as an event keeps it: scrubbed of known secrets, valid Unicode, at most `TEXT_LIMIT` characters."""
    return redaction.scrub(value).encode("utf-8", "replace").decode()[:TEXT_LIMIT]


def refuse_secrets(value: Any, path: str = "state", depth: int = DEPTH_LIMIT) -> None:
    """Raise `InternalError` naming the field where a `Secret`, bytes or an envelope stands in the value."""
    if isinstance(value, Secret | bytes | bytearray) or depth == 0:
        raise InternalError(f"The audit field {path} holds a secret or is nested too deeply; record its name instead.")
    if isinstance(value, Mapping):
        if "ciphertext" in value or "encrypted" in value:
            raise InternalError(f"The audit field {path} holds an encrypted field; record its name instead.")
        for name, inner in value.items():
            refuse_secrets(inner, f"{path}.{name}", depth - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            refuse_secrets(inner, f"{path}[]", depth - 1)


def canonical(document: Mapping[str, Any]) -> bytes:
    """One spelling of a document: sorted keys, no spaces, dates as whole milliseconds since 1970. A value that came
    back from a store gives the same bytes as the one that went in. Raises `TypeError` or `ValueError` for what no event
    holds."""
    return json.dumps(
        _plain(document), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _plain(value: Any) -> Any:
    """JSON values, each of the others in a list with its type's name, which no plain list begins with."""
    if isinstance(value, Mapping):
        return {"map": {str(name): _plain(inner) for name, inner in value.items()}}
    if isinstance(value, list | tuple):
        return ["list", *(_plain(inner) for inner in value)]
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return ["date", (moment - _EPOCH) // timedelta(milliseconds=1)]
    if isinstance(value, ObjectId):
        return ["id", str(value)]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return ["float", value]
    raise TypeError(type(value).__name__)
