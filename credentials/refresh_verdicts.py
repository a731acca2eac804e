"""What a refresh that brought no token means for its link: nothing, a pause, or its end.

A link is condemned on evidence about its own grant alone: not for an application that is refused, not by a provider
that condemns many at once, and not while somebody newer has spent, or is spending, what was refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from credentials import link_errors, refresh_errors
from credentials.applications import Applications, refused_mark
from credentials.grants import GrantPath
from credentials.link import Link
from credentials.refresh_claims import Claim, Claims, Pause
from credentials.refresh_turn import ADOPT_PAUSES_S, Chronicle, Turn
from credentials.vault import Vault
from flow8_core.errors import Flow8Error, InsufficientScope, InvalidGrant, ProviderMisconfigured, TokenRevoked
from flow8_core.store import Store

DISBELIEF_S = 300.0  # between two tries of a link whose provider condemns so many that it is not believed

CONDEMNED = (InvalidGrant, TokenRevoked, InsufficientScope)


class Verdicts:
    """Says what becomes of a link whose refresh failed, and writes it."""

    def __init__(self, store: Store, vault: Vault, *, claims: Claims, applications: Applications, pause: Pause) -> None:
        self._store = store
        self._claims = claims
        self._applications = applications
        self._pause = pause
        self._chronicle = Chronicle(store, vault)

    def failed(self, turn: Turn, claim: Claim, error: Flow8Error, *, kept_at: datetime | None = None) -> Link | None:
        """The token that still works, for a refresh that failed early enough; else the error, saying whose it is. None
        where somebody else has better tokens. `kept_at` names the reply that says so where it was kept: Slack refuses
        with a 200."""
        if isinstance(error, CONDEMNED):
            try:
                return self._condemned(turn, claim, error, kept_at)
            finally:
                self._applications.passed(turn.provider, turn.standing)  # it is the grant that is refused, and not we
        perhaps = (error.ambiguous or claim.unknown) and turn.provider.replay != "reusable"
        marks = {}
        if isinstance(error, ProviderMisconfigured):
            now = self._store.now()
            code = self._applications.refused(turn.provider, error, claim.link, now=now)
            marks = refused_mark(claim.link, "app", now)
            if code is not None:
                self._claims.give_up(claim, pause_s=0.0, spent_perhaps=perhaps, marks=marks)
                return self.paused(turn, code)
        self._claims.give_up(claim, pause_s=error.retry_after, spent_perhaps=perhaps, marks=marks)
        if claim.link.grant(turn.path).failures == 0:
            self._chronicle.record("integration_refresh_failed", claim.link, turn.path, error=error)
        if turn.usable:
            return claim.link
        error.service, error.link_id = claim.link.service, str(claim.link.id)
        raise error

    def paused(self, turn: Turn, code: str) -> Link | None:
        """The application is refused: the link waits until that is mended, and its access token is used to its end."""
        blocked = self._claims.block(turn.link, code)
        if blocked is not None:
            self._chronicle.record("integration_status_changed", blocked, turn.path)
        link = blocked or self._claims.current(turn.link)
        error = link_errors.unusable(link)
        if turn.usable:
            return link
        if error is not None:
            raise error
        return None  # somebody has just mended it

    def expired(self, link: Link, path: GrantPath, reason: str) -> Flow8Error:
        """What to raise for a grant that nothing can renew, after its status says so."""
        expired = self._claims.expire(link, path, reason)
        if expired is None:
            return refresh_errors.busy(link)
        self._chronicle.record("integration_needs_reconnect", expired, path)
        return link_errors.unusable(expired) or InvalidGrant("Reconnect the account.", link_id=str(link.id))

    def _condemned(self, turn: Turn, claim: Claim, error: Flow8Error, kept_at: datetime | None) -> Link | None:
        """The provider says that the grant is over: believed unless somebody has spent or is spending it meanwhile."""
        for pause_s in (0.0, *(ADOPT_PAUSES_S if claim.unknown else ())):
            self._pause(pause_s)
            grant = self._claims.current(turn.link).grant(turn.path)
            another_kept = grant.reply_kept and grant.claim.get("sent_at") != kept_at
            if grant.generation != claim.generation or another_kept:
                return None
        lost = claim.unknown and turn.provider.replay != "reusable" and isinstance(error, InvalidGrant)
        now = self._store.now()
        marks = {} if lost else refused_mark(claim.link, "grant", now)
        if self._applications.mistrusts(turn.provider, claim.link, now=now):
            return self._disbelieved(turn, claim, error, marks)
        buried = self._claims.bury(claim, "refresh_outcome_lost" if lost else error.code, marks=marks)
        if buried is None:
            return None
        self._chronicle.record("integration_needs_reconnect", buried, turn.path, error=error)
        raise link_errors.unusable(buried) or error

    def _disbelieved(self, turn: Turn, claim: Claim, error: Flow8Error, marks: Mapping[str, Any]) -> Link:
        """The provider condemns so many links that it is asked again later, before any of them is given up."""
        perhaps = claim.unknown and turn.provider.replay != "reusable"
        self._claims.give_up(claim, pause_s=DISBELIEF_S, spent_perhaps=perhaps, marks=marks)
        if turn.usable:
            return claim.link
        raise refresh_errors.disbelieved(claim.link, turn.provider, error, retry_after=DISBELIEF_S)
