"""The words of the vendors' contracts, as codes of our tree."""

from __future__ import annotations

import json
from typing import Any

from flow8_core.egress import Response
from flow8_core.egress.headers import Headers
from flow8_core.errors import Flow8Error

# A word of the contracts, and the codes of ours that stand for it.
CODES: dict[str, frozenset[str]] = {
    "invalid_grant": frozenset({"invalid_grant"}),
    "provider_misconfigured": frozenset({"provider_misconfigured"}),
    "insufficient_scope": frozenset({"insufficient_scope"}),
    "token_revoked": frozenset({"token_revoked"}),
    "refresh_then_retry_once": frozenset({"token_revoked"}),  # TokenExpired carries that code
    "rate_limit_exceeded": frozenset({"rate_limit_exceeded"}),
    "access_denied": frozenset({"access_denied"}),
    "invalid_request": frozenset({"provider_rejected", "validation_error"}),
    "provider_unavailable": frozenset({"provider_unavailable"}),
    "not_found": frozenset({"not_found"}),
    "conflict": frozenset({"conflict"}),
    "delta_reset": frozenset({"conflict"}),
    "invalid_credentials": frozenset({"invalid_credentials"}),
    "token_expired": frozenset({"invalid_credentials"}),  # of a component: there is nothing to refresh
    "clock_skew": frozenset({"internal_error"}),
    "upstream_error": frozenset({"provider_unavailable"}),
}


def stands_for(word: str, error: Flow8Error) -> bool:
    """Whether `error` is what a contract's word means; "provider_unavailable (outcome ambiguous for writes)" too."""
    plain = word.partition(" ")[0].partition("(")[0]
    return error.code in CODES[plain]


def answer(status: int, body: Any, *, method: str = "POST", **headers: str) -> Response:
    """What the egress would give for such an answer; a body that is no text or bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    return Response(
        status=status,
        headers=Headers(headers.items()),
        body=data,
        url="https://vendor.example/api/x",
        duration_ms=1,
        method=method,
    )
