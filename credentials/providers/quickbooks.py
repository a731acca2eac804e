"""QuickBooks Online. Source: https://developer.intuit.com/app/developer/qbo/docs/develop/authentication-and-authorization.

A link is one company (`realmId`), which only the callback names. The refresh token changes about daily, and the one
before stops working then. It lives for 100 days without use and five years at most; a header makes the reply say so.
The sandbox is another API with keys of its own.
"""

from __future__ import annotations

from credentials.providers.provider import ErrorTable, Identity, Probe, Provider, Revocation, Verdict
from credentials.providers.scopes import ScopeRules

_COMPANY = "v3/company/{realm_id}/companyinfo/{realm_id}?minorversion=75"
_CODES: dict[str, Verdict] = {
    "100": "token_revoked",
    "3200": "token_revoked",
    "3100": "insufficient_scope",
    "120": "access_denied",
    "6190": "access_denied",
    "3001": "rate_limit_exceeded",
    "10000": "provider_unavailable",
}

PROVIDER = Provider(
    service="quickbooks",
    title="QuickBooks Online",
    sites={
        "production": {"api": "https://quickbooks.api.intuit.com"},
        "sandbox": {"api": "https://sandbox-quickbooks.api.intuit.com"},
    },
    authorize_url="https://appcenter.intuit.com/connect/oauth2",
    token_url="https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer",  # noqa: S106 - an address
    base_url="{api}/",
    userinfo_url=_COMPANY,
    revocation=Revocation(
        url="https://developer.api.intuit.com/v2/oauth2/tokens/revoke",
        body="json",
        shared_by="user",  # it ends the connection of the company, which is the account's key
    ),
    # a metered read: not for polling
    probe=Probe(method="GET", path=_COMPANY),
    token_headers={"x-include-refresh-token-hard-expires-in": "true"},
    pkce=False,
    scopes=ScopeRules(
        aliases={
            "quickbooks": "com.intuit.quickbooks.accounting",
            "accounting": "com.intuit.quickbooks.accounting",
            "payment": "com.intuit.quickbooks.payment",
        },
        reserved=frozenset({"openid", "profile", "email", "phone", "address"}),
    ),
    default_scopes=("com.intuit.quickbooks.accounting",),
    callback_metadata={"realmId": r"[0-9]{10,19}"},
    identity=Identity(
        user_id=("callback.realmId",),
        email=("userinfo.CompanyInfo.Email.Address",),
        name=("userinfo.CompanyInfo.CompanyName",),
        metadata={"realm_id": ("callback.realmId",)},
    ),
    api_errors=(
        ErrorTable(field="Fault.Error.0.code", verdicts=_CODES),
        ErrorTable(field="fault.error.0.code", verdicts=_CODES),  # the gateway's spelling
    ),
    rotation="sometimes",
    replay="single_use",
    lifetime_s=3600,
    idle_s=100 * 24 * 3600,
    idle_fields=("x_refresh_token_expires_in",),
    grant_lifetime_s=5 * 365 * 24 * 3600,
    grant_lifetime_fields=("x_refresh_token_hard_expires_in",),
)
