"""Entra's errors: numbers that it documents as AADSTS, in the token endpoint's shape.

Source: Microsoft identity platform, "Authentication and authorization error codes".
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from flow8_lab.http import Reply, json_reply

# AADSTS number -> HTTP status, error, suberror, text
ERRORS: Mapping[int, tuple[int, str, str | None, str]] = {
    50011: (400, "invalid_client", None, "The redirect URI does not match the redirect URI of the authorization code."),
    50173: (400, "invalid_grant", "bad_token", "The provided grant has expired due to it being revoked."),
    50196: (
        400,
        "invalid_grant",
        None,
        "The server terminated an operation because it encountered a client request loop.",
    ),
    54005: (400, "invalid_grant", None, "OAuth2 Authorization code was already redeemed."),
    501481: (400, "invalid_grant", None, "The Code_Verifier does not match the code_challenge of the request."),
    65001: (
        400,
        "invalid_grant",
        "consent_required",
        "The user or administrator has not consented to use the application.",
    ),
    70000: (400, "invalid_grant", None, "The provided value for the input parameter is not valid."),
    70003: (400, "unsupported_grant_type", None, "The app requested an unsupported grant type."),
    70008: (400, "invalid_grant", None, "The provided authorization code or refresh token has expired."),
    70011: (400, "invalid_scope", None, "The provided value for the input parameter 'scope' is not valid."),
    700016: (400, "unauthorized_client", None, "Application was not found in the directory."),
    700082: (400, "invalid_grant", None, "The refresh token has expired due to inactivity."),
    7000112: (400, "unauthorized_client", None, "Application is disabled."),
    7000215: (401, "invalid_client", None, "Invalid client secret provided."),
    7000218: (401, "invalid_client", None, "The request body must contain 'client_assertion' or 'client_secret'."),
    7000222: (401, "invalid_client", None, "The provided client secret keys are expired."),
    90002: (400, "invalid_request", None, "Tenant not found."),
    90055: (429, "temporarily_unavailable", None, "The tenant has been throttled."),
    90033: (503, "temporarily_unavailable", None, "The service is temporarily unavailable."),
}


class Aadsts(Exception):
    """Entra refuses, with the number that it documents under AADSTS."""

    def __init__(self, code: int) -> None:
        super().__init__(f"AADSTS{code}")
        self.code = code


def refusal(
    code: int, *, status: int | None, error: str | None, retry_after: float | None, authority: str, stamp: str
) -> Reply:
    """The answer for `code`, with another `status` or `error` where given. `stamp` is the time, RFC 3339 in UTC."""
    known, name, suberror, text = ERRORS.get(code, (400, "invalid_grant", None, "The request failed."))
    trace, correlation, when = str(uuid.uuid4()), str(uuid.uuid4()), stamp.replace("T", " ")
    ids = f"\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {when}"
    body: dict[str, Any] = {
        "error": error or name,
        "error_description": f"AADSTS{code}: {text}{ids}",
        "error_codes": [code],
        "timestamp": when,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": f"{authority}/error?code={code}",
    }
    if suberror and not error:
        body["suberror"] = suberror
    wait = () if retry_after is None else (("Retry-After", f"{retry_after:g}"),)
    return json_reply(body, status=status or known, headers=wait)
