"""What to do about a grant's access token: a pure function of one read of the link, so that every case can be listed.

The rules: a token that still works is used rather than waited for. Whoever refreshes says so in the document first, for
longer than the call can last. Where such a claim was broken off, the refresh token may or may not be spent, and the
provider's replay policy decides: `reusable` is tried again; `grace` is, for as long as the server promises; otherwise
the old access token is used to its end, and only then the refresh token is presented once more, for then nothing can be
lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from credentials.grants import Grant
from credentials.providers.provider import Provider

BUSY_RETRY_S = 2.0  # a refresh usually takes less

Step = Literal["use", "recover", "send", "wait", "back_off", "dead"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The next step.

    `use` the token as it is. `recover` the reply that a claim's holder stored but did not get to read. `send` the
    refresh token, `unknown` being true where an earlier holder may have sent it. `wait` for another holder, or
    `back_off` after a failure, for `retry_after` seconds. `dead`: the token is over and nothing can renew it; `reason`
    is for the status.
    """

    step: Step
    unknown: bool = False
    retry_after: float | None = None
    reason: str | None = None


USE = Plan("use")


def plan(grant: Grant, provider: Provider, *, now: datetime, force: bool = False, wished: bool = False) -> Plan:
    """What to do now. `force`: the vendor refused the access token, whatever its dates say. `wished`: somebody wants a
    new one, although the old one may be good for long; `use` then says that it has to do."""
    if grant.reply_kept:
        return Plan("recover")
    if not (force or wished or grant.due(now) or urgent(grant, provider, now)):
        return USE
    usable = grant.usable(now) and not force
    if not grant.refreshable:
        return USE if usable else Plan("dead", reason="token_revoked" if force else "token_expired")
    held_s = _seconds_until(grant.claim.get("lease_until"), now)
    if held_s > 0:
        return USE if usable and not wished else Plan("wait", retry_after=min(held_s, BUSY_RETRY_S))
    pause_s = _seconds_until(grant.not_before, now)
    if pause_s > 0:
        return USE if usable and not wished else Plan("back_off", retry_after=pause_s)
    if not grant.claim:
        return Plan("send")
    if usable and not may_repeat(grant, provider, now):
        return USE
    return Plan("send", unknown=True)


def urgent(grant: Grant, provider: Provider, now: datetime) -> bool:
    """Whether a refresh that was broken off must be repeated although none is due: while the grace lasts it brings the
    token that was lost, and later it does not."""
    held = _seconds_until(grant.claim.get("lease_until"), now) > 0
    return bool(grant.claim) and not held and provider.replay == "grace" and may_repeat(grant, provider, now)


def may_repeat(grant: Grant, provider: Provider, now: datetime) -> bool:
    """Whether presenting the refresh token again is harmless although its use may have succeeded."""
    if provider.replay == "reusable":
        return True
    started = grant.claim.get("started_at")
    if provider.replay != "grace" or not isinstance(started, datetime):
        return False
    return now < started + timedelta(seconds=provider.grace_s)


def _seconds_until(moment: datetime | None, now: datetime) -> float:
    return (moment - now).total_seconds() if isinstance(moment, datetime) else 0.0
