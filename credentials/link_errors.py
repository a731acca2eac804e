"""Why a link cannot be used, and what its owner does about it: the seed's troubleshooting section, one case each."""

from __future__ import annotations

from collections.abc import Iterable

from credentials.links import Link
from flow8_core.errors import (
    AccessDenied,
    AppBlocked,
    Flow8Error,
    InsufficientScope,
    InvalidGrant,
)

_REASONS = {
    "invalid_grant": "the provider no longer accepts its refresh token",
    "token_revoked": "access was revoked at the provider, by the user or an administrator",
    "token_expired": "its access token is over, and the provider gave no refresh token",
    "insufficient_scope": "the provider wants the user's or an administrator's consent again",
    "refresh_outcome_lost": "a refresh broke off, and the token that the provider may have given instead is lost",
}


def gone(service: str | None = None) -> AccessDenied:
    """There is no such link, or it is somebody else's: nobody is told which."""
    return AccessDenied(
        "The link that the step names is not there, or not for this user; `flow8 link list` shows those that are.",
        service=service,
    )


def none_connected(service: str) -> AccessDenied:
    """The user has no link of the service, and the company shares none."""
    return AccessDenied(
        f"No {service} account is connected for this user; connect one with `flow8 link connect {service}`.",
        service=service,
    )


def unusable(link: Link) -> Flow8Error | None:
    """The error of a link that is not active; None for one that is.

    `InvalidGrant` and `AppBlocked` carry the link's id: what waits for the link may wait on. `AccessDenied` does not:
    it is over.
    """
    service, link_id = link.service, str(link.id)
    match link.status:
        case "active":
            return None
        case "needs_reconnect":
            return needs_reconnect(link, link.status_reason)
        case "app_blocked":
            return AppBlocked(
                f"The {service} application is refused by the provider. Verify client_id and client_secret of "
                f"oauth2.{service}; the link {link_id} works again then.",
                service=service,
                link_id=link_id,
            )
        case _:
            return AccessDenied(
                f"The {service} link {link_id} was revoked here; its owner has to connect the account again.",
                service=service,
            )


def needs_reconnect(link: Link, reason: str | None) -> InvalidGrant:
    """A grant of the link's is over; `reason` is a `status_reason`."""
    because = _REASONS.get(reason or "", "the provider refuses it")
    return InvalidGrant(
        f"The {link.service} link {link.id} needs to be reconnected: {because}. Reconnect it with "
        f"`flow8 link connect {link.service} --reconnect {link.id}`, signed in as the same account.",
        service=link.service,
        link_id=str(link.id),
        provider_code=reason,
    )


def lacks_scopes(link: Link, missing: Iterable[str]) -> InsufficientScope:
    """The grant lacks what the step needs."""
    return InsufficientScope(
        f"The {link.service} link {link.id} lacks the permission {', '.join(missing)}. Reconnect it, and see that "
        "the user grants all requested permissions.",
        service=link.service,
        link_id=str(link.id),
    )
