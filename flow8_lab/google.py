"""Google: the authorize page, the token endpoint, revocation and tokeninfo; the APIs are in `google_apis`.

Sources: developers.google.com, "Using OAuth 2.0 for Web Server Applications", "OpenID Connect". A refresh token comes
with the first consent, later only with `prompt=consent`; a refresh gives none; revoking any token of an account ends
all that the account granted.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from flow8_lab import oauth
from flow8_lab.clock import Clock
from flow8_lab.dialect import Asked, Declined, Dialect
from flow8_lab.effects import Journal
from flow8_lab.google_apis import Apis
from flow8_lab.google_rules import ALIASES, API_SCOPE, IDLE_S, REFUSALS, SCOPES, SERVICE, TESTING_S, GoogleSettings
from flow8_lab.http import HTML, Reply, Request, json_reply
from flow8_lab.origin import Route
from flow8_lab.standard import Standard, token_operation
from flow8_lab.validate import build


class Google:
    """Google with one application. `accounts` and `apis` are the origins (`https://host:port`) of the accounts' and of
    the APIs' hosts."""

    service = SERVICE

    def __init__(self, *, accounts: str, apis: str, clock: Clock, journal: Journal) -> None:
        self._accounts = accounts
        self._apis_origin = apis
        self._clock = clock
        dialect = Dialect(
            service=SERVICE,
            title="Google",
            code=lambda: f"4/0A{oauth.token_text(72)}",
            access=lambda: f"ya29.a0{oauth.token_text(200)}",
            refresh=lambda: f"1//0{oauth.token_text(98)}",
            refresh_lifetime_s=IDLE_S,
            issuer=accounts,
            refusals=REFUSALS,
        )
        number = 10**11 + secrets.randbelow(9 * 10**11)
        self.server = Standard(
            dialect,
            self,
            clock=clock,
            journal=journal,
            client_id=f"{number}-{secrets.token_hex(16)}.apps.googleusercontent.com",
            client_secret=f"GOCSPX-{oauth.token_text(28)}",
        )
        self.apis = Apis(self.server, clock=clock)
        self.reset(GoogleSettings())

    @property
    def client_id(self) -> str:
        """Our application's id there."""
        return self.server.client_id

    @property
    def client_secret(self) -> str:
        """And its secret."""
        return self.server.client_secret

    def reset(self, settings: GoogleSettings) -> None:
        """As it was at the start, under `settings`."""
        self.settings = settings
        self.server.reset(settings.conduct, settings.quirks)

    def routes(self) -> list[Route]:
        """What accounts.google.com and oauth2.googleapis.com answer to, on one origin."""
        return [
            Route("GET", "/.well-known/openid-configuration", "discovery", self._discovery),
            Route("GET", "/o/oauth2/v2/auth", "authorize", self.server.authorize),
            Route("POST", "/o/oauth2/v2/auth", "decide", self.server.decide),
            Route("POST", "/token", token_operation, self.server.token),
            Route("POST", "/revoke", "revoke", self._revoke),
            Route("*", "/tokeninfo", "tokeninfo", self.apis.tokeninfo),
        ]

    def unknown(self, request: Request) -> Reply:  # noqa: ARG002 (one page for all)
        """Google's 404."""
        return Reply(404, b"<title>Error 404 (Not Found)!!1</title>", HTML)

    def throttled(self, retry_after: float) -> Reply:
        """The token endpoint's 429."""
        body = {"error": "rate_limit_exceeded", "error_description": "Rate Limit Exceeded"}
        return json_reply(body, status=429, headers=(("Retry-After", f"{retry_after:g}"),))

    def failure(self, error: str, status: int | None) -> Reply:
        """The token endpoint's error of that name."""
        usual = {"invalid_client": 401, "deleted_client": 401, "internal_failure": 500}.get(error, 400)
        return json_reply({"error": error, "error_description": "Bad Request"}, status=status or usual)

    def _discovery(self, _: Request) -> Reply:
        return json_reply(
            {
                "issuer": self._accounts,
                "authorization_endpoint": f"{self._accounts}/o/oauth2/v2/auth",
                "token_endpoint": f"{self._accounts}/token",
                "userinfo_endpoint": f"{self._apis_origin}/v1/userinfo",
                "revocation_endpoint": f"{self._accounts}/revoke",
                "jwks_uri": f"{self._apis_origin}/oauth2/v3/certs",
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid", "email", "profile"],
                "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
                "code_challenge_methods_supported": ["plain", "S256"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
            }
        )

    def _revoke(self, request: Request) -> Reply:
        """Needs no client: whoever has a token may give it back. It takes the account's whole grant with it."""
        if self.server.revoke(request.form().get("token", "")) is None:
            body = {"error": "invalid_token", "error_description": "Token expired or revoked"}
            return json_reply(body, status=400)
        return json_reply({})

    # The authorize page and the token endpoint: see `flow8_lab.dialect.Hooks`

    def asked(self, query: Mapping[str, str]) -> Asked | Reply:
        uri = query.get("redirect_uri", "")
        if query.get("client_id") != self.server.client_id:
            return _page("Error 401: invalid_client", "The OAuth client was not found.")
        if not self.server.is_registered(uri):
            return _page("Error 400: redirect_uri_mismatch", f"You can't sign in: {uri} is not registered.")
        scopes = tuple(dict.fromkeys(ALIASES.get(scope, scope) for scope in query.get("scope", "").split()))
        problem = self._problem(query, scopes)
        if problem is not None:
            return _page(*problem)
        email = query.get("login_hint") or self.server.conduct.account
        known = self.server.grants.find(_sub(email))
        if known is not None and query.get("include_granted_scopes") == "true":
            scopes = tuple(dict.fromkeys((*scopes, *sorted(known.scopes))))
        again = known is not None and "consent" not in query.get("prompt", "").split()
        return Asked(
            redirect_uri=uri,
            state=query.get("state"),
            account=email,
            scopes=scopes,
            challenge=query.get("code_challenge"),
            method=query.get("code_challenge_method", "plain"),
            nonce=query.get("nonce"),
            offline=query.get("access_type") == "offline" and not again,
        )

    def _problem(self, query: Mapping[str, str], scopes: Sequence[str]) -> tuple[str, str] | None:
        """What Google shows on a page: it does not lead back."""
        if query.get("response_type") != "code":
            return "Error 400: invalid_request", "Required parameter is missing: response_type"
        if not scopes:
            return "Error 400: invalid_request", "Missing required parameter: scope"
        unknown = sorted(set(scopes) - SCOPES)
        if unknown:
            return "Error 400: invalid_scope", f"Some requested scopes were invalid: {', '.join(unknown)}"
        problem = self.server.pkce_problem(query)
        return ("Error 400: invalid_request", problem) if problem else None

    def account(self, asked: Asked) -> tuple[str, Mapping[str, str]]:
        sub = _sub(asked.account)
        name, _, domain = asked.account.partition("@")
        return sub, {"sub": sub, "email": asked.account, "name": name.replace(".", " ").title(), "hd": domain}

    def callback(self, asked: Asked, scopes: Sequence[str]) -> Mapping[str, str]:  # noqa: ARG002 (the same for all)
        return {"scope": " ".join(scopes), "authuser": "0", "prompt": "consent"}

    def reply(self, request: Request, grant: oauth.Grant, refresh: oauth.Token | None) -> Mapping[str, Any]:  # noqa: ARG002
        """Where access is for a time only, how long the refresh token lives; and the oldest of too many dies."""
        self._limit(grant)
        if refresh is None or not self.settings.testing:
            return {}
        refresh.expires_at = min(refresh.expires_at or 0, refresh.issued_at + TESTING_S)
        return {"refresh_token_expires_in": int(refresh.expires_at - self._clock())}

    def _limit(self, grant: oauth.Grant) -> None:
        tokens = self.server.grants.tokens
        live = [t for t in tokens.all() if t.grant is grant and t.kind == "refresh" and tokens.live(t)]
        for token in live[: max(0, len(live) - self.settings.most_refresh_tokens)]:
            token.revoked = True

    def claims(self, grant: oauth.Grant, scopes: Sequence[str]) -> Mapping[str, Any] | None:
        if "openid" not in scopes:
            return None
        account, client_id = grant.account, self.server.client_id
        claims: dict[str, Any] = {
            "iss": self._accounts,
            "azp": client_id,
            "aud": client_id,
            "sub": account["sub"],
            "hd": account["hd"],
        }
        if ALIASES["email"] in scopes:
            claims |= {"email": account["email"], "email_verified": True}
        if ALIASES["profile"] in scopes:
            claims |= {"name": account["name"]}
        return claims

    def may_refresh(self, token: oauth.Token) -> None:  # noqa: ARG002 (all tokens alike)
        if self.settings.session_control:
            raise Declined("refresh.session")

    def metadata(self, grant: oauth.Grant) -> Mapping[str, Any]:
        account = grant.account
        return {
            "provider_user_id": account["sub"],
            "provider_user_email": account["email"],
            "metadata": {"hd": account["hd"]},
        }

    # For the control API

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings. Raises BadControl."""
        self.settings = build(GoogleSettings, changes, base=self.settings)
        self.server.apply(self.settings.conduct, self.settings.quirks)

    def secrets(self) -> list[str]:
        """Everything that may be found nowhere but here and in sealed envelopes."""
        return self.server.secrets()

    def mint(self, scopes: Sequence[str], account: str | None, expires_in: int | None) -> dict[str, Any]:
        """A grant without the redirect dance, as a line for link import."""
        wanted = scopes or ("openid", "email", "drive.file")
        full = tuple(ALIASES.get(s, s if s in SCOPES else f"{API_SCOPE}{s}") for s in wanted)
        asked = Asked(redirect_uri="", state=None, account=account or self.settings.conduct.account, scopes=full)
        return self.server.mint(asked, expires_in)

    def expire(self, *, refresh: bool) -> int:
        """Let the access tokens end now, or the refresh tokens."""
        return self.server.grants.expire(refresh=refresh)

    def revoke(self) -> int:
        """Every user takes the grant back."""
        return self.server.grants.revoke_all()

    def grants(self) -> list[dict[str, Any]]:
        """The grants, without their tokens."""
        return self.server.grants.describe()


def _page(title: str, text: str) -> Reply:
    return oauth.page(title, [text], status=400)


def _sub(email: str) -> str:
    """The account's number, which stays when the address changes; here it follows from it."""
    return f"1{zlib.crc32(email.lower().encode()):020d}"
