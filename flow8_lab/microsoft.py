"""Microsoft: Entra ID's endpoints (discovery, keys, authorize, token) and, on an origin of its own, Graph.

Sources: Microsoft identity platform, "OAuth 2.0 authorization code flow" and "Authentication and authorization error
codes". There is no revoke endpoint: calling one is a 404.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from flow8_lab import aadsts, oauth
from flow8_lab.aadsts import Aadsts
from flow8_lab.clock import Clock
from flow8_lab.effects import Journal
from flow8_lab.entra import SERVICE, Directory, MicrosoftSettings, canonical_scope
from flow8_lab.graph import Graph
from flow8_lab.http import HTML, Reply, Request, json_reply, redirect
from flow8_lab.id_tokens import IdTokens
from flow8_lab.origin import Route
from flow8_lab.quirks import token_answer
from flow8_lab.validate import build

TENANTS = frozenset({"common", "organizations", "consumers"})


@dataclass(frozen=True, slots=True)
class _Asked:
    """A valid authorize request."""

    redirect_uri: str
    state: str | None
    scopes: tuple[str, ...]
    challenge: str
    nonce: str | None
    account: str


class Microsoft:
    """One Entra tenant, one application and its users' calendars. The origins are `https://host:port`."""

    service = SERVICE

    def __init__(self, *, authority: str, graph_origin: str, clock: Clock, journal: Journal) -> None:
        self._authority = authority
        self._graph_origin = graph_origin
        self._clock = clock
        self._id_tokens = IdTokens(clock)
        self.graph = Graph(origin=graph_origin, clock=clock, journal=journal)
        self.client_id = str(uuid.uuid4())
        self.client_secret = f"lab8Q~{secrets.token_urlsafe(26)}"
        self.reset(MicrosoftSettings())

    def reset(self, settings: MicrosoftSettings) -> None:
        """As it was at the start, under `settings`."""
        self.settings = settings
        self.directory = Directory(
            settings,
            authority=self._authority,
            client_id=self.client_id,
            clock=self._clock,
            id_tokens=self._id_tokens,
        )
        self.graph.reset(settings, self.directory.tokens)

    def routes(self) -> list[Route]:
        """What Entra's origin answers to; Graph has its own routes."""
        base = "/{tenant}/oauth2/v2.0"
        return [
            Route("GET", "/{tenant}/v2.0/.well-known/openid-configuration", "discovery", self._discovery),
            Route("GET", "/{tenant}/discovery/v2.0/keys", "keys", self._keys),
            Route("GET", f"{base}/authorize", "authorize", self._authorize),
            Route("POST", f"{base}/authorize", "decide", self._decide),
            Route("POST", f"{base}/token", _token_operation, self._token),
        ]

    def unknown(self, request: Request) -> Reply:  # noqa: ARG002 (one page for all)
        """Entra's 404: among others for the revoke endpoint that it does not have."""
        return Reply(404, b"<h1>404 - File or directory not found.</h1>", HTML)

    def throttled(self, retry_after: float) -> Reply:
        """Entra's 429 (AADSTS90055)."""
        return self._refuse(90055, retry_after=retry_after)

    def failure(self, error: str, status: int | None) -> Reply:
        """The AADSTS error whose number is `error`, or the OAuth2 error of that name."""
        if error.isdecimal():
            return self._refuse(int(error), status=status)
        return self._refuse(0, status=status, error=error)

    def _refuse(
        self, code: int, *, status: int | None = None, error: str | None = None, retry_after: float | None = None
    ) -> Reply:
        return aadsts.refusal(
            code,
            status=status,
            error=error,
            retry_after=retry_after,
            authority=self._authority,
            stamp=self._clock.stamp(),
        )

    # Metadata

    def _knows_tenant(self, request: Request) -> bool:
        return request.params["tenant"].lower() in TENANTS | {self.settings.tenant.lower()}

    def _discovery(self, request: Request) -> Reply:
        if not self._knows_tenant(request):
            return self._refuse(90002)
        tenant = request.params["tenant"]
        own = tenant == self.settings.tenant
        base = f"{self._authority}/{tenant}"
        return json_reply(
            {
                "issuer": f"{self._authority}/{tenant if own else '{tenantid}'}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
                "userinfo_endpoint": f"{self._graph_origin}/oidc/userinfo",
                "end_session_endpoint": f"{base}/oauth2/v2.0/logout",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
                "response_modes_supported": ["query"],
                "response_types_supported": ["code"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "tenant_region_scope": None,
                "cloud_instance_name": "flow8.lab",
                "cloud_graph_host_name": self._graph_origin.removeprefix("https://"),
                "msgraph_host": self._graph_origin.removeprefix("https://"),
            }
        )

    def _keys(self, request: Request) -> Reply:
        if not self._knows_tenant(request):
            return self._refuse(90002)
        issuer = f"{self._authority}/{{tenantid}}/v2.0"
        return json_reply({"keys": [{**key, "issuer": issuer} for key in self._id_tokens.keys(self.settings.quirks)]})

    # Authorize

    def _authorize(self, request: Request) -> Reply:
        asked = self._asked(request, request.query())
        if isinstance(asked, Reply):
            return asked
        if self.settings.deny:
            return self._denied(asked)
        if self.settings.auto_approve:
            return self._approved(asked)
        return oauth.consent_page("Microsoft", asked.account, asked.scopes, request)

    def _decide(self, request: Request) -> Reply:
        form = request.form()
        asked = self._asked(request, dict(parse_qsl(form.get("request", ""), keep_blank_values=True)))
        if isinstance(asked, Reply):
            return asked
        return self._approved(asked) if form.get("decision") == "approve" else self._denied(asked)

    def _asked(self, request: Request, query: Mapping[str, str]) -> _Asked | Reply:
        """The request; a page where client or redirect URI is wrong, and a redirect with the error where they hold."""
        if not self._knows_tenant(request):
            return _wrong("AADSTS90002: Tenant not found.")
        if query.get("client_id", "").lower() != self.client_id:
            return _wrong("AADSTS700016: Application was not found in the directory.")
        uri = query.get("redirect_uri", "")
        if not self._is_registered(uri):
            return _wrong(f"AADSTS50011: The redirect URI '{uri}' does not match the redirect URIs of the application.")
        asked = query.get("scope", "").split()
        problem = _problem(query, asked)
        if problem is not None:
            error, text = problem
            answer = {"error": error, "error_description": text, "state": query.get("state")}
            return redirect(oauth.callback(uri, answer))
        scopes = tuple(dict.fromkeys(filter(None, map(canonical_scope, asked))))
        account = query.get("login_hint") or self.settings.account
        return _Asked(uri, query.get("state"), scopes, query["code_challenge"], query.get("nonce"), account)

    def _is_registered(self, uri: str) -> bool:
        registered = self.settings.redirect_uris
        return oauth.is_usable_redirect(uri) if registered is None else uri in registered

    def _approved(self, asked: _Asked) -> Reply:
        code = self.directory.code(
            asked.account,
            redirect_uri=asked.redirect_uri,
            scopes=asked.scopes,
            challenge=asked.challenge,
            nonce=asked.nonce,
        )
        answer = {"code": code, "state": asked.state, "session_state": str(uuid.uuid4())}
        return redirect(oauth.callback(asked.redirect_uri, answer))

    def _denied(self, asked: _Asked) -> Reply:
        answer = {
            "error": self.settings.quirks.deny_error,
            "error_subcode": "cancel",
            "error_description": "AADSTS65004: User declined to consent to access the app.",
            "state": asked.state,
        }
        return redirect(oauth.callback(asked.redirect_uri, answer))

    # Token

    def _token(self, request: Request) -> Reply:
        form = request.form()
        try:
            self._check_client(request)
            body = self._granted(form)
            answer, refused = json_reply(body, headers=(("Cache-Control", "no-store, no-cache"),)), False
        except Aadsts as error:
            answer, refused = self._refuse(error.code), True
        return token_answer(answer, self.settings.quirks, self._clock, refused=refused)

    def _granted(self, form: Mapping[str, str]) -> dict[str, Any]:
        match form.get("grant_type"):
            case "authorization_code":
                return self.directory.exchange(form)
            case "refresh_token":
                return self.directory.refresh(form)
            case _:
                raise Aadsts(70003)

    def _check_client(self, request: Request) -> None:
        if not self._knows_tenant(request):
            raise Aadsts(90002)
        client_id, client_secret = oauth.client_credentials(request)
        if client_id.lower() != self.client_id:
            raise Aadsts(700016)
        if client_secret is None:
            raise Aadsts(7000218)
        if not oauth.same(client_secret, self.client_secret):
            raise Aadsts(7000215)
        if self.settings.quirks.app != "good":
            raise Aadsts(7000222 if self.settings.quirks.app == "secret_expired" else 7000112)

    # For the control API

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings. Raises BadControl."""
        self.settings = build(MicrosoftSettings, changes, base=self.settings)
        self.directory.settings = self.graph.settings = self.settings

    def secrets(self) -> list[str]:
        """Everything that may be found nowhere but here and in sealed envelopes."""
        return [self.client_secret, *self.directory.secrets()]

    def mint(self, scopes: Sequence[str], account: str | None, expires_in: int | None) -> dict[str, Any]:
        """A grant without the redirect dance, as a line for `flow8 link import`."""
        return self.directory.mint(scopes, account, expires_in)

    def expire(self, *, refresh: bool) -> int:
        """Let the access tokens end now, or the refresh tokens."""
        return self.directory.tokens.expire("refresh" if refresh else "access")

    def revoke(self) -> int:
        """An administrator revokes the sessions of all users."""
        return self.directory.revoke()

    def grants(self) -> list[dict[str, Any]]:
        """The grants, without their tokens."""
        return self.directory.describe()


def _problem(query: Mapping[str, str], scopes: Sequence[str]) -> tuple[str, str] | None:
    """What is wrong with an authorize request, as (error, description): beyond Entra's own rules, what we promise of
    ourselves, PKCE with S256 and a nonce wherever an id_token is asked for."""
    if query.get("response_type") != "code":
        return "unsupported_response_type", "AADSTS700051: response_type is not enabled for the application."
    if query.get("response_mode", "query") != "query":
        return "invalid_request", "AADSTS70002: response_mode must be query."
    if not scopes:
        return "invalid_request", "AADSTS900144: The request body must contain the following parameter: 'scope'."
    unknown = [scope for scope in scopes if canonical_scope(scope) is None]
    if unknown:
        return "invalid_client", f"AADSTS650053: The application asked for scope '{unknown[0]}' that doesn't exist."
    challenge = query.get("code_challenge", "")
    if query.get("code_challenge_method") != "S256" or not re.fullmatch(r"[A-Za-z0-9_-]{43}", challenge):
        return "invalid_request", "AADSTS501491: Invalid size or method of Code_Challenge parameter."
    if "openid" in scopes and not query.get("nonce"):
        return "invalid_request", "AADSTS90014: The required field 'nonce' is missing."
    return None


def _wrong(text: str) -> Reply:
    return oauth.page("Sorry, but we're having trouble signing you in.", [text], status=400)


def _token_operation(request: Request) -> str:
    return "token.refresh" if request.form().get("grant_type") == "refresh_token" else "token.exchange"
