"""Clio Manage in its four regions: OAuth2 and `who_am_i` on one origin each.

Sources: docs.developers.clio.com, "Authorization" and "Users". There is no scope: permissions belong to the
application. Access tokens live for 30 days; the refresh token does not end, works on, and is not given again. Accounts,
applications and tokens belong to their region.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flow8_lab import clio_api, oauth
from flow8_lab.clock import Clock
from flow8_lab.dialect import Asked, Conduct, Dialect, Refusals
from flow8_lab.effects import Journal
from flow8_lab.http import HTML, TEXT, Reply, Request, json_reply
from flow8_lab.origin import Route
from flow8_lab.quirks import NO_QUIRKS, Quirks
from flow8_lab.standard import Standard, token_operation
from flow8_lab.validate import build

SERVICE = "clio"
REGIONS = ("us", "eu", "ca", "au")

_INVALID_GRANT = {
    "error": "invalid_grant",
    "error_description": "The provided authorization grant is invalid, expired, revoked, does not match the "
    "redirection URI used in the authorization request, or was issued to another client.",
}
REFUSALS: Refusals = {
    "client": (401, {"error": "invalid_client"}),
    "code": (400, _INVALID_GRANT),
    "refresh": (400, _INVALID_GRANT),
}


CONDUCT = Conduct(expires_in=2_592_000, refresh_reply="omit", client_auth="post")


@dataclass(frozen=True)
class ClioSettings:
    """What the control API may change beside `Conduct` and `Quirks`.

    `permissions`: what the developer application may do, which no reply of the token endpoint says. `region`: where
    grants without the dance are made. `forbidden`: the user's role does not allow what is asked of the API.
    """

    conduct: Conduct = CONDUCT
    quirks: Quirks = NO_QUIRKS
    permissions: tuple[str, ...] = ("contacts", "documents", "matters", "users")
    region: Literal["us", "eu", "ca", "au"] = "us"
    forbidden: bool = False


class Clio:
    """All regions, with one application in each, under one id; tokens and accounts are each region's own."""

    service = SERVICE

    def __init__(self, *, clock: Clock, journal: Journal) -> None:
        self.client_id = oauth.token_text(40)
        self.client_secret = oauth.token_text(40)
        self.regions = {
            name: Region(name, clock=clock, journal=journal, client=(self.client_id, self.client_secret))
            for name in REGIONS
        }
        self.reset(ClioSettings())

    def reset(self, settings: ClioSettings) -> None:
        """As it was at the start, under `settings`."""
        self.settings = settings
        for region in self.regions.values():
            region.server.reset(settings.conduct, settings.quirks)
            region.settings = settings

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings of all regions. Raises BadControl."""
        self.settings = build(ClioSettings, changes, base=self.settings)
        for region in self.regions.values():
            region.server.apply(self.settings.conduct, self.settings.quirks)
            region.settings = self.settings

    def secrets(self) -> list[str]:
        """Everything that may be found nowhere but here and in sealed envelopes."""
        return [secret for region in self.regions.values() for secret in region.server.secrets()]

    def mint(self, scopes: Sequence[str], account: str | None, expires_in: int | None) -> dict[str, Any]:
        """A grant in `settings.region` without the redirect dance, as a line for link import."""
        asked = Asked(
            redirect_uri="",
            state=None,
            account=account or self.settings.conduct.account,
            scopes=tuple(scopes) or self.settings.permissions,
        )
        return self.regions[self.settings.region].server.mint(asked, expires_in)

    def expire(self, *, refresh: bool) -> int:
        """Let the access tokens end now; refresh tokens have no end."""
        return sum(region.server.grants.expire(refresh=refresh) for region in self.regions.values())

    def revoke(self) -> int:
        """Every user takes the grant back."""
        return sum(region.server.grants.revoke_all() for region in self.regions.values())

    def grants(self) -> list[dict[str, Any]]:
        """The grants, without their tokens."""
        return [grant for region in self.regions.values() for grant in region.server.grants.describe()]


class Region:
    """One region's origin: its OAuth2 server and its API."""

    def __init__(self, name: str, *, clock: Clock, journal: Journal, client: tuple[str, str]) -> None:
        self._name = name
        self._clock = clock
        self.settings = ClioSettings()
        dialect = Dialect(
            service=SERVICE,
            title="Clio",
            code=lambda: oauth.token_text(40),
            access=lambda: f"{secrets.randbelow(10**5)}-{oauth.token_text(40)}",
            refresh=lambda: oauth.token_text(43),
            token_type="bearer",  # noqa: S106 (a word)
            pkce=False,
            scope_in_reply=False,
            refusals=REFUSALS,
        )
        self.server = Standard(
            dialect, self, clock=clock, journal=journal, client_id=client[0], client_secret=client[1]
        )

    def routes(self) -> list[Route]:
        """What it answers to."""
        return [
            Route("GET", "/oauth/authorize", "authorize", self.server.authorize),
            Route("POST", "/oauth/authorize", "decide", self.server.decide),
            Route("POST", "/oauth/token", token_operation, self.server.token),
            Route("POST", "/oauth/deauthorize", "revoke", self._deauthorize),
            Route("GET", "/api/v4/users/who_am_i.json", "who_am_i", self._who_am_i),
            Route("GET", "/api/v4/users/who_am_i", "who_am_i", self._who_am_i),
        ]

    def unknown(self, request: Request) -> Reply:
        """A 404 of the API, or of the site."""
        return self._error(404) if request.path.startswith("/api/") else Reply(404, b"<h1>404</h1>", HTML)

    def throttled(self, retry_after: float) -> Reply:
        """Clio's 429."""
        return self._error(429, ("Retry-After", f"{retry_after:g}"), remaining=0)

    def failure(self, error: str, status: int | None) -> Reply:
        """An OAuth2 error of that name, or an API error where it is one of Clio's types ("ForbiddenError")."""
        for known, (name, _) in clio_api.ERRORS.items():
            if name == error:
                return self._error(status or known)
        return json_reply({"error": error}, status=status or (401 if error == "invalid_client" else 400))

    # The authorize page and the token endpoint: see `flow8_lab.dialect.Hooks`

    def asked(self, query: Mapping[str, str]) -> Asked | Reply:
        uri = query.get("redirect_uri", "")
        if query.get("client_id") != self.server.client_id:
            return _page("Client authentication failed due to unknown client.")
        if not self.server.is_registered(uri):
            return _page("The redirect uri included is not valid.")
        if query.get("response_type") != "code":
            return self.server.sent_back(uri, query.get("state"), {"error": "unsupported_response_type"})
        return Asked(
            redirect_uri=uri,
            state=query.get("state"),
            account=self.server.conduct.account,
            scopes=self.settings.permissions,
            leads_back=query.get("redirect_on_decline") == "true",
        )

    def account(self, asked: Asked) -> tuple[str, Mapping[str, str]]:
        id_ = str(10_000_000 + zlib.crc32(f"{self._name}/{asked.account.lower()}".encode()) % 80_000_000)
        name = asked.account.partition("@")[0].replace(".", " ").title()
        account = {"id": id_, "email": asked.account, "name": name, "region": self._name, "account_id": f"{id_[:5]}01"}
        return f"{self._name}:{id_}", account

    def callback(self, asked: Asked, scopes: Sequence[str]) -> Mapping[str, str]:  # noqa: ARG002 (nothing more)
        return {}

    def reply(self, request: Request, grant: oauth.Grant, refresh: oauth.Token | None) -> Mapping[str, Any]:  # noqa: ARG002
        return {}

    def claims(self, grant: oauth.Grant, scopes: Sequence[str]) -> Mapping[str, Any] | None:  # noqa: ARG002 (no OIDC)
        return None

    def may_refresh(self, token: oauth.Token) -> None:
        """Clio has no reason of its own to refuse."""

    def metadata(self, grant: oauth.Grant) -> Mapping[str, Any]:
        account = grant.account
        return {
            "provider_user_id": account["id"],
            "provider_user_email": account["email"],
            "metadata": {"region": account["region"], "account_id": account["account_id"]},
        }

    # Endpoints of its own

    def _deauthorize(self, request: Request) -> Reply:
        """Ends the grant of a live access token that is shown as bearer and named in the form."""
        token = self.server.bearer(request)
        if token is None or request.form().get("token") != token.value:
            return self._error(401)
        self.server.revoke(token.value)
        return Reply(200, b"", TEXT)

    def _who_am_i(self, request: Request) -> Reply:
        token = self.server.bearer(request)
        if token is not None and (self.settings.forbidden or "users" not in token.scopes):
            return self._error(403)
        return clio_api.who_am_i(request, None if token is None else token.grant.account, now=self._now())

    def _error(self, status: int, *headers: tuple[str, str], remaining: int = clio_api.LIMIT_PER_MINUTE - 1) -> Reply:
        limits = clio_api.limits(remaining, now=self._now())
        return clio_api.refusal(status, headers=(*headers, *limits))

    def _now(self) -> float:
        return self._clock() + self.settings.quirks.clock_skew_s


def _page(text: str) -> Reply:
    return oauth.page("An error has occurred", [text], status=400)
