"""slack_sdk on our transport, and what Slack's errors mean.

Slack says in the body, with HTTP status 200, that a call failed; 429 is a status of its own. Codes and their meaning:
https://docs.slack.dev/reference/methods/chat.postMessage#errors
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flow8_core.egress import Response
from flow8_modules import Context, Rule, errors, retry_after

if TYPE_CHECKING:
    from slack_sdk.web.client import WebClient

SERVICE = "slack"
_CODE = re.compile(r"[a-z][a-z0-9_]{1,79}")
_SCOPES = re.compile(r"[a-z:._,-]{1,200}")

_REVOKED = Rule(errors.TokenRevoked, "Slack no longer accepts this connection: reconnect Slack.")
_EXPIRED = Rule(errors.TokenExpired, "Slack says that the access token is over.")
_SCOPE = Rule(errors.InsufficientScope, "The Slack connection lacks a permission: reconnect Slack and grant it.")
_DENIED = Rule(
    errors.AccessDenied, "The workspace does not let this app do that: ask its admin, or use another channel."
)
_LIMITED = Rule(errors.RateLimited, "Slack asks to slow down; the step runs again by itself.")
_APP = Rule(errors.ProviderMisconfigured, "Slack does not accept this server's Slack app: its operator has to mend it.")
_GRANT = Rule(errors.InvalidGrant, "Slack does not accept the authorization: reconnect Slack.")
_DOWN = Rule(errors.ProviderUnavailable, "Slack is not available at the moment; the step runs again by itself.")
_UNSURE = Rule(errors.ProviderUnavailable, "Slack failed inside and may have done it all the same.", ambiguous=True)
_CHANNEL = Rule(
    errors.ProviderRejected,
    "Slack finds no such channel: use the channel's id, and invite the app to private channels.",
    field="channel",
)
_INVITE = Rule(
    errors.AccessDenied,
    "The app is not in that channel: invite it there (/invite), or grant chat:write.public.",
    field="channel",
)
_ARCHIVED = Rule(errors.ProviderRejected, "The channel is archived: choose another.", field="channel")
_BLOCKS = Rule(
    errors.ProviderRejected, "Slack does not accept the blocks: try them in Slack's Block Kit Builder.", field="blocks"
)
_LONG = Rule(errors.ProviderRejected, "The message is too long for Slack: shorten it or send several.", field="message")
_THREAD = Rule(
    errors.ProviderRejected, "Slack does not take replies to that message: check thread_ts.", field="thread_ts"
)
_REFUSED = Rule(errors.ProviderRejected, "Slack refuses the message as it stands: check the step's inputs.")

ERRORS: Mapping[str, Rule] = {
    **dict.fromkeys(
        ("invalid_code", "code_already_used", "code_expired", "bad_redirect_uri", "invalid_refresh_token"), _GRANT
    ),
    **dict.fromkeys(("invalid_grant_type", "invalid_grant", "invalid_code_verifier"), _GRANT),
    **dict.fromkeys(("bad_client_secret", "invalid_client_id", "oauth_authorization_url_mismatch", "no_scopes"), _APP),
    **dict.fromkeys(("pkce_not_allowed", "cannot_install_an_org_installed_app", "preview_feature_not_available"), _APP),
    **dict.fromkeys(("missing_scope", "no_permission", "not_allowed_token_type"), _SCOPE),
    **dict.fromkeys(("token_revoked", "account_inactive", "invalid_auth", "not_authed"), _REVOKED),
    **dict.fromkeys(("app_uninstalled", "user_removed_from_team"), _REVOKED),
    "token_expired": _EXPIRED,
    **dict.fromkeys(("ratelimited", "rate_limited", "message_limit_exceeded"), _LIMITED),
    **dict.fromkeys(("access_denied", "accesslimited", "restricted_action", "ekm_access_denied"), _DENIED),
    **dict.fromkeys(("restricted_action_read_only_channel", "restricted_action_thread_only_channel"), _DENIED),
    **dict.fromkeys(("restricted_action_non_threadable_channel", "restricted_action_thread_locked"), _DENIED),
    **dict.fromkeys(("enterprise_is_restricted", "org_login_required", "two_factor_setup_required"), _DENIED),
    **dict.fromkeys(("app_access_restricted", "send_on_behalf_not_allowed", "posting_to_channel_denied"), _DENIED),
    **dict.fromkeys(("file_uploads_disabled", "file_type_not_allowed", "file_uploads_except_images_disabled"), _DENIED),
    **dict.fromkeys(("slack_connect_file_link_sharing_blocked", "slack_connect_canvas_sharing_blocked"), _DENIED),
    "slack_connect_lists_sharing_blocked": _DENIED,
    "not_in_channel": _INVITE,
    **dict.fromkeys(("channel_not_found", "team_not_found", "messages_tab_disabled"), _CHANNEL),
    "is_archived": _ARCHIVED,
    **dict.fromkeys(("invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"), _BLOCKS),
    **dict.fromkeys(("msg_too_long", "no_text", "markdown_text_conflict"), _LONG),
    **dict.fromkeys(("cannot_reply_to_message", "thread_not_found"), _THREAD),
    **dict.fromkeys(("internal_error", "fatal_error", "request_timeout"), _UNSURE),
    **dict.fromkeys(("service_unavailable", "team_added_to_org"), _DOWN),
}


def slack(ctx: Context) -> WebClient:
    """slack_sdk's WebClient for the step's link: a call returns what Slack said, or raises an error of the tree."""
    from flow8_modules.integrations.slack.web_client import EgressWebClient

    return EgressWebClient(ctx)


def checked(answer: Response, *, now: Callable[[], datetime]) -> dict[str, Any]:
    """What an answer says where it says `ok`; raises the error that it stands for otherwise."""
    try:
        body = answer.json()
    except errors.VendorBadResponse:
        body = None
    if answer.status == 200 and isinstance(body, dict) and body.get("ok") is True:
        return body
    waiting = retry_after(answer.headers.get("Retry-After"), now=now())
    if answer.status == 429:
        raise _LIMITED.raised(service=SERVICE, provider_code="ratelimited", retry_after=waiting)
    raise error_of(body, status=answer.status, waiting=waiting)


def error_of(body: Any, *, status: int = 200, waiting: float | None = None) -> errors.Flow8Error:
    """What a body that is not `ok` means. `waiting` is the Retry-After, in seconds."""
    code = body.get("error") if isinstance(body, dict) else None
    if isinstance(body, dict) and isinstance(code, str) and _CODE.fullmatch(code):
        rule = ERRORS.get(code, _REFUSED if status < 500 else _UNSURE)
        if rule is _SCOPE:
            rule = _lacking(body.get("needed"))
        return rule.raised(service=SERVICE, provider_code=code, retry_after=waiting)
    if status >= 500:
        return _UNSURE.raised(service=SERVICE, provider_code=str(status), retry_after=waiting)
    return nonsense(ambiguous=status < 400)


def nonsense(*, ambiguous: bool) -> errors.VendorBadResponse:
    """The error for an answer that lacks what it must hold."""
    return errors.VendorBadResponse("Slack's answer makes no sense.", service=SERVICE, ambiguous=ambiguous)


def _lacking(needed: Any) -> Rule:
    if isinstance(needed, str) and _SCOPES.fullmatch(needed):
        return replace(_SCOPE, say=f"The Slack connection lacks {needed}: reconnect Slack and grant it.")
    return _SCOPE
