"""Microsoft Entra ID and Graph, in all its clouds. Source: https://learn.microsoft.com/entra/identity-platform.

Refresh tokens roll: each use gives a new one and leaves the old one good, for 90 days without use. Its sites are the
sovereign clouds, whose applications and tokens are their own; `{tenant}` comes from `oauth2.microsoft.tenant`. There is
no way to give a token back.
"""

from __future__ import annotations

from credentials.providers.provider import ErrorTable, Identity, IdToken, Probe, Provider, Verdict
from credentials.providers.scopes import ScopeRules

SITES = {
    "global": {"login": "https://login.microsoftonline.com", "graph": "https://graph.microsoft.com"},
    "us_gov_l4": {"login": "https://login.microsoftonline.us", "graph": "https://graph.microsoft.us"},
    "us_gov_l5": {"login": "https://login.microsoftonline.us", "graph": "https://dod-graph.microsoft.us"},
    "china": {
        "login": "https://login.partner.microsoftonline.cn",
        "graph": "https://microsoftgraph.chinacloudapi.cn",
    },
    "bleu_fr": {"login": "https://login.sovcloud-identity.fr", "graph": "https://graph.svc.sovcloud.fr"},
    "delos_de": {"login": "https://login.sovcloud-identity.de", "graph": "https://graph.svc.sovcloud.de"},
    "govsg": {"login": "https://login.sovcloud-identity.sg", "graph": "https://graph.svc.sovcloud.sg"},
}
GRAPH_HOSTS = tuple(site["graph"].removeprefix("https://") for site in SITES.values())

# msal asks for these by itself, and refuses them from us
SIGN_IN_SCOPES = frozenset({"openid", "profile", "offline_access"})


def _codes(verdict: Verdict, *numbers: int) -> dict[str, Verdict]:
    return {str(number): verdict for number in numbers}


PROVIDER = Provider(
    service="microsoft",
    title="Microsoft 365",
    sites=SITES,
    authority="{login}",
    authorize_url="{authority}/{tenant}/oauth2/v2.0/authorize",
    token_url="{authority}/{tenant}/oauth2/v2.0/token",  # noqa: S106 - an address
    base_url="{graph}/v1.0/",
    id_token=IdToken(jwks_url="{authority}/common/discovery/v2.0/keys", issuer="{authority}/{tid}/v2.0"),
    userinfo_url="/oidc/userinfo",
    probe=Probe(method="GET", path="/oidc/userinfo", user=("sub",)),
    token_client="msal",  # noqa: S106 - a library
    client_auth="post",
    nonce=True,
    scopes=ScopeRules(
        prefixes=tuple(f"https://{host}/" for host in GRAPH_HOSTS),
        ignore_case=True,
        reserved=SIGN_IN_SCOPES | {"email"},
        qualified_at=frozenset(GRAPH_HOSTS[1:]),
        implied_endings={".ReadWrite": ".Read"},
    ),
    base_scopes=("openid", "profile", "email", "offline_access"),
    default_scopes=("User.Read",),
    authorize_params={"prompt": "select_account"},
    identity=Identity(
        user_id=("id_token.oid", "userinfo.sub"),
        account=("id_token.tid",),
        email=("id_token.email", "id_token.preferred_username", "userinfo.email"),
        name=("id_token.name", "userinfo.name"),
        metadata={"tid": ("id_token.tid",), "oid": ("id_token.oid",)},
    ),
    errors=(
        # AADSTS numbers say more than `error`, which stays the last word for those not listed
        ErrorTable(
            field="error_codes",
            verdicts={
                **_codes("invalid_grant", 70000, 70008, 700082, 700084, 70043, 54005, 501481, 50089, 700005, 700020),
                **_codes("invalid_grant", 50072, 50074, 50076, 50078, 50079, 50158),
                **_codes("token_revoked", 50173, 50132, 50133, 50057, 50034),
                **_codes("insufficient_scope", 65001, 90094, 90095, 70011, 90008),
                **_codes("access_denied", 65004, 50105, 50020, 53000, 53001, 53003, 530032, 530034, 530035),
                **_codes("rate_limit_exceeded", 50196, 90055),
                **_codes("provider_misconfigured", 700016, 70001, 7000215, 7000222, 70002, 7000112, 7000218),
                **_codes("provider_misconfigured", 50011, 50194, 9001023, 90002),
                **_codes("provider_unavailable", 50033, 90033, 90006, 90012, 90024, 90090),
            },
        ),
        ErrorTable(
            field="suberror",
            verdicts={
                "consent_required": "insufficient_scope",
                "bad_token": "token_revoked",
                "token_expired": "invalid_grant",
                "basic_action": "invalid_grant",
                "additional_action": "invalid_grant",
                "user_password_expired": "invalid_grant",
                "message_only": "access_denied",
                "protection_policy_required": "access_denied",
                "device_authentication_failed": "access_denied",
                "client_mismatch": "provider_misconfigured",
            },
        ),
        ErrorTable(
            field="error",
            verdicts={
                "invalid_grant": "invalid_grant",
                "interaction_required": "invalid_grant",
                "login_required": "invalid_grant",
                "consent_required": "insufficient_scope",
                "invalid_scope": "insufficient_scope",
                "access_denied": "access_denied",
                "unauthorized_client": "provider_misconfigured",
                "invalid_client": "provider_misconfigured",
                "invalid_request": "provider_misconfigured",
                "unsupported_grant_type": "provider_misconfigured",
                "invalid_resource": "provider_misconfigured",
                "temporarily_unavailable": "provider_unavailable",
                "server_error": "provider_unavailable",
            },
        ),
    ),
    rotation="always",
    replay="reusable",
    lifetime_s=3600,
    idle_s=90 * 24 * 3600,
)
