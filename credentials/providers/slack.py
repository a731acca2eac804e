"""Slack. Source: https://docs.slack.dev/authentication/installing-with-oauth and .../using-token-rotation.

Refresh tokens are revoked soon after their use. Errors are HTTP 200 with `ok: false`. The bot's token stands at the top
of a reply, the user's own (where asked for) below `authed_user`, each with a refresh token of its own. PKCE stays off:
for Slack it would turn the app into a public client for good.
"""

from __future__ import annotations

from credentials.providers.provider import ErrorTable, Identity, Probe, Provider, Revocation
from credentials.providers.scopes import ScopeRules
from flow8_core.egress import Hosts

PROVIDER = Provider(
    service="slack",
    title="Slack",
    authorize_url="https://slack.com/oauth/v2/authorize",
    token_url="https://slack.com/api/oauth.v2.access",  # noqa: S106 - an address
    base_url="https://slack.com/api/",
    api_hosts=Hosts.of("slack.com"),
    revocation=Revocation(
        url="https://slack.com/api/auth.revoke",
        auth="bearer",
        body="empty",
        tokens=("refresh_token", "access_token"),  # each call ends only the token that it presents
        shared_by="account",  # without rotation all links of a workspace hold the same bot token
        gone=frozenset({"token_revoked", "token_expired", "invalid_auth", "not_authed", "account_inactive"}),
    ),
    probe=Probe(method="POST", path="auth.test", user=("user_id",), scopes_header="X-OAuth-Scopes"),
    pkce=False,
    scopes=ScopeRules(separator=","),
    default_scopes=("chat:write",),
    user_scope_param="user_scope",
    user_token_at="authed_user",  # noqa: S106 - a place in the reply
    identity=Identity(
        user_id=("reply.authed_user.id",),
        account=("reply.team.id", "reply.enterprise.id"),
        name=("reply.team.name", "reply.enterprise.name"),
        metadata={
            "team_id": ("reply.team.id",),
            "team_name": ("reply.team.name",),
            "enterprise_id": ("reply.enterprise.id",),
            "bot_user_id": ("reply.bot_user_id",),
            "app_id": ("reply.app_id",),
        },
    ),
    errors=(
        ErrorTable(
            field="error",
            verdicts={
                "invalid_code": "invalid_grant",
                "code_already_used": "invalid_grant",
                "code_expired": "invalid_grant",
                "bad_redirect_uri": "invalid_grant",
                "invalid_refresh_token": "invalid_grant",
                "invalid_grant_type": "invalid_grant",
                "invalid_grant": "invalid_grant",
                "invalid_code_verifier": "invalid_grant",
                "token_expired": "invalid_grant",
                "token_revoked": "token_revoked",
                "account_inactive": "token_revoked",
                "invalid_auth": "token_revoked",
                "not_authed": "token_revoked",
                "app_uninstalled": "token_revoked",
                "user_removed_from_team": "token_revoked",
                "missing_scope": "insufficient_scope",
                "no_permission": "insufficient_scope",
                "not_allowed_token_type": "insufficient_scope",
                "bad_client_secret": "provider_misconfigured",
                "invalid_client_id": "provider_misconfigured",
                "oauth_authorization_url_mismatch": "provider_misconfigured",
                "no_scopes": "provider_misconfigured",
                "pkce_not_allowed": "provider_misconfigured",
                "cannot_install_an_org_installed_app": "provider_misconfigured",
                "preview_feature_not_available": "provider_misconfigured",
                "access_denied": "access_denied",
                "accesslimited": "access_denied",
                "ekm_access_denied": "access_denied",
                "enterprise_is_restricted": "access_denied",
                "org_login_required": "access_denied",
                "two_factor_setup_required": "access_denied",
                "app_access_restricted": "access_denied",
                "ratelimited": "rate_limit_exceeded",
                "rate_limited": "rate_limit_exceeded",
                "internal_error": "provider_unavailable",
                "fatal_error": "provider_unavailable",
                "request_timeout": "provider_unavailable",
                "service_unavailable": "provider_unavailable",
                "team_added_to_org": "provider_unavailable",
            },
        ),
    ),
    rotation="always",
    replay="single_use",
    lifetime_s=43200,
)
