"""Google's scopes, limits and words of refusal, and what the control API may change of it.

Sources: developers.google.com, "OAuth 2.0 Scopes for Google APIs", "Using OAuth 2.0 to Access Google APIs" (when
refresh tokens end), recorded answers of the token endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from flow8_lab.dialect import Conduct, Refusals
from flow8_lab.quirks import NO_QUIRKS, Quirks

SERVICE = "google"
IDLE_S = 180 * 24 * 3600
TESTING_S = 604_799  # a consent screen in testing: refresh tokens live for seven days
MOST_REFRESH_TOKENS = 100  # of one account for one client

API_SCOPE = "https://www.googleapis.com/auth/"
ALIASES = {"email": f"{API_SCOPE}userinfo.email", "profile": f"{API_SCOPE}userinfo.profile"}
_NAMES = """
    calendar calendar.events calendar.readonly contacts.readonly documents drive drive.appdata drive.file drive.metadata
    drive.metadata.readonly drive.readonly gmail.compose gmail.labels gmail.metadata gmail.modify gmail.readonly
    gmail.send spreadsheets spreadsheets.readonly userinfo.email userinfo.profile
"""
SCOPES = frozenset({"openid", *(f"{API_SCOPE}{name}" for name in _NAMES.split())})

REFUSALS: Refusals = {
    "client.unknown": (401, {"error": "invalid_client", "error_description": "The OAuth client was not found."}),
    "client.secret": (401, {"error": "invalid_client", "error_description": "The provided client secret is invalid."}),
    "client.secret_expired": (401, {"error": "invalid_client", "error_description": "The client secret is disabled."}),
    "client.disabled": (401, {"error": "deleted_client", "error_description": "The OAuth client was deleted."}),
    "code": (400, {"error": "invalid_grant", "error_description": "Bad Request"}),
    "code.unknown": (400, {"error": "invalid_grant", "error_description": "Malformed auth code."}),
    "code.redirect_uri": (400, {"error": "redirect_uri_mismatch", "error_description": "Bad Request"}),
    "code.verifier": (400, {"error": "invalid_grant", "error_description": "Invalid code verifier."}),
    "refresh": (400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}),
    "refresh.unknown": (400, {"error": "invalid_grant", "error_description": "Bad Request"}),
    "refresh.session": (
        400,
        {
            "error": "invalid_grant",
            "error_description": "reauth related error (invalid_rapt)",
            "error_subtype": "invalid_rapt",
        },
    ),
    "grant_type": (400, {"error": "unsupported_grant_type", "error_description": "Invalid grant_type"}),
    "scope": (400, {"error": "invalid_scope", "error_description": "Bad Request"}),
}


CONDUCT = Conduct(expires_in=3_599, refresh_reply="omit")


@dataclass(frozen=True)
class GoogleSettings:
    """What the control API may change beside `Conduct` and `Quirks`.

    `testing`: the consent screen is in testing, so that refresh tokens live for seven days. `session_control`: the
    Workspace wants the user to sign in again, so that no refresh token works. `most_refresh_tokens`: of one account;
    the oldest above it dies without a word.
    """

    conduct: Conduct = CONDUCT
    quirks: Quirks = NO_QUIRKS
    testing: bool = False
    session_control: bool = False
    most_refresh_tokens: int = MOST_REFRESH_TOKENS
