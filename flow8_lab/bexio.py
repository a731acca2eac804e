"""Bexio: its Keycloak realm (discovery, keys, authorize, token, introspection, revocation, userinfo) and its API.

Sources: the realm's discovery document, docs.bexio.com, Keycloak's "Securing applications". There is a refresh token
only with `offline_access`; its session ends after a year without use; a refresh gives another one, and the used one
dies. The API's refusals are in `bexio_api`.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from flow8_lab import oauth
from flow8_lab.bexio_api import Api
from flow8_lab.bexio_rules import COMPANY_NAME, REFUSALS, SCOPES, SERVICE, SIGN_IN_SCOPES, BexioSettings
from flow8_lab.clock import Clock
from flow8_lab.dialect import Asked, Declined, Dialect
from flow8_lab.effects import Journal
from flow8_lab.http import TEXT, Reply, Request, json_reply
from flow8_lab.origin import Route
from flow8_lab.standard import Standard, token_operation
from flow8_lab.validate import build

REALM = "/realms/bexio"
OIDC = f"{REALM}/protocol/openid-connect"
IDLE_S = 365 * 24 * 3600


class Bexio:
    """Bexio with one application. `login` is the origin of the realm."""

    service = SERVICE

    def __init__(self, *, login: str, clock: Clock, journal: Journal) -> None:
        self._base = f"{login}{OIDC}"
        self._issuer = f"{login}{REALM}"
        self._clock = clock
        dialect = Dialect(
            service=SERVICE,
            title="bexio",
            code=lambda: f"{uuid.uuid4()}.{uuid.uuid4()}.{uuid.uuid4()}",
            access=lambda: f"eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.{oauth.token_text(600)}",
            refresh=lambda: f"eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.{oauth.token_text(400)}",
            offline_scope="offline_access",
            single_use=True,
            refresh_lifetime_s=IDLE_S,
            issuer=self._issuer,
            refusals=REFUSALS,
        )
        self.server = Standard(
            dialect,
            self,
            clock=clock,
            journal=journal,
            client_id=str(uuid.uuid4()),
            client_secret=oauth.token_text(86),
        )
        self.api = Api(self, clock=clock)
        self.reset(BexioSettings())

    @property
    def client_id(self) -> str:
        """Our application's id there."""
        return self.server.client_id

    @property
    def client_secret(self) -> str:
        """And its secret."""
        return self.server.client_secret

    def reset(self, settings: BexioSettings) -> None:
        """As it was at the start, under `settings`."""
        self.settings = settings
        self.server.reset(settings.conduct, settings.quirks)

    def routes(self) -> list[Route]:
        """What auth.bexio.com answers to; the API has its own routes."""
        return [
            Route("GET", f"{REALM}/.well-known/openid-configuration", "discovery", self._discovery),
            Route("GET", f"{OIDC}/certs", "keys", self.server.keys),
            Route("GET", f"{OIDC}/auth", "authorize", self.server.authorize),
            Route("POST", f"{OIDC}/auth", "decide", self.server.decide),
            Route("POST", f"{OIDC}/token", token_operation, self.server.token),
            Route("POST", f"{OIDC}/token/introspect", "introspect", self._introspect),
            Route("POST", f"{OIDC}/revoke", "revoke", self._revoke),
            Route("*", f"{OIDC}/userinfo", "userinfo", self._userinfo),
        ]

    def unknown(self, request: Request) -> Reply:  # noqa: ARG002 (one answer for all)
        """Keycloak's 404."""
        return json_reply({"error": "Unable to find matching target resource method"}, status=404)

    def throttled(self, retry_after: float) -> Reply:
        """The realm's 429."""
        wait = (("Retry-After", f"{retry_after:g}"),)
        return json_reply({"error": "too_many_requests"}, status=429, headers=wait)

    def failure(self, error: str, status: int | None) -> Reply:
        """The token endpoint's error of that name."""
        usual = 401 if error in ("invalid_client", "unauthorized_client") else 400
        return json_reply({"error": error, "error_description": "The request failed"}, status=status or usual)

    def _discovery(self, _: Request) -> Reply:
        ways = {"either": ["client_secret_basic", "client_secret_post"]}
        way = self.settings.conduct.client_auth
        return json_reply(
            {
                "issuer": self._issuer,
                "authorization_endpoint": f"{self._base}/auth",
                "token_endpoint": f"{self._base}/token",
                "introspection_endpoint": f"{self._base}/token/introspect",
                "userinfo_endpoint": f"{self._base}/userinfo",
                "end_session_endpoint": f"{self._base}/logout",
                "revocation_endpoint": f"{self._base}/revoke",
                "jwks_uri": f"{self._base}/certs",
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ways.get(way, [f"client_secret_{way}"]),
                "scopes_supported": sorted(SCOPES),
                "code_challenge_methods_supported": ["plain", "S256"],
                "authorization_response_iss_parameter_supported": self.settings.conduct.callback_iss != "absent",
            }
        )

    def _revoke(self, request: Request) -> Reply:
        """200 for unknown tokens, too (RFC 7009 section 2.2)."""
        try:
            self.server.check_client(request)
        except Declined as declined:
            return self.server.refuse(declined.reason)
        self.server.revoke(request.form().get("token", ""))
        return Reply(200, b"", TEXT)

    def _introspect(self, request: Request) -> Reply:
        """RFC 7662."""
        try:
            self.server.check_client(request)
        except Declined as declined:
            return self.server.refuse(declined.reason)
        token = self.server.grants.tokens.find(request.form().get("token", ""))
        if token is None or not self.server.grants.tokens.live(token):
            return json_reply({"active": False})
        body = {"active": True, "client_id": self.server.client_id, "scope": " ".join(token.scopes)}
        return json_reply(body | {"sub": token.grant.account["sub"], "exp": int(token.expires_at or 0)})

    def _userinfo(self, request: Request) -> Reply:
        token = self.server.bearer(request)
        if token is None:
            body = {"error": "invalid_token", "error_description": "Token verification failed"}
            challenge = ("WWW-Authenticate", 'Bearer realm="bexio", error="invalid_token"')
            return json_reply(body, status=401, headers=(challenge,))
        if "openid" not in token.scopes:
            body = {"error": "insufficient_scope", "error_description": "Missing openid scope"}
            return json_reply(body, status=403)
        return json_reply(_profile(token.grant.account, token.scopes))

    # The authorize page and the token endpoint: see `flow8_lab.dialect.Hooks`

    def asked(self, query: Mapping[str, str]) -> Asked | Reply:
        uri, state = query.get("redirect_uri", ""), query.get("state")
        if query.get("client_id") != self.server.client_id:
            return _page("Client not found.")
        if not self.server.is_registered(uri):
            return _page("Invalid parameter: redirect_uri")
        scopes = tuple(dict.fromkeys(query.get("scope", "").split()))
        problem = self._problem(query, scopes)
        if problem is not None:
            error, text = problem
            return self.server.sent_back(uri, state, {"error": error, "error_description": text})
        return Asked(
            redirect_uri=uri,
            state=state,
            account=query.get("login_hint") or self.server.conduct.account,
            scopes=scopes,
            challenge=query.get("code_challenge"),
            method=query.get("code_challenge_method", "plain"),
            nonce=query.get("nonce"),
            details={"company": str(self.settings.company)},
        )

    def _problem(self, query: Mapping[str, str], scopes: Sequence[str]) -> tuple[str, str] | None:
        if query.get("response_type") != "code":
            return "unsupported_response_type", "Missing or unsupported response_type"
        unknown = sorted(set(scopes) - SCOPES)
        if unknown:
            return "invalid_scope", f"Invalid scopes: {' '.join(unknown)}"
        problem = self.server.pkce_problem(query)
        return ("invalid_request", problem) if problem else None

    def account(self, asked: Asked) -> tuple[str, Mapping[str, str]]:
        company, sub = asked.details["company"], str(uuid.uuid5(uuid.NAMESPACE_URL, asked.account.lower()))
        given, _, family = asked.account.partition("@")[0].replace(".", " ").title().partition(" ")
        account = {
            "sub": sub,
            "email": asked.account,
            "given_name": given,
            "family_name": family,
            "company_id": company,
            "company_user_id": str(1 + zlib.crc32(sub.encode()) % 90_000),
        }
        return f"{company}:{sub}", account

    def callback(self, asked: Asked, scopes: Sequence[str]) -> Mapping[str, str]:  # noqa: ARG002 (the same for all)
        return {"session_state": str(uuid.uuid4())}

    def reply(self, request: Request, grant: oauth.Grant, refresh: oauth.Token | None) -> Mapping[str, Any]:  # noqa: ARG002
        """An offline session has no end but its idling, of which Keycloak says 0."""
        lifetime_s = 0 if refresh is None or not self.settings.tell_idle else IDLE_S
        return {"refresh_expires_in": lifetime_s, "not-before-policy": 0, "session_state": str(uuid.uuid4())}

    def claims(self, grant: oauth.Grant, scopes: Sequence[str]) -> Mapping[str, Any] | None:
        if "openid" not in scopes:
            return None
        client_id = self.server.client_id
        base = {"iss": self._issuer, "aud": client_id, "azp": client_id, "typ": "ID"}
        return base | _profile(grant.account, scopes)

    def may_refresh(self, token: oauth.Token) -> None:
        """Bexio has no reason of its own to refuse."""

    def metadata(self, grant: oauth.Grant) -> Mapping[str, Any]:
        account = grant.account
        return {
            "provider_user_id": account["sub"],
            "provider_user_email": account["email"],
            "metadata": {"company_id": account["company_id"], "company_name": COMPANY_NAME},
        }

    # For the control API

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings. Raises BadControl."""
        self.settings = build(BexioSettings, changes, base=self.settings)
        self.server.apply(self.settings.conduct, self.settings.quirks)

    def secrets(self) -> list[str]:
        """Everything that may be found nowhere but here and in sealed envelopes."""
        return self.server.secrets()

    def mint(self, scopes: Sequence[str], account: str | None, expires_in: int | None) -> dict[str, Any]:
        """A grant for `settings.company` without the redirect dance, as a line for link import."""
        asked = Asked(
            redirect_uri="",
            state=None,
            account=account or self.settings.conduct.account,
            scopes=tuple(dict.fromkeys((*SIGN_IN_SCOPES, *(scopes or ("contact_show",))))),
            details={"company": str(self.settings.company)},
        )
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


def _profile(account: Mapping[str, str], scopes: Sequence[str]) -> dict[str, Any]:
    """The claims that the realm gives for the scopes; the company's are always there."""
    claims: dict[str, Any] = {
        "sub": account["sub"],
        "company_id": account["company_id"],
        "company_name": COMPANY_NAME,
        "company_user_id": int(account["company_user_id"]),
        "shard_id": "1",
    }
    if "email" in scopes:
        claims |= {"email": account["email"], "email_verified": True}
    if "profile" in scopes:
        names = {name: account[name] for name in ("given_name", "family_name")}
        claims |= names | {"gender": "male", "locale": "de_CH"}
    return claims


def _page(text: str) -> Reply:
    return oauth.page("We are sorry...", [text], status=400)
