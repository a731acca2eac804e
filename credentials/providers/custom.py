"""Any other OAuth2 or OIDC server, described in the `oauth2` section."""

from __future__ import annotations

from credentials.providers.provider import Identity, Probe, Provider, Revocation
from credentials.providers.scopes import ScopeRules
from credentials.providers.settings import OAuthApp
from flow8_core.egress import Hosts
from flow8_core.errors import ValidationFailed

# what may be said of a known service as well, and then replaces what is declared of it
ANY_SERVER_FIELDS = ("client_auth", "grant_lifetime_s")

# what a known service has of its own, so that its entry may not set it
OWN_SERVER_FIELDS = (
    "title",
    "issuer",
    "authorize_url",
    "token_url",
    "revoke_url",
    "userinfo_url",
    "base_url",
    "api_hosts",
    "authorize_params",
    "scope_separator",
    "pkce",
    "replay",
    "grace_s",
    "lifetime_s",
    "refresh_lead_s",
    "idle_s",
)

_IDENTITY = Identity(
    user_id=("id_token.sub", "userinfo.sub", "userinfo.id", "userinfo.user_id", "reply.user_id"),
    email=("userinfo.email", "id_token.email"),
    name=("userinfo.name", "id_token.name"),
    metadata={"issuer": ("id_token.iss",)},
)


def faults(name: str, app: OAuthApp) -> list[tuple[str, str]]:
    """What the description lacks, as (path, message)."""
    found: list[tuple[str, str]] = []
    path = f"oauth2.{name}"
    if app.issuer is None and (app.authorize_url is None or app.token_url is None):
        found.append((path, "is no known service: it needs issuer, or authorize_url and token_url"))
    if not app.api_hosts and app.base_url is None:
        found.append(
            (f"{path}.api_hosts", "names the only hosts that get this server's access tokens; give at least one")
        )
    for number, host in enumerate(app.api_hosts):
        try:
            Hosts.of(host)
        except ValidationFailed as error:
            found.append((f"{path}.api_hosts[{number}]", error.message))
    if app.replay == "grace" and app.grace_s == 0:
        found.append(
            (f"{path}.grace_s", "replay: grace needs grace_s, the seconds for which a spent token still works")
        )
    return found


def declare(name: str, app: OAuthApp) -> Provider:
    """The provider that an entry describes. Endpoints that it leaves out are discovered from its issuer when needed."""
    base_url = app.base_url or (f"https://{app.api_hosts[0]}/" if app.api_hosts else "")
    asks_offline = "offline_access" in app.scopes
    # OpenID Connect Core section 11: offline_access is ignored without prompt=consent
    params = {"prompt": "consent", **app.authorize_params} if asks_offline else app.authorize_params
    return Provider(
        service=name,
        title=app.title or name,
        authorize_url=app.authorize_url or "",
        token_url=app.token_url or "",
        base_url=base_url,
        api_hosts=Hosts.of(*app.api_hosts) if app.api_hosts else Hosts.of_url(base_url),
        issuer=app.issuer,
        userinfo_url=app.userinfo_url,
        revocation=Revocation(url=app.revoke_url, shared_by="user") if app.revoke_url else None,
        probe=Probe(method="GET", path=app.userinfo_url, user=("sub", "id")) if app.userinfo_url else None,
        client_auth=app.client_auth,
        pkce=app.pkce,
        nonce="openid" in app.scopes,
        scopes=ScopeRules(
            separator=app.scope_separator, reserved=frozenset({"openid", "profile", "email", "offline_access"})
        ),
        authorize_params=params,
        identity=_IDENTITY,
        replay=app.replay,
        grace_s=app.grace_s,
        lifetime_s=app.lifetime_s,
        refresh_lead_s=app.refresh_lead_s,
        idle_s=app.idle_s,
        grant_lifetime_s=app.grant_lifetime_s,
    )
