"""`Provider`: what there is to know about one service's OAuth2 server, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from credentials.providers.scopes import ScopeRules
from flow8_core.egress import Hosts
from flow8_core.errors import ProviderMisconfigured
from flow8_core.secret import Secret

Replay = Literal["reusable", "grace", "single_use"]
Rotation = Literal["never", "sometimes", "always"]
ClientAuth = Literal["basic", "post"]
TokenClientKind = Literal["standard", "msal"]
TokenName = Literal["refresh_token", "access_token"]
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
    reply), `id_token` (its claims), `userinfo` or `callback` (its query, see `callback_metadata`). `user_id` with
    `account` (workspace, tenant) is the account's key; e-mail and name are for people to read and decide nothing, for
    anyone may change them at most vendors.
    """

    user_id: tuple[str, ...]
    account: tuple[str, ...] = ()
    email: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    metadata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """How tokens are given back (RFC 7009, or the service's own way).

    `auth` is what the call signs in with: the `client`, as at the token endpoint; the token itself as its `bearer`; or
    `none`. The token stands in the `body`, unless that is `empty`. `tokens` are those to present, in this order, each
    in a call of its own; where there is no refresh token, the access token stands in for it. `shared_by` names the
    other links that such a call would kill: those of the same upstream `user`, of the same `account` (workspace), or
    of `nobody`. An error in `gone` says that there is nothing left to revoke, which is as good.
    """

    url: str
    auth: Literal["client", "bearer", "none"] = "client"
    body: Literal["form", "json", "empty"] = "form"
    tokens: tuple[TokenName, ...] = ("refresh_token",)
    shared_by: Literal["nobody", "user", "account"] = "nobody"
    gone: frozenset[str] = frozenset({"invalid_token", "invalid_grant"})


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A harmless call that tells whether an access token works.

    `path` is below `base_url` (or beside the token endpoint, with `at`), or a whole URL; `{names}` in it are filled
    from the link's metadata. The token goes into the Authorization header, or into the form field `form_field`. What
    the reply says stands at dotted paths: who it is (`user`, the first that leads to something), which scopes the token
    has (`scopes`, or a header), and for whom it was made (`audience`, which must be our client id).
    """

    method: Literal["GET", "POST"]
    path: str
    at: Literal["base_url", "token_url"] = "base_url"
    form_field: str | None = None
    user: tuple[str, ...] = ()
    scopes: str | None = None
    scopes_header: str | None = None
    audience: str | None = None


@dataclass(frozen=True, kw_only=True)
class IdToken:
    """What an ID token is checked against (OpenID Connect Core section 3.1.3.7): RS256 keys at `jwks_url`, and the
    issuer, in which `{tid}` stands for the token's own tenant."""

    jwks_url: str
    issuer: str


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A client certificate in place of a secret (Microsoft): PEM files of the key and of the certificate."""

    key_file: Path
    certificate_file: Path


@dataclass(frozen=True, kw_only=True)
class App:
    """Our registration at the provider: one entry of the `oauth2` section. `tenants` are the only ones whose accounts
    may be connected (Microsoft); empty: any."""

    client_id: str
    client_secret: Secret | None = None
    certificate: Certificate | None = None
    redirect_uri: str | None = None
    scopes: tuple[str, ...] = ()
    user_scopes: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    auto_create_users: bool = False


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One service's OAuth2 server.

    **Places.** A service with several `sites` (regions, a sandbox, sovereign clouds) has one set of values for each,
    the first being the usual one; URLs may hold their names in braces, as well as `{authority}` and `{tenant}`, until
    the catalogue binds them. `userinfo_url` may be relative to `base_url`; names of the account's metadata in braces
    stay in it until a link is connected. `api_hosts` are those of `base_url` where none are said.

    **Asking.** `base_scopes` are always asked for (whose account it is, a refresh token), `default_scopes` where
    neither the configuration nor the request names any. `callback_metadata` are parameters that the callback must
    bring, each with a pattern of its whole value.

    **Refreshing.** `rotation` says whether a refresh brings a new refresh token, and `replay` what presenting a used
    one again does where the outcome of its first use is unknown: nothing (`reusable`), it works for `grace_s` seconds
    more (`grace`), or it is spent (`single_use`, the safe thing to assume). `lifetime_s` is taken where a reply with a
    refresh token does not say how long its access token lives. `refresh_lead_s` replaces the usual lead (a quarter of
    the lifetime, 60 s to 1 h).

    **The grant's own end.** `idle_s` is how long a grant survives without a refresh, `grant_lifetime_s` how long it
    does at all, counted from the connect; None: for ever. `idle_fields` and `grant_lifetime_fields` name what in a
    token reply says so better, in seconds. Without a refresh token, a link lives as long as its access token, and the
    user reconnects then.

    `errors` judge the token endpoint's refusals, `api_errors` those of the API that `probe` asks, by dotted paths.
    """

    service: str
    title: str
    authorize_url: str = ""
    token_url: str = ""
    base_url: str = ""
    api_hosts: Hosts = field(default_factory=Hosts.of)
    authority: str | None = None
    sites: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    site: str | None = None
    issuer: str | None = None
    issuer_in_callback: bool = False
    id_token: IdToken | None = None
    userinfo_url: str | None = None
    revocation: Revocation | None = None
    probe: Probe | None = None

    token_client: TokenClientKind = "standard"  # noqa: S105 - a library
    client_auth: ClientAuth = "basic"
    token_headers: Mapping[str, str] = field(default_factory=dict)
    pkce: bool = True
    nonce: bool = False
    scopes: ScopeRules = field(default_factory=ScopeRules)
    base_scopes: tuple[str, ...] = ()
    default_scopes: tuple[str, ...] = ()
    user_scope_param: str | None = None
    authorize_params: Mapping[str, str] = field(default_factory=dict)
    callback_metadata: Mapping[str, str] = field(default_factory=dict)

    user_token_at: str | None = None
    identity: Identity
    errors: tuple[ErrorTable, ...] = (ErrorTable(field="error", verdicts=STANDARD_ERRORS),)
    api_errors: tuple[ErrorTable, ...] = ()

    rotation: Rotation = "sometimes"
    replay: Replay = "single_use"
    grace_s: int = 0
    lifetime_s: int | None = 3600
    refresh_lead_s: int | None = None
    idle_s: int | None = None
    idle_fields: tuple[str, ...] = ()
    grant_lifetime_s: int | None = None
    grant_lifetime_fields: tuple[str, ...] = ("refresh_token_expires_in",)

    app: App | None = None

    @property
    def takes_back(self) -> Revocation | None:
        """How the vendor takes tokens back; None where it does not at all (Microsoft)."""
        return self.revocation if self.revocation is not None and self.revocation.url else None

    def registered(self) -> App:
        """Our application at this provider. Raises `ProviderMisconfigured` where none is configured."""
        if self.app is None:
            raise ProviderMisconfigured(
                f"No OAuth2 application is configured for {self.service}; "
                f"add oauth2.{self.service}.client_id and client_secret to flow8.yaml.",
                service=self.service,
            )
        return self.app

    def asked(self, wanted: Iterable[str], held: Iterable[str] = ()) -> tuple[str, ...]:
        """The scopes of an authorize request, and no more: what is always needed, what the configuration names, what is
        `wanted` (by flows, by whoever connects) and what a link that is reconnected has (`held`).

        Where permissions belong to the application (`ScopeRules.fixed`), those that the configuration says it has.
        Raises `ProviderMisconfigured` where no application is configured.
        """
        named, wanted, held = self.registered().scopes, tuple(wanted), tuple(held)
        if self.scopes.fixed:
            return self.scopes.union(named)
        usual = () if named or wanted or held else self.default_scopes
        return self.scopes.union(self.base_scopes, named, usual, wanted, held)


def at_path(document: Any, path: str) -> Any:
    """The value that a dotted path leads to, or None; a number is a place in a list."""
    value = document
    for part in path.split("."):
        if isinstance(value, list) and part.isdigit():
            value = value[int(part)] if int(part) < len(value) else None
        elif isinstance(value, Mapping):
            value = value.get(part)
        else:
            return None
    return value
