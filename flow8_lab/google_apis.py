"""What Google's API hosts say of a token and its user: certs, userinfo, tokeninfo, Drive's `about`.

Sources: developers.google.com, "OpenID Connect"; the discovery documents of oauth2 v2 and drive v3; Drive's "Resolve
errors". The APIs have their own way of refusing, so this is what their origin asks about faults on demand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flow8_lab import oauth
from flow8_lab.clock import Clock
from flow8_lab.google_rules import ALIASES, API_SCOPE
from flow8_lab.http import Reply, Request, json_reply
from flow8_lab.origin import Route
from flow8_lab.standard import Standard

EMAIL, PROFILE = ALIASES["email"], ALIASES["profile"]
DRIVE_SCOPES = {
    f"{API_SCOPE}{name}"
    for name in ("drive", "drive.appdata", "drive.file", "drive.metadata", "drive.metadata.readonly", "drive.readonly")
}

# reason of a fault on demand -> HTTP status and status name
STATUSES: Mapping[str, tuple[int, str]] = {
    "authError": (401, "UNAUTHENTICATED"),
    "insufficientPermissions": (403, "PERMISSION_DENIED"),
    "accessNotConfigured": (403, "PERMISSION_DENIED"),
    "userRateLimitExceeded": (403, "RESOURCE_EXHAUSTED"),
    "rateLimitExceeded": (429, "RESOURCE_EXHAUSTED"),
    "notFound": (404, "NOT_FOUND"),
    "backendError": (500, "INTERNAL"),
}


class Apis:
    """The API hosts, on one origin."""

    def __init__(self, server: Standard, *, clock: Clock) -> None:
        self._server = server
        self._clock = clock

    def routes(self) -> list[Route]:
        """What they answer to."""
        return [
            Route("GET", "/oauth2/v3/certs", "keys", self._server.keys),
            Route("*", "/v1/userinfo", "userinfo", self._userinfo),
            Route("*", "/oauth2/v3/userinfo", "userinfo", self._userinfo),
            Route("*", "/oauth2/v3/tokeninfo", "tokeninfo", self.tokeninfo),
            Route("GET", "/drive/v3/about", "about", self._about),
        ]

    def unknown(self, request: Request) -> Reply:
        """The APIs' 404."""
        return _refusal(404, "NOT_FOUND", "notFound", f"Not Found: {request.path}.")

    def throttled(self, retry_after: float) -> Reply:
        """The APIs' 429."""
        wait = ("Retry-After", f"{retry_after:g}")
        return _refusal(429, "RESOURCE_EXHAUSTED", "rateLimitExceeded", "Rate Limit Exceeded", headers=(wait,))

    def failure(self, error: str, status: int | None) -> Reply:
        """The error whose reason is `error`."""
        usual, name = STATUSES.get(error, (400, "INVALID_ARGUMENT"))
        return _refusal(status or usual, name, error, "The request failed.")

    def tokeninfo(self, request: Request) -> Reply:
        """Whose an access token is, for which client and scopes: numbers and booleans come as text."""
        value = (request.query() | request.form()).get("access_token", "")
        token = self._server.grants.tokens.find(value)
        if token is None or token.kind != "access" or not self._server.grants.tokens.live(token):
            return json_reply({"error": "invalid_token", "error_description": "Invalid Value"}, status=400)
        ends = token.expires_at or 0.0
        body = {
            "azp": self._server.client_id,
            "aud": self._server.client_id,
            "sub": token.grant.account["sub"],
            "scope": " ".join(token.scopes),
            "exp": str(int(ends + self._server.quirks.clock_skew_s)),
            "expires_in": str(int(ends - self._clock())),
            "access_type": "offline",
        }
        if EMAIL in token.scopes:
            body |= {"email": token.grant.account["email"], "email_verified": "true"}
        return json_reply(body)

    def _userinfo(self, request: Request) -> Reply:
        token = self._token(request, {"openid", EMAIL, PROFILE})
        if isinstance(token, Reply):
            return token
        account = token.grant.account
        body: dict[str, Any] = {"sub": account["sub"], "hd": account["hd"]}
        if EMAIL in token.scopes:
            body |= {"email": account["email"], "email_verified": True}
        if PROFILE in token.scopes:
            given, _, family = account["name"].partition(" ")
            picture = f"https://lh3.googleusercontent.com/a/{account['sub']}"
            body |= {"name": account["name"], "given_name": given, "family_name": family, "picture": picture}
        return json_reply(body)

    def _about(self, request: Request) -> Reply:
        """Of Drive's `about`, the user; `fields` must be given, and may be nested in parentheses."""
        token = self._token(request, DRIVE_SCOPES)
        if isinstance(token, Reply):
            return token
        wanted = request.query().get("fields")
        if not wanted:
            return _refusal(400, "INVALID_ARGUMENT", "required", "The 'fields' parameter is required for this method.")
        account = token.grant.account
        user = {
            "kind": "drive#user",
            "displayName": account["name"],
            "me": True,
            "permissionId": account["sub"],
            "emailAddress": account["email"],
        }
        named = set(re.findall(r"\w+", wanted.partition("(")[2])) or set(user)
        return json_reply({"user": {name: value for name, value in user.items() if name in named}})

    def _token(self, request: Request, one_of: set[str]) -> oauth.Token | Reply:
        token = self._server.bearer(request)
        if token is None:
            return _unauthenticated()
        return token if one_of & set(token.scopes) else _insufficient(sorted(one_of))


def _unauthenticated() -> Reply:
    challenge = ("WWW-Authenticate", 'Bearer realm="https://accounts.google.com/", error="invalid_token"')
    message = "Request had invalid authentication credentials. Expected OAuth 2 access token."
    place = {"location": "Authorization", "locationType": "header"}
    return _refusal(401, "UNAUTHENTICATED", "authError", message, headers=(challenge,), detail=place)


def _insufficient(scopes: Sequence[str]) -> Reply:
    challenge = f'Bearer realm="https://accounts.google.com/", error="insufficient_scope", scope="{" ".join(scopes)}"'
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        "domain": "googleapis.com",
        "metadata": {"service": "drive.googleapis.com", "method": "google.apps.drive.v3.DriveAbout.Get"},
    }
    return _refusal(
        403,
        "PERMISSION_DENIED",
        "insufficientPermissions",
        "Request had insufficient authentication scopes.",
        headers=(("WWW-Authenticate", challenge),),
        details=[info],
    )


def _refusal(
    status: int,
    name: str,
    reason: str,
    message: str,
    *,
    headers: tuple[tuple[str, str], ...] = (),
    detail: Mapping[str, str] | None = None,
    details: Sequence[Mapping[str, Any]] = (),
) -> Reply:
    error: dict[str, Any] = {
        "code": status,
        "message": message,
        "errors": [{"message": message, "domain": "global", "reason": reason, **(detail or {})}],
        "status": name,
    }
    if details:
        error["details"] = list(details)
    return json_reply({"error": error}, status=status, headers=headers)
