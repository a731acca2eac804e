"""Google. Source: https://developers.google.com/identity/protocols/oauth2/web-server, .../openid-connect/discovery.

A refresh token comes with the first consent alone, hence `access_type=offline` and `prompt=consent`, and it stays the
same: a refresh brings none. It dies after six months without use and, while the application's consent screen is in
testing, after seven days, which the reply then says. Revoking one ends all that this account has granted to the
application.
"""

from __future__ import annotations

from credentials.providers.provider import STANDARD_ERRORS, ErrorTable, Identity, IdToken, Probe, Provider, Revocation
from credentials.providers.scopes import ScopeRules
from flow8_core.egress import Hosts

_AUTH = "https://www.googleapis.com/auth/"

PROVIDER = Provider(
    service="google",
    title="Google",
    authorize_url="https://accounts.google.com/o/oauth2/v2/auth",
    token_url="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
    base_url="https://www.googleapis.com/",
    api_hosts=Hosts.of("www.googleapis.com", "sheets.googleapis.com", "gmail.googleapis.com"),
    issuer="https://accounts.google.com",
    id_token=IdToken(jwks_url="https://www.googleapis.com/oauth2/v3/certs", issuer="https://accounts.google.com"),
    userinfo_url="https://openidconnect.googleapis.com/v1/userinfo",
    revocation=Revocation(url="https://oauth2.googleapis.com/revoke", auth="none", shared_by="user"),
    # one call says whether the token works, what it may do, and for whose application it was made
    probe=Probe(
        method="POST",
        path="tokeninfo",
        at="token_url",
        form_field="access_token",
        user=("sub",),
        scopes="scope",
        audience="aud",
    ),
    client_auth="post",
    nonce=True,
    scopes=ScopeRules(
        home=_AUTH,
        aliases={
            "email": f"{_AUTH}userinfo.email",
            "profile": f"{_AUTH}userinfo.profile",
            "gmail": f"{_AUTH}gmail.send",
            "sheets": f"{_AUTH}spreadsheets",
        },
        reserved=frozenset({"openid", f"{_AUTH}userinfo.email", f"{_AUTH}userinfo.profile"}),
        implies={
            f"{_AUTH}drive": tuple(
                _AUTH + name for name in ("drive.file", "drive.readonly", "drive.metadata.readonly", "spreadsheets")
            ),
            f"{_AUTH}spreadsheets": (f"{_AUTH}spreadsheets.readonly",),
            f"{_AUTH}gmail.modify": tuple(_AUTH + name for name in ("gmail.send", "gmail.readonly", "gmail.compose")),
            f"{_AUTH}gmail.compose": (f"{_AUTH}gmail.send",),
        },
    ),
    base_scopes=("openid", "email"),
    authorize_params={"access_type": "offline", "prompt": "consent"},
    identity=Identity(
        user_id=("id_token.sub", "userinfo.sub"),
        email=("id_token.email", "userinfo.email"),
        name=("id_token.name", "userinfo.name"),
        metadata={"hd": ("id_token.hd",)},
    ),
    errors=(
        ErrorTable(field="error_subtype", verdicts={"invalid_rapt": "invalid_grant"}),
        # only this text tells a grant that was taken back from one that never was
        ErrorTable(field="error_description", verdicts={"Token has been expired or revoked.": "token_revoked"}),
        ErrorTable(
            field="error",
            verdicts={
                **STANDARD_ERRORS,
                "deleted_client": "provider_misconfigured",
                "admin_policy_enforced": "access_denied",
                "org_internal": "access_denied",
                "rate_limit_exceeded": "rate_limit_exceeded",
                "internal_failure": "provider_unavailable",
            },
        ),
    ),
    api_errors=(ErrorTable(field="error", verdicts={"invalid_token": "token_revoked"}),),
    rotation="never",
    replay="reusable",
    lifetime_s=3600,
    idle_s=180 * 24 * 3600,
)
