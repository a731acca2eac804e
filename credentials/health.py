"""How a link is, in words: what its status means, what will end it, and who does what about it."""

from __future__ import annotations

from typing import Any

from credentials import link_errors
from credentials.forecast import forecast
from credentials.grants import USER
from credentials.link import Link
from credentials.link_notes import NEEDS_RECONNECT


def told(link: Link) -> dict[str, Any]:
    """`{message, forecast}` of a link that was read whole: what to know or do now, and what a person will have to do
    later; each None where that is nothing."""
    end = forecast(link)
    return {"message": _message(link), "forecast": end.describe(link) if end else None}


def _message(link: Link) -> str | None:
    trouble = link_errors.unusable(link)
    if trouble is not None:
        return trouble.message
    user = link.grant(USER).fields
    if user.get("status") == NEEDS_RECONNECT:
        return f"The user's own token: {link_errors.needs_reconnect(link, user.get('status_reason')).message}"
    return None
