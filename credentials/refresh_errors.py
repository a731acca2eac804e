"""Why a refresh was not made, and what to do about it. What the provider's refusals mean is in `token_errors`."""

from __future__ import annotations

from datetime import datetime

from credentials.grants import Grant
from credentials.link import Link
from credentials.providers.provider import Provider
from flow8_core.errors import ExecutionTimeout, Flow8Error, ProviderUnavailable, RefreshBusy, ValidationFailed


def busy(link: Link, retry_after: float | None = None) -> RefreshBusy:
    """Somebody else is at it, and the access token is over."""
    return RefreshBusy(
        f"The {link.service} link {link.id} is being refreshed by another process; try again in a moment.",
        service=link.service,
        link_id=str(link.id),
        retry_after=retry_after or 1.0,
    )


def too_late(link: Link) -> ExecutionTimeout:
    """A call that begins now could be broken off by the step's deadline."""
    return ExecutionTimeout(
        f"Too little time is left to refresh the {link.service} link; raise the step's timeout.",
        service=link.service,
        link_id=str(link.id),
    )


def backing_off(link: Link, retry_after: float | None) -> ProviderUnavailable:
    """The last try failed a moment ago."""
    return ProviderUnavailable(
        f"The last refresh of the {link.service} link {link.id} failed; it is tried again in a moment.",
        service=link.service,
        link_id=str(link.id),
        retry_after=retry_after,
    )


def disbelieved(link: Link, provider: Provider, error: Flow8Error, *, retry_after: float) -> ProviderUnavailable:
    """The provider condemns so many links at once that none is given up for it."""
    return ProviderUnavailable(
        f"{provider.title} refuses many accounts at once, so that the {link.service} link {link.id} is not given up "
        "but tried again later. Its administrator has been told in the log.",
        service=link.service,
        link_id=str(link.id),
        provider_code=error.provider_code,
        retry_after=retry_after,
    )


def unrenewed(link: Link, grant: Grant, provider: Provider, *, now: datetime) -> Flow8Error:
    """Why a wish cannot be met although the link works."""
    if not grant.refreshable:
        return ValidationFailed(
            f"{provider.title} gave no refresh token for the link {link.id}; connect it anew with "
            f"`flow8 link connect {link.service} --reconnect {link.id}` when its access token ends.",
            path="ID",
            service=link.service,
            link_id=str(link.id),
        )
    left_s = (grant.expiry - now).total_seconds() if grant.expiry else 0.0
    return RefreshBusy(
        f"Whether an earlier refresh of the {link.service} link {link.id} took place is unknown. Its access token is "
        "used to its end, and only then the refresh token is tried again, for then nothing can be lost.",
        service=link.service,
        link_id=str(link.id),
        retry_after=max(1.0, left_s),
    )
