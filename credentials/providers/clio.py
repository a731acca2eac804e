"""Clio Manage. Source: https://docs.developers.clio.com/api-docs/authorization (not Clio Platform, which is another
service with tokens of its own).

Applications, accounts and tokens belong to one region. What an application may do is chosen where it is registered, so
that no scopes are asked for and no reply names any: `oauth2.clio.scopes` says what was chosen. A refresh token does not
end and is not given again; where none was given, the access token lasts for weeks and the user reconnects then.
"""

from __future__ import annotations

from credentials.providers.provider import ErrorTable, Identity, Probe, Provider, Revocation
from credentials.providers.scopes import ScopeRules

_WHO_AM_I = "users/who_am_i.json?fields=id%2Cname%2Cemail%2Caccount%7Bid%2Cname%7D"

PROVIDER = Provider(
    service="clio",
    title="Clio",
    sites={
        "us": {"host": "app.clio.com"},
        "eu": {"host": "eu.app.clio.com"},
        "ca": {"host": "ca.app.clio.com"},
        "au": {"host": "au.app.clio.com"},
    },
    authorize_url="https://{host}/oauth/authorize",
    token_url="https://{host}/oauth/token",  # noqa: S106 - an address
    base_url="https://{host}/api/v4/",
    userinfo_url=_WHO_AM_I,
    revocation=Revocation(
        url="https://{host}/oauth/deauthorize",
        auth="bearer",
        tokens=("access_token",),
        shared_by="user",  # what it does to the user's other tokens is not documented
    ),
    probe=Probe(method="GET", path=_WHO_AM_I, user=("data.id",)),
    client_auth="post",
    pkce=False,
    scopes=ScopeRules(
        fixed=True,
        aliases={"client.read": "contacts.read", "contact.read": "contacts.read", "document.read": "documents.read"},
        implied_endings={".write": ".read"},
    ),
    authorize_params={"redirect_on_decline": "true"},
    identity=Identity(
        user_id=("userinfo.data.id",),
        account=("userinfo.data.account.id",),
        email=("userinfo.data.email",),
        name=("userinfo.data.name",),
        metadata={
            "account_id": ("userinfo.data.account.id",),
            "account_name": ("userinfo.data.account.name",),
        },
    ),
    api_errors=(ErrorTable(field="error.type", verdicts={"ForbiddenError": "insufficient_scope"}),),
    rotation="never",
    replay="reusable",
    lifetime_s=7 * 24 * 3600,  # 30 days are documented, 7 were seen
)
