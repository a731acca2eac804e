"""`Provider`: what there is to know about one service's OAuth2 server, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from credentials.providers.scopes import ScopeRules
from flow8_core.egress import Hosts
from flow8_core.errors import ProviderMisconfigured
from flow8_core.secret import Secret

Replay = Literal["reusable", "grace", "single_use"]
ClientAuth = Literal["basic", "post"]
TokenClientKind = Literal["standard", "msal"]
RevocationStyle = Literal["rfc7009", "bearer"]
Verdict = Literal[
    "invalid_grant",
    "token_revoked",
    "insufficient_scope",
    "access_denied",
    "rate_limit_exceeded",
    "provider_misconfigured",
    "provider_unavailable",
]

# RFC 6749 section 5.2, with what servers add to it
STANDARD_ERRORS: Mapping[str, Verdict] = {
    "invalid_grant": "invalid_grant",
    "interaction_required": "invalid_grant",
    "login_required": "invalid_grant",
    "consent_required": "insufficient_scope",
    "invalid_scope": "insufficient_scope",
    "access_denied": "access_denied",
    "invalid_client": "provider_misconfigured",
    "unauthorized_client": "provider_misconfigured",
    "invalid_request": "provider_misconfigured",
    "unsupported_grant_type": "provider_misconfigured",
    "redirect_uri_mismatch": "provider_misconfigured",
    "temporarily_unavailable": "provider_unavailable",
    "server_error": "provider_unavailable",
}


@dataclass(frozen=True, kw_only=True)
class ErrorTable:
    """What the values of one field of an error reply mean; a provider's tables are asked in their order."""

    field: str
    verdicts: Mapping[str, Verdict]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Where a service says who connected.

    Each value is a tuple of dotted paths, the first that leads to something wins. They begin with `reply` (the token
    reply), `id_token` (its claims) or `userinfo`. `user_id` with `account` (workspace, tenant) is the account's key;
    e-mail and name are for people to read and decide nothing, for anyone may change them at most vendors.
    """

    user_id: tuple[str, ...]
    account: tuple[str, ...] = ()
    email: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """How a token is given back: RFC 7009 with the client's authentication, or a call as the token's bearer."""

    url: str
    style: RevocationStyle = "rfc7009"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A harmless call that tells whether an access token works; `path` is below `base_url` or a whole URL."""

    method: Literal["GET", "POST"]
    path: str
    user: tuple[str, ...] = ()
    scopes_header: str | None = None


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A client certificate in place of a secret (Microsoft): PEM files of the key and of the certificate."""

    key_file: Path
    certificate_file: Path


@dataclass(frozen=True, kw_only=True)
class App:
    """Our registration at the provider: one entry of the `oauth2` section."""

    client_id: str
    client_secret: Secret | None = None
    certificate: Certificate | None = None
    redirect_uri: str | None = None
    scopes: tuple[str, ...] = ()
    user_scopes: tuple[str, ...] = ()
    auto_create_users: bool = False


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One service's OAuth2 server.

    URLs may hold `{authority}` and `{tenant}`, and `userinfo_url` may be relative to `base_url`, until the catalogue
    binds them. `replay` says what presenting a refresh token again does where the outcome of its first use is unknown:
    nothing (`reusable`), it works for `grace_s` seconds more (`grace`), or it is spent (`single_use`, the safe thing to
    assume). `lifetime_s` is taken where a reply with a refresh token does not say how long its access token lives;
    `idle_s` is how long a grant survives without being used. `refresh_lead_s` replaces the usual lead (a quarter of the
    lifetime, 60 s to 1 h).
    """

    service: str
    title: str
    authorize_url: str = ""
    token_url: str = ""
    base_url: str = ""
    api_hosts: Hosts = field(default_factory=Hosts.of)
    authority: str | None = None
    issuer: str | None = None
    issuer_in_callback: bool = False
    userinfo_url: str | None = None
    revocation: Revocation | None = None
    probe: Probe | None = None

    token_client: TokenClientKind = "standard"  # noqa: S105 - a library
    client_auth: ClientAuth = "basic"
    pkce: bool = True
    nonce: bool = False
    scopes: ScopeRules = field(default_factory=ScopeRules)
    default_scopes: tuple[str, ...] = ()
    user_scope_param: str | None = None
    authorize_params: Mapping[str, str] = field(default_factory=dict)
    callback_metadata: tuple[str, ...] = ()

    user_token_at: str | None = None
    identity: Identity
    errors: tuple[ErrorTable, ...] = (ErrorTable(field="error", verdicts=STANDARD_ERRORS),)

    replay: Replay = "single_use"
    grace_s: int = 0
    lifetime_s: int | None = 3600
    refresh_lead_s: int | None = None
    idle_s: int | None = None

    app: App | None = None

    def registered(self) -> App:
        """Our application at this provider. Raises `ProviderMisconfigured` where none is configured."""
        if self.app is None:
            raise ProviderMisconfigured(
                f"No OAuth2 application is configured for {self.service}; "
                f"add oauth2.{self.service}.client_id and client_secret to flow8.yaml.",
                service=self.service,
            )
        return self.app


def at_path(document: Mapping[str, Any], path: str) -> Any:
    """The value that a dotted path leads to, or None."""
    value: Any = document
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value
