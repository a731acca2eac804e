"""When the upkeep next looks at a link: a pure function of the link, kept in its field `upkeep_at`.

`refresh_at` says from when on a refresh is due, and a step that comes by then refreshes. A link that nobody uses is
looked after by the upkeep, a little later: links that were connected at the same moment spread over a quarter of the
time that is left, each at a place of its own that follows from its id. A moment that is too early costs one look; the
next one is then set anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId

from credentials.grants import MAIN, MARGIN_S, USER, Grant, GrantPath
from credentials.providers.provider import Provider
from credentials.refresh_plan import may_repeat

FIELD = "upkeep_at"
NEVER = datetime(2999, 1, 1, tzinfo=UTC)
SPREAD = 0.25  # of the time between a refresh's being due and the end


def of_document(document: Mapping[str, Any], provider: Provider, *, now: datetime) -> datetime:
    """When to look at a link, as this document has it; `NEVER` where time alone changes nothing."""
    spread = spread_of(document["_id"])
    grants = (Grant(path, path.of(document)) for path in (MAIN, USER))
    return min(of_grant(grant, provider, now=now, spread=spread) for grant in grants)


def of_grant(grant: Grant, provider: Provider, *, now: datetime, spread: float) -> datetime:
    """When to look at one grant. `spread`, from 0 to 1, is its place among those that are due at the same moment."""
    if not grant.exists or (grant.path == USER and grant.fields.get("status") == "needs_reconnect"):
        return NEVER
    end = grant.expiry and grant.expiry - timedelta(seconds=MARGIN_S)
    if not grant.refreshable:
        return end or NEVER  # its owner is told then
    if grant.reply_kept:
        return now
    moment = min(
        _within(grant.due_at, grant.expiry, spread),
        _within(grant.keep_alive_at, grant.fields.get("grant_idle_at"), spread),
    )
    claim = grant.claim
    if claim:
        held_until = claim.get("lease_until") or now
        if not may_repeat(grant, provider, max(now, held_until)):
            moment = max(end or NEVER, held_until)  # only then is there nothing to lose
        elif provider.replay == "grace":
            moment = held_until  # the grace does not wait
        else:
            moment = max(moment, held_until)
    return max(moment, grant.not_before or moment)


def spread_of(link_id: ObjectId) -> float:
    """A link's own place between 0 and 1, always the same."""
    return int.from_bytes(hashlib.blake2b(link_id.binary, digest_size=6).digest(), "big") / 2.0**48


def changed(document: Mapping[str, Any], path: GrantPath, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A link document as it is once `fields` of one grant (named from the document's top) are set in it, and the
    grant's claim and pause are gone."""
    own = {name.removeprefix(path.prefix): value for name, value in fields.items() if name.startswith(path.prefix)}
    grant = {name: value for name, value in path.of(document).items() if name not in ("refresh", "not_before")} | own
    return grant if path == MAIN else {**document, USER.prefix[:-1]: grant}


def _within(start: datetime | None, end: datetime | None, spread: float) -> datetime:
    if start is None:
        return NEVER
    return start if end is None or end <= start else start + SPREAD * spread * (end - start)
