"""QuickBooks Online: Intuit's authorize page, token endpoint and revocation; the APIs are in `quickbooks_api`.

Sources: developer.intuit.com, "OAuth 2.0", "OpenID Connect". The company (realm) stands in the callback and nowhere
else. Access tokens live for an hour. The refresh token changes once it is a day old, and the last one stops
working; it ends after 100 days without use, and five years after the consent at the latest.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flow8_lab import oauth
from flow8_lab.clock import Clock
from flow8_lab.dialect import Asked, Conduct, Declined, Dialect, Refusals
from flow8_lab.effects import Journal
from flow8_lab.http import HTML, Reply, Request, json_reply
from flow8_lab.origin import Route
from flow8_lab.quickbooks_api import Api
from flow8_lab.quirks import NO_QUIRKS, Quirks
from flow8_lab.standard import Standard, token_operation
from flow8_lab.validate import build

SERVICE = "quickbooks"
IDLE_S = 8_726_400
HARD_S = 5 * 365 * 24 * 3600
ACCOUNTING = "com.intuit.quickbooks.accounting"
SCOPES = frozenset({ACCOUNTING, "com.intuit.quickbooks.payment", "openid", "profile", "email", "phone", "address"})

REFUSALS: Refusals = {
    "client": (401, {"error": "invalid_client"}),
    "code": (400, {"error": "invalid_grant"}),
    "refresh": (400, {"error": "invalid_grant", "error_description": "Incorrect or invalid refresh token"}),
}

# Intuit asks for the secret by HTTP Basic, and changes a refresh token when it is a day old
CONDUCT = Conduct(client_auth="basic", rotate_after_s=86_400.0)


@dataclass(frozen=True)
class QuickBooksSettings:
    """What the control API may change beside `Conduct` and `Quirks`.

    `realm`: the company that the user picks. `sandbox`: it is one of the sandbox, so that only the sandbox's API knows
    it. `hard_lifetime_s`: how long after the consent the grant ends, whatever happens. `answer_in_xml`: the API refuses
    in XML though JSON was asked for. `no_access`: the user may not use QuickBooks any more.
    """

    conduct: Conduct = CONDUCT
    quirks: Quirks = NO_QUIRKS
    realm: str = "9341453474484455"
    sandbox: bool = False
    hard_lifetime_s: float = HARD_S
    answer_in_xml: bool = False
    no_access: bool = False


class QuickBooks:
    """Intuit with one application. `login` is the origin of its login, `api` and `sandbox` those of the two APIs."""

    service = SERVICE

    def __init__(self, *, login: str, api: str, sandbox: str, clock: Clock, journal: Journal) -> None:
        self._login = login
        self._api_origin = {"production": api, "sandbox": sandbox}
        self._clock = clock
        self._issuer = f"{login}/op/v1"
        dialect = Dialect(
            service=SERVICE,
            title="QuickBooks",
            code=lambda: f"AB{secrets.randbelow(10**17):017d}{oauth.token_text(32)}",
            access=lambda: f"eyJlbmMiOiJBMTI4Q0JDLUhTMjU2IiwiYWxnIjoiZGlyIn0..{oauth.token_text(400)}",
            refresh=lambda: f"RT1-{secrets.randbelow(1000)}-H0-{oauth.token_text(60)}",
            token_type="bearer",  # noqa: S106 (a word)
            pkce=False,
            single_use=True,
            refresh_lifetime_s=IDLE_S,
            scope_in_reply=False,
            issuer=self._issuer,
            refusals=REFUSALS,
        )
        self.server = Standard(
            dialect,
            self,
            clock=clock,
            journal=journal,
            client_id=f"AB{oauth.token_text(48)}",
            client_secret=oauth.token_text(40),
        )
        self.apis = {name: Api(self, sandbox=name == "sandbox", clock=clock) for name in self._api_origin}
        self.reset(QuickBooksSettings())

    @property
    def client_id(self) -> str:
        """Our application's id there."""
        return self.server.client_id

    @property
    def client_secret(self) -> str:
        """And its secret."""
        return self.server.client_secret

    def reset(self, settings: QuickBooksSettings) -> None:
        """As it was at the start, under `settings`."""
        self.settings = settings
        self.server.reset(settings.conduct, settings.quirks)

    def routes(self) -> list[Route]:
        """What appcenter, oauth.platform and developer.api.intuit.com answer to, on one origin."""
        return [
            Route("GET", "/.well-known/openid_configuration", "discovery", lambda _: self._discovery("production")),
            Route("GET", "/.well-known/openid_configuration/", "discovery", lambda _: self._discovery("production")),
            Route(
                "GET", "/.well-known/openid_sandbox_configuration", "discovery", lambda _: self._discovery("sandbox")
            ),
            Route(
                "GET", "/.well-known/openid_sandbox_configuration/", "discovery", lambda _: self._discovery("sandbox")
            ),
            Route("GET", "/op/v1/jwks", "keys", self.server.keys),
            Route("GET", "/connect/oauth2", "authorize", self.server.authorize),
            Route("POST", "/connect/oauth2", "decide", self.server.decide),
            Route("POST", "/oauth2/v1/tokens/bearer", token_operation, self.server.token),
            Route("POST", "/v2/oauth2/tokens/revoke", "revoke", self._revoke),
        ]

    def unknown(self, request: Request) -> Reply:  # noqa: ARG002 (one page for all)
        """Intuit's 404."""
        return Reply(404, b"<h1>Not Found</h1>", HTML)

    def throttled(self, retry_after: float) -> Reply:
        """The token endpoint's 429."""
        wait = (("Retry-After", f"{retry_after:g}"),)
        return json_reply({"error": "too_many_requests"}, status=429, headers=wait)

    def failure(self, error: str, status: int | None) -> Reply:
        """The token endpoint's error of that name."""
        return json_reply({"error": error}, status=status or (401 if error == "invalid_client" else 400))

    def _discovery(self, environment: str) -> Reply:
        return json_reply(
            {
                "issuer": self._issuer,
                "authorization_endpoint": f"{self._login}/connect/oauth2",
                "token_endpoint": f"{self._login}/oauth2/v1/tokens/bearer",
                "userinfo_endpoint": f"{self._api_origin[environment]}/v1/openid_connect/userinfo",
                "revocation_endpoint": f"{self._login}/v2/oauth2/tokens/revoke",
                "jwks_uri": f"{self._issuer}/jwks",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid", "email", "profile", "address", "phone"],
                "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
                "claims_supported": ["aud", "exp", "iat", "iss", "realmid", "sub"],
            }
        )

    def _revoke(self, request: Request) -> Reply:
        """JSON with the token, and the client by HTTP Basic."""
        try:
            self.server.check_client(request)
            value = request.json().get("token")
        except Declined as declined:
            return self.server.refuse(declined.reason)
        except (ValueError, AttributeError):
            value = None
        if not isinstance(value, str) or self.server.revoke(value) is None:
            return json_reply({"error": "invalid_request"}, status=400)
        return Reply(200, b"")

    # The authorize page and the token endpoint: see `flow8_lab.dialect.Hooks`

    def asked(self, query: Mapping[str, str]) -> Asked | Reply:
        uri, scopes = query.get("redirect_uri", ""), tuple(dict.fromkeys(query.get("scope", "").split()))
        if query.get("client_id") != self.server.client_id:
            return _page("The client_id is unknown.")
        if not self.server.is_registered(uri):
            return _page("The redirect_uri query parameter value is invalid.")
        if query.get("response_type") != "code" or not query.get("state"):
            return _page("The response_type and state query parameters are required.")
        if not scopes or set(scopes) - SCOPES:
            return self.server.sent_back(uri, query["state"], {"error": "invalid_scope"})
        return Asked(
            redirect_uri=uri,
            state=query["state"],
            account=self.server.conduct.account,
            scopes=scopes,
            nonce=query.get("nonce"),
            details={"realm": self.settings.realm},
        )

    def account(self, asked: Asked) -> tuple[str, Mapping[str, str]]:
        sub, realm = str(uuid.uuid5(uuid.NAMESPACE_URL, asked.account.lower())), asked.details["realm"]
        name = asked.account.partition("@")[0].replace(".", " ").title()
        environment = "sandbox" if self.settings.sandbox else "production"
        account = {"sub": sub, "email": asked.account, "name": name, "realm": realm, "environment": environment}
        return f"{realm}:{sub}", account

    def callback(self, asked: Asked, scopes: Sequence[str]) -> Mapping[str, str]:
        return {"realmId": asked.details["realm"]} if ACCOUNTING in scopes else {}

    def reply(self, request: Request, grant: oauth.Grant, refresh: oauth.Token | None) -> Mapping[str, Any]:
        now = self._clock()
        hard_s = grant.began_at + self.settings.hard_lifetime_s - now
        body: dict[str, Any] = {}
        if refresh is not None:
            refresh.expires_at = min(refresh.expires_at or now, now + hard_s)
            body["x_refresh_token_expires_in"] = int(refresh.expires_at - now)
        if request.headers.get("x-include-refresh-token-hard-expires-in") == "true":
            body["x_refresh_token_hard_expires_in"] = int(hard_s)
        return body

    def claims(self, grant: oauth.Grant, scopes: Sequence[str]) -> Mapping[str, Any] | None:
        if "openid" not in scopes:
            return None
        account = grant.account
        aud = [self.server.client_id]
        return {"iss": self._issuer, "aud": aud, "sub": account["sub"], "realmid": account["realm"]}

    def may_refresh(self, token: oauth.Token) -> None:
        """Intuit has no reason of its own to refuse."""

    def metadata(self, grant: oauth.Grant) -> Mapping[str, Any]:
        account = grant.account
        return {
            "provider_user_id": account["realm"],
            "provider_user_email": account["email"],
            "metadata": {"realm_id": account["realm"], "environment": account["environment"]},
        }

    # For the control API

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings. Raises BadControl."""
        self.settings = build(QuickBooksSettings, changes, base=self.settings)
        self.server.apply(self.settings.conduct, self.settings.quirks)

    def secrets(self) -> list[str]:
        """Everything that may be found nowhere but here and in sealed envelopes."""
        return self.server.secrets()

    def mint(self, scopes: Sequence[str], account: str | None, expires_in: int | None) -> dict[str, Any]:
        """A grant for `settings.realm` without the redirect dance, as a line for link import."""
        asked = Asked(
            redirect_uri="",
            state=None,
            account=account or self.settings.conduct.account,
            scopes=tuple(scopes) or (ACCOUNTING,),
            details={"realm": self.settings.realm},
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


def _page(text: str) -> Reply:
    return oauth.page("Sorry, but something went wrong", [text], status=400)
