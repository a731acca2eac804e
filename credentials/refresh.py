"""Keeping access tokens alive without ever killing a link: who may refresh, what is written when, and what is believed.

    read -> plan -> claim -> send -> keep the raw reply -> read it -> store on the spent generation -> use

One call at a time per grant, since the claim outlives the call (`refresh_claims`: the writes). A reply is durable
before anything of it is interpreted (`refresh_replies`). `invalid_grant` is believed only while the generation that was
spent is still the current one (`refresh_verdicts`). Where somebody else was first, what they stored is used.
`refresh_plan` says who does what.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from credentials import link_errors, refresh_errors
from credentials.adoption import Adoption
from credentials.applications import Applications
from credentials.grants import MAIN, USER, GrantPath
from credentials.links import Link
from credentials.oauth import client_for
from credentials.providers.catalogue import Providers
from credentials.refresh_claims import CALL_S, Claim, Claims, Pause
from credentials.refresh_plan import plan
from credentials.refresh_replies import Replies
from credentials.refresh_settings import RefreshSettings
from credentials.refresh_turn import ADOPT_PAUSES_S, Turn
from credentials.refresh_verdicts import Verdicts
from credentials.spool import Spool
from credentials.token_reply import Reply
from credentials.vault import Vault
from flow8_core import crashpoints
from flow8_core.clock import Clock, Deadline, SystemClock
from flow8_core.egress import Egress
from flow8_core.errors import Flow8Error, InternalError, StoreUnavailable
from flow8_core.store import Store

CLAIMED = crashpoints.register("refresh.claimed", "the refresh is claimed in the document; nothing is sent")
SENT = crashpoints.register("refresh.sent", "the provider has answered; nothing of the answer is read")
RECEIVED = crashpoints.register("refresh.received", "the reply is in memory and nowhere else")

LEAST_S = 5.0  # with less time left, a token that may be used once only is not sent

Why = Literal["due", "refused", "wished"]

_log = logging.getLogger(__name__)


class Refresher:
    """Hands out links whose access token works. Threads and processes may all have one, on the same store."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        providers: Providers,
        egress: Egress,
        *,
        settings: RefreshSettings = RefreshSettings(),  # noqa: B008  frozen
        clock: Clock = SystemClock(),  # noqa: B008  has no state
        pause: Pause = time.sleep,
    ) -> None:
        self._store = store
        self._vault = vault
        self._providers = providers
        self._egress = egress
        self._clock = clock
        self._pause = pause
        self._claims = Claims(store, vault, pause=pause)
        self._applications = Applications(store, vault, settings)
        self._spool = Spool(settings.spool)
        self._adoption = Adoption(store, vault, providers, self._claims, self._spool)
        self._verdicts = Verdicts(store, vault, claims=self._claims, applications=self._applications, pause=pause)
        self._replies = Replies(
            store, vault, claims=self._claims, spool=self._spool, applications=self._applications,
            verdicts=self._verdicts,
        )  # fmt: skip

    def fresh(self, link: Link, *, deadline: Deadline, force: bool = False) -> Link:
        """The link with a usable access token, refreshed where that is due; never waits longer than a second for
        others.

        `force`: the vendor refused the token that `link` holds; it is replaced unless somebody has done so already.

        Raises `RefreshBusy` where somebody else refreshes and the token is over; `InvalidGrant` with the link's id
        where it must be reconnected; `AccessDenied` or `TokenRevoked` where it is gone; `ProviderMisconfigured`,
        `RateLimited`, `ProviderUnavailable` or `VendorBadResponse` where the refresh failed and the token is over;
        `ExecutionTimeout` where too little time is left to begin; `StoreUnavailable`.
        """
        return self._with_user(self._renewed(link, MAIN, deadline, why="refused" if force else "due"), deadline)

    def refresh(self, link: Link, *, deadline: Deadline) -> Link:
        """Refresh a link now, by somebody's wish: due or not, but no earlier than a failure allows, and never against
        the rules by which it lives.

        Raises as `fresh`, also where the old access token would do; `ValidationFailed` where the provider gave no
        refresh token.
        """
        return self._with_user(
            self._renewed(self._claims.current(link), MAIN, deadline, why="wished"), deadline, wished=True
        )

    def adopt(self, *, deadline: Deadline) -> int:
        """Bring the replies that lie in this host's spool to their links, and read them; how many links live by one
        now. Raises `StoreUnavailable`: they stay where they are."""
        adopted = 0
        for spooled in self._spool.all():
            try:
                link = self._adoption.take(spooled)
                if link is not None:
                    adopted += self.fresh(self._claims.current(link), deadline=deadline).generation > link.generation
            except StoreUnavailable:
                raise
            except Flow8Error as error:
                _log.warning("the spooled reply of link %s brought nothing: %s", spooled.link_id, error.code)
        return adopted

    def _with_user(self, renewed: Link, deadline: Deadline, *, wished: bool = False) -> Link:
        """The link with the user's own token renewed as well, where it has one."""
        user = renewed.grant(USER)
        if not user.exists or user.fields.get("status") == "needs_reconnect":
            return renewed
        try:
            return self._renewed(renewed, USER, deadline, why="wished" if wished and user.refreshable else "due")
        except Flow8Error as error:
            # the main token works: a step that needs the user's own will find that missing and say so
            _log.warning("the user token of link %s was not refreshed: %s", renewed.id, error.code)
            return self._claims.reread(renewed) or renewed

    def _renewed(self, link: Link, path: GrantPath, deadline: Deadline, *, why: Why) -> Link:
        provider, seen = self._providers.get(link.service), link.grant(path).generation
        if why == "refused":
            link = self._claims.current(link)
        retry_after = None
        for pause_s in (0.0, *ADOPT_PAUSES_S):
            if pause_s:
                self._pause(pause_s)
                link = self._claims.current(link)
            grant, now = link.grant(path), self._store.now()
            self._refuse_unusable(link, path)
            again = why if grant.generation == seen else "due"  # somebody else has done it meanwhile
            turn = Turn(link, path, provider, deadline, usable=again == "due" and grant.usable(now))
            step = plan(grant, provider, now=now, force=again == "refused", wished=again == "wished")
            match step.step:
                case "use":
                    if again == "wished":
                        raise refresh_errors.unrenewed(link, grant, provider, now=now)
                    return link
                case "dead":
                    raise self._verdicts.expired(link, path, step.reason or "token_expired")
                case "back_off":
                    raise refresh_errors.backing_off(link, step.retry_after)
                case "recover":
                    found = self._replies.recover(turn)
                case "send":
                    spooled = step.unknown and self._adoption.keep(link)
                    found = None if spooled else self._sent(turn, unknown=step.unknown)
                case "wait":
                    found, retry_after = None, step.retry_after
            if found is not None:
                return found
        raise refresh_errors.busy(link, retry_after)

    def _sent(self, turn: Turn, *, unknown: bool) -> Link | None:
        """Claim and refresh; None where somebody else was first."""
        if turn.deadline.remaining() < LEAST_S and turn.provider.replay != "reusable":
            if turn.usable:
                return turn.link
            raise refresh_errors.too_late(turn.link)
        standing = self._applications.standing(turn.provider, now=self._store.now())
        if standing.code is not None and not standing.trial:
            return self._verdicts.paused(turn, standing.code)
        turn = replace(turn, standing=standing)
        claim = self._claims.take(turn.link, turn.path, unknown=unknown)
        if claim is None:
            return None
        crashpoints.visit(CLAIMED)
        if claim.lease_until - self._store.now() < timedelta(seconds=CALL_S):
            self._claims.hand_back(claim)  # this process was stopped since: somebody else may have begun
            return None
        sent_at = self._store.now()
        try:
            reply = self._asked(claim, turn.deadline.capped(CALL_S))
        except InternalError:
            self._claims.hand_back(claim)  # nothing was sent: the refresh token does not open
            if turn.usable:
                return turn.link
            raise
        except Flow8Error as error:
            return self._verdicts.failed(turn, claim, error)
        crashpoints.visit(RECEIVED)
        return self._replies.take(turn, claim, reply, sent_at=sent_at)

    def _asked(self, claim: Claim, deadline: Deadline) -> Reply:
        link = claim.link
        provider = self._providers.endpoints(link.service, egress=self._egress, deadline=deadline)
        return client_for(provider, self._egress, deadline).refresh(
            refresh_token=link.open("refresh_token", claim.path),
            scopes=claim.path.of(link.document).get("scopes") or (),
            answered=lambda: crashpoints.visit(SENT),
        )

    def _refuse_unusable(self, link: Link, path: GrantPath) -> None:
        if link.status == "app_blocked":
            return  # while its access token lasts that is enough; a refresh asks whether the application is mended
        if link.status == "needs_reconnect" and link.grant(path).reply_kept:
            return  # a holder who was stopped for long has landed better tokens
        error = link_errors.unusable(link)
        if error is not None:
            raise error
