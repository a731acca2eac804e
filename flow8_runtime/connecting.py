"""The way back from a vendor, and what follows for plays: whatever waited for the link goes on at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from credentials.links import Link
from flow8_core import crashpoints
from flow8_core.errors import StoreUnavailable
from flow8_runtime.platform import Platform

RELEASED = crashpoints.register("reconnect.released", "what waited for the link is queued; no worker has been woken")

log = logging.getLogger("flow8.connecting")


@dataclass(frozen=True)
class Connected:
    """A connection that has come to its end. `missing` are scopes that were asked for and not granted, `released` says
    how many plays go on that had waited for the link."""

    link: Link
    missing: tuple[str, ...]
    released: int


def complete(
    platform: Platform,
    query: Sequence[tuple[str, str]],
    *,
    service: str | None = None,
    browser: str | None = None,
) -> Connected:
    """`Connect.complete`, then the plays that wait for this link are queued and workers are woken. Raises what
    `Connect.complete` raises."""
    link = platform.connect.complete(query, service=service, browser=browser)
    return Connected(link, missing_scopes(platform, link), release(platform, link))


def missing_scopes(platform: Platform, link: Link) -> tuple[str, ...]:
    """The scopes that the link's last connect asked for and that it does not have."""
    return platform.providers.get(link.service).scopes.missing(link.asked, link.scopes)


def release(platform: Platform, link: Link) -> int:
    """Let go what waits for a link that works again; how many plays that were. The link is stored by now: where the
    store or the broker does not answer, the sweep does this within its pause."""
    ledger = platform.ledger
    try:
        released = ledger.release(str(link.id), company_id=link.company_id)
        crashpoints.visit(RELEASED)
        if released:
            platform.bell.ring(sorted(ledger.candidates.due_queues(now=ledger.now())))
    except StoreUnavailable as error:
        log.warning("what waits for the link %s goes on with the next sweep: %s", link.id, error.message)
        return 0
    return released
