"""bexio, a Keycloak realm. Source: https://docs.bexio.com, and the discovery document of its issuer.

Its endpoints are discovered; those at office.bexio.com and idp.bexio.com are gone. A refresh token comes only with
`offline_access`, dies after a year without use, and may be replaced by a refresh, which ends the one before. Where the
user did not agree to it, the link lives as long as its access token, and the user reconnects then. How long that is,
bexio says in its replies alone.
"""

from __future__ import annotations

from credentials.providers.provider import ErrorTable, Identity, Probe, Provider, Revocation
from credentials.providers.scopes import ScopeRules
from flow8_core.egress import Hosts

_BASE = ("openid", "profile", "email", "offline_access")

PROVIDER = Provider(
    service="bexio",
    title="bexio",
    issuer="https://auth.bexio.com/realms/bexio",
    issuer_in_callback=True,
    base_url="https://api.bexio.com/",
    api_hosts=Hosts.of("api.bexio.com"),
    # Keycloak ends all offline sessions that the user has with the application; its address is discovered
    revocation=Revocation(url="", shared_by="user"),
    probe=Probe(method="GET", path="3.0/users/me"),  # its id is another than the identity server's
    client_auth="post",
    nonce=True,
    scopes=ScopeRules(
        aliases={"client.read": "contact_show", "contact.read": "contact_show"},
        reserved=frozenset(_BASE),
        implied_endings={"_edit": "_show"},
    ),
    base_scopes=_BASE,
    default_scopes=("contact_show",),
    identity=Identity(
        user_id=("id_token.sub", "userinfo.sub"),
        account=("id_token.company_id", "userinfo.company_id"),
        email=("id_token.email", "userinfo.email"),
        name=("id_token.name", "userinfo.name", "userinfo.company_name"),
        metadata={
            "company_id": ("id_token.company_id", "userinfo.company_id"),
            "company_name": ("id_token.company_name", "userinfo.company_name"),
        },
    ),
    # a scope is missing, or the user's own right in bexio: its answers do not tell which
    api_errors=(ErrorTable(field="error_code", verdicts={"403": "insufficient_scope"}),),
    rotation="sometimes",
    replay="single_use",
    lifetime_s=300,
    idle_s=365 * 24 * 3600,
    idle_fields=("refresh_expires_in",),
)
