"""What a token endpoint's refusal means, and what to do about it: one table a provider, one set of words for all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from credentials.providers.provider import STANDARD_ERRORS, ErrorTable, Provider, Verdict
from credentials.token_reply import Reply, document
from flow8_core.errors import (
    AccessDenied,
    AppBlocked,
    Flow8Error,
    InsufficientScope,
    InvalidGrant,
    ProviderMisconfigured,
    ProviderUnavailable,
    RateLimited,
    TokenRevoked,
    VendorBadResponse,
)

Phase = Literal["connect", "refresh"]
LONGEST_WAIT_S = 900.0

# 503 says that nothing was done; the other 5xx may stand before a server that did it
_SURELY_NOT_DONE = frozenset({429, 503})

# These condemn our application whichever account is asked for
_CLIENT_REFUSED = frozenset(
    """
    invalid_client bad_client_secret invalid_client_id deleted_client disabled_client
    70002 7000112 7000215 7000218 7000222
    """.split()  # noqa: SIM905  a list of this length is for reading
)

_STANDARD = ErrorTable(field="error", verdicts=STANDARD_ERRORS)  # the last word, for what no table of theirs knows


def refusal(provider: Provider, reply: Reply, *, phase: Phase, now: datetime) -> Flow8Error | None:
    """The error that a reply stands for, or None where it holds tokens.

    `ambiguous` is set where the server may have done what was asked. `now` is for a Retry-After that is a date.
    """
    service = provider.service
    if reply.status == 429:
        return RateLimited(
            f"{provider.title} asks for patience; the call is repeated later. Fewer connected flows at once help.",
            service=service,
            retry_after=retry_after(reply.header("Retry-After"), now),
        )
    if reply.status >= 500:
        return ProviderUnavailable(
            f"{provider.title} answered {reply.status}; try again later.",
            service=service,
            retry_after=retry_after(reply.header("Retry-After"), now),
            ambiguous=reply.status not in _SURELY_NOT_DONE,
        )
    if 300 <= reply.status < 400:
        return ProviderMisconfigured(
            f"The token address of {service} redirects; configure the address that answers itself.", service=service
        )
    fields = document(reply)
    verdict, named = _verdict(provider, fields)
    if verdict is not None:
        return _error(provider, verdict, named, phase=phase, reply=reply, now=now)
    if reply.status < 300 and not named and _looks_like_tokens(provider, fields):
        return None
    return VendorBadResponse(
        f"{provider.title} answered {reply.status} without tokens and without an error that is known; try again later, "
        "and check the provider's status page if it stays so.",
        service=service,
        provider_code=named,
        ambiguous=reply.status < 300 and not named,
    )


def retry_after(header: str | None, now: datetime) -> float | None:
    """A Retry-After header in seconds from now, between 1 s and 15 min; None where it is absent or makes no sense."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(max(float(text[:9]), 1.0), LONGEST_WAIT_S)
    try:
        until = parsedate_to_datetime(text)
        return min(max((until - now).total_seconds(), 1.0), LONGEST_WAIT_S)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def callback_error(provider: Provider, code: str) -> Flow8Error:
    """What `error=` in the callback means (RFC 6749 section 4.1.2.1). The provider's own words are not repeated."""
    service = provider.service
    if code in (
        "access_denied",
        "consent_required",
        "login_required",
        "interaction_required",
        "account_selection_required",
    ):
        return AccessDenied(
            f"{provider.title} was not connected, for access was declined. Connect again and agree, or ask an "
            "administrator of the account to.",
            service=service,
            provider_code=known(code),
        )
    if code in ("server_error", "temporarily_unavailable"):
        return ProviderUnavailable(f"{provider.title} could not do it now; connect again later.", service=service)
    return ProviderMisconfigured(
        f"{provider.title} refused the request to connect. Verify client id, redirect URI and scopes of "
        f"oauth2.{service}.",
        service=service,
        provider_code=known(code),
    )


def known(code: str | None) -> str | None:
    """A provider's error code if it looks like one, for support; else None, as it may be anything."""
    if code is None or len(code) > 64 or not code.replace("_", "").replace("-", "").replace(".", "").isalnum():
        return None
    return code if code.isascii() else None


def _verdict(provider: Provider, fields: Mapping[str, Any]) -> tuple[Verdict | None, str | None]:
    """(what it means, the code that says so): None, code for an error that no table knows; None, None for no error."""
    unknown = known(str(fields["error"])) or "error" if fields.get("error") else None
    if unknown is None and fields.get("ok") is not False:
        return None, None
    for table in (*provider.errors, _STANDARD):
        value = fields.get(table.field)
        for item in value if isinstance(value, list) else [value]:
            verdict = table.verdicts.get(str(item))
            if verdict is not None:
                return verdict, str(item)
    return None, unknown or "error"


def _looks_like_tokens(provider: Provider, fields: Mapping[str, Any]) -> bool:
    below = fields.get(provider.user_token_at) if provider.user_token_at else None
    return bool(fields.get("access_token")) or (isinstance(below, Mapping) and bool(below.get("access_token")))


def _error(
    provider: Provider, verdict: Verdict, code: str | None, *, phase: Phase, reply: Reply, now: datetime
) -> Flow8Error:
    title, service = provider.title, provider.service
    match verdict:
        case "invalid_grant" if phase == "connect":
            return InvalidGrant(
                f"{title} refused the authorization code. A code can be used once and for 10 minutes: connect again. "
                "If it stays so, verify that redirect_uri matches exactly, and client_id and client_secret.",
                service=service,
                provider_code=code,
            )
        case "invalid_grant":
            return InvalidGrant(
                f"{title} no longer accepts the refresh token; reconnect the account.",
                service=service,
                provider_code=code,
            )
        case "token_revoked":
            return TokenRevoked(
                f"Access was revoked at {title} by the user or an administrator; reconnect the account.",
                service=service,
                provider_code=code,
            )
        case "insufficient_scope":
            return InsufficientScope(
                f"{title} asks for the user's or an administrator's consent; reconnect the account and grant all "
                "permissions.",
                service=service,
                provider_code=code,
            )
        case "access_denied":
            return AccessDenied(
                f"{title} refuses this account by a policy; its administrator has to allow the application.",
                service=service,
                provider_code=code,
            )
        case "rate_limit_exceeded":
            wait = retry_after(reply.header("Retry-After"), now)
            return RateLimited(
                f"{title} asks for patience; the call is repeated later.",
                service=service,
                provider_code=code,
                retry_after=wait,
            )
        case "provider_misconfigured":
            # RFC 6749 section 5.2: 401 where the client's authentication failed, whatever the code
            sure = reply.status == 401 or code in _CLIENT_REFUSED
            return (AppBlocked if sure else ProviderMisconfigured)(
                f"{title} refuses our application, not the account. Verify client_id, client_secret (is it expired?), "
                f"redirect_uri and tenant of oauth2.{service}; the connected accounts stay as they are.",
                service=service,
                provider_code=code,
            )
        case "provider_unavailable":
            return ProviderUnavailable(
                f"{title} could not answer; try again later.", service=service, provider_code=code, ambiguous=True
            )
