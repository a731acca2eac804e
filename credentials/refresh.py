"""Keeping access tokens alive without ever killing a link: who may refresh, what is written when, and what is believed.

    read -> plan -> claim -> send -> keep the raw reply -> read it -> store on the spent generation -> use

One call at a time per grant, since the claim outlives the call. A reply is durable before anything of it is
interpreted. `invalid_grant` is believed only while the generation that was spent is still the current one. Where
somebody else was first, what they stored is used. See `refresh_plan` for who does what, and `refresh_claims` for the
writes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from credentials import link_errors, refresh_errors, revocation, token_reply
from credentials.adoption import Adoption
from credentials.applications import Applications, refused_mark
from credentials.audit import Audit
from credentials.grants import MAIN, USER, GrantPath
from credentials.links import Link
from credentials.oauth import client_for
from credentials.providers.catalogue import Providers
from credentials.providers.provider import Provider
from credentials.refresh_claims import CALL_S, Claim, Claims, Pause
from credentials.refresh_plan import plan
from credentials.refresh_settings import RefreshSettings
from credentials.spool import Spool
from credentials.token_errors import refusal
from credentials.token_reply import Reply, Tokens
from credentials.vault import Vault
from flow8_core import crashpoints
from flow8_core.clock import Clock, Deadline, SystemClock
from flow8_core.egress import Egress
from flow8_core.errors import (
    Flow8Error,
    InsufficientScope,
    InternalError,
    InvalidGrant,
    ProviderMisconfigured,
    StoreUnavailable,
    TokenRevoked,
    VendorBadResponse,
)
from flow8_core.store import Store

CLAIMED = crashpoints.register("refresh.claimed", "the refresh is claimed in the document; nothing is sent")
SENT = crashpoints.register("refresh.sent", "the provider has answered; nothing of the answer is read")
RECEIVED = crashpoints.register("refresh.received", "the reply is in memory and nowhere else")
SPOOLED = crashpoints.register("refresh.spooled", "the sealed reply is in the spool, if there is one, not in the store")
KEPT = crashpoints.register("refresh.kept", "the raw reply is durable; nothing of it is interpreted")
STORED = crashpoints.register("refresh.stored", "the new tokens are stored; nobody has been told")

LEAST_S = 5.0  # with less time left, a token that may be used once only is not sent
DISBELIEF_S = 300.0  # between two tries of a link whose provider condemns so many that it is not believed
ADOPT_PAUSES_S = (0.05, 0.15, 0.3)  # together half a second: nothing waits longer in a worker

Why = Literal["due", "refused", "wished"]

_CONDEMNED = (InvalidGrant, TokenRevoked, InsufficientScope)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Turn:
    """One caller's look at one grant. `usable`: its access token will do where the refresh fails."""

    link: Link
    path: GrantPath
    provider: Provider
    deadline: Deadline
    usable: bool


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
        return self._with_user(self._renewed(self._current(link), MAIN, deadline, why="wished"), deadline, wished=True)

    def adopt(self, *, deadline: Deadline) -> int:
        """Bring the replies that lie in this host's spool to their links, and read them; how many links live by one
        now. Raises `StoreUnavailable`: they stay where they are."""
        adopted = 0
        for spooled in self._spool.all():
            try:
                link = self._adoption.take(spooled)
                if link is not None:
                    adopted += self.fresh(self._current(link), deadline=deadline).generation > link.generation
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
            link = self._current(link)
        retry_after = None
        for pause_s in (0.0, *ADOPT_PAUSES_S):
            if pause_s:
                self._pause(pause_s)
                link = self._current(link)
            grant, now = link.grant(path), self._store.now()
            self._refuse_unusable(link, path)
            again = why if grant.generation == seen else "due"  # somebody else has done it meanwhile
            turn = _Turn(link, path, provider, deadline, usable=again == "due" and grant.usable(now))
            step = plan(grant, provider, now=now, force=again == "refused", wished=again == "wished")
            match step.step:
                case "use":
                    if again == "wished":
                        raise refresh_errors.unrenewed(link, grant, provider, now=now)
                    return link
                case "dead":
                    raise self._expired(link, path, step.reason or "token_expired")
                case "back_off":
                    raise refresh_errors.backing_off(link, step.retry_after)
                case "recover":
                    found = self._recovered(turn)
                case "send":
                    spooled = step.unknown and self._adoption.keep(link)
                    found = None if spooled else self._sent(turn, unknown=step.unknown)
                case "wait":
                    found, retry_after = None, step.retry_after
            if found is not None:
                return found
        raise refresh_errors.busy(link, retry_after)

    def _sent(self, turn: _Turn, *, unknown: bool) -> Link | None:
        """Claim and refresh; None where somebody else was first."""
        if turn.deadline.remaining() < LEAST_S and turn.provider.replay != "reusable":
            if turn.usable:
                return turn.link
            raise refresh_errors.too_late(turn.link)
        standing = self._applications.standing(turn.provider, now=self._store.now())
        if standing.code is not None and not standing.trial:
            return self._paused(turn, standing.code)
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
            return self._failed(turn, claim, error)
        crashpoints.visit(RECEIVED)
        try:
            found = self._answered(turn, claim, reply, sent_at)
        except _CONDEMNED:
            self._applications.passed(turn.provider, standing)  # it was the grant that was refused, and not we
            raise
        self._applications.passed(turn.provider, standing)
        return found

    def _answered(self, turn: _Turn, claim: Claim, reply: Reply, sent_at: datetime) -> Link | None:
        if not 200 <= reply.status < 300:
            return self._failed(turn, claim, self._refusal(turn.provider, reply))
        envelope = self._claims.sealed_reply(claim, reply, sent_at=sent_at)
        spooled = self._spool.put(claim.link, claim.path, envelope, sent_at=sent_at)
        crashpoints.visit(SPOOLED)
        self._claims.keep_sealed(claim, envelope, sent_at=sent_at)
        self._spool.remove(spooled)
        crashpoints.visit(KEPT)
        return self._read(turn, claim, reply, sent_at)

    def _asked(self, claim: Claim, deadline: Deadline) -> Reply:
        link = claim.link
        provider = self._providers.endpoints(link.service, egress=self._egress, deadline=deadline)
        return client_for(provider, self._egress, deadline).refresh(
            refresh_token=link.open("refresh_token", claim.path),
            scopes=claim.path.of(link.document).get("scopes") or (),
            answered=lambda: crashpoints.visit(SENT),
        )

    def _recovered(self, turn: _Turn) -> Link | None:
        """Go on where a holder ended who had kept the reply and not read it."""
        claim = self._claims.adopt(turn.link, turn.path)
        kept = self._claims.kept_reply(turn.link, turn.path)
        if kept is None:
            self._claims.give_up(claim, pause_s=0.0, spent_perhaps=True)
            return None
        reply, sent_at = kept
        return self._read(turn, claim, reply, sent_at)

    def _read(self, turn: _Turn, claim: Claim, reply: Reply, sent_at: datetime) -> Link | None:
        """Interpret a reply that is durable, and store what it holds."""
        fields = token_reply.document(reply)
        error = refusal(turn.provider, reply, phase="refresh", now=self._store.now())
        tokens = token_reply.tokens_of_refresh(turn.provider, fields) if error is None else None
        if tokens is None:
            return self._failed(turn, claim, error or self._refusal(turn.provider, reply), kept_at=sent_at)
        link = self._claims.store_tokens(claim, tokens, turn.provider, issued_at=sent_at)
        crashpoints.visit(STORED)
        if link is None:
            return self._superseded(turn, tokens)
        self._record("integration_refreshed", link, turn.path)
        return link

    def _refusal(self, provider: Provider, reply: Reply) -> Flow8Error:
        error = refusal(provider, reply, phase="refresh", now=self._store.now())
        return error or VendorBadResponse(
            f"{provider.title} answered a refresh without a usable access token; try again later.",
            service=provider.service,
            ambiguous=True,
        )

    def _failed(self, turn: _Turn, claim: Claim, error: Flow8Error, *, kept_at: datetime | None = None) -> Link | None:
        """The token that still works, for a refresh that failed early enough; else the error, saying whose it is.
        `kept_at` names the reply that says so where it was kept: Slack refuses with a 200."""
        if isinstance(error, _CONDEMNED):
            return self._condemned(turn, claim, error, kept_at)
        perhaps = (error.ambiguous or claim.unknown) and turn.provider.replay != "reusable"
        marks = {}
        if isinstance(error, ProviderMisconfigured):
            now = self._store.now()
            code = self._applications.refused(turn.provider, error, claim.link, now=now)
            marks = refused_mark(claim.link, "app", now)
            if code is not None:
                self._claims.give_up(claim, pause_s=0.0, spent_perhaps=perhaps, marks=marks)
                return self._paused(turn, code)
        self._claims.give_up(claim, pause_s=error.retry_after, spent_perhaps=perhaps, marks=marks)
        if claim.link.grant(turn.path).failures == 0:
            self._record("integration_refresh_failed", claim.link, turn.path, error=error)
        if turn.usable:
            return claim.link
        error.service, error.link_id = claim.link.service, str(claim.link.id)
        raise error

    def _condemned(self, turn: _Turn, claim: Claim, error: Flow8Error, kept_at: datetime | None) -> Link | None:
        """The provider says that the grant is over: believed unless somebody has spent or is spending it meanwhile."""
        for pause_s in (0.0, *(ADOPT_PAUSES_S if claim.unknown else ())):
            self._pause(pause_s)
            grant = self._current(turn.link).grant(turn.path)
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
        self._record("integration_needs_reconnect", buried, turn.path, error=error)
        raise link_errors.unusable(buried) or error

    def _disbelieved(self, turn: _Turn, claim: Claim, error: Flow8Error, marks: Mapping[str, Any]) -> Link:
        """The provider condemns so many links that it is asked again later, before any of them is given up."""
        perhaps = claim.unknown and turn.provider.replay != "reusable"
        self._claims.give_up(claim, pause_s=DISBELIEF_S, spent_perhaps=perhaps, marks=marks)
        if turn.usable:
            return claim.link
        raise refresh_errors.disbelieved(claim.link, turn.provider, error, retry_after=DISBELIEF_S)

    def _paused(self, turn: _Turn, code: str) -> Link | None:
        """The application is refused: the link waits until that is mended, and its access token is used to its end."""
        blocked = self._claims.block(turn.link, code)
        if blocked is not None:
            self._record("integration_status_changed", blocked, turn.path)
        link = blocked or self._current(turn.link)
        error = link_errors.unusable(link)
        if turn.usable:
            return link
        if error is not None:
            raise error
        return None  # somebody has just mended it

    def _expired(self, link: Link, path: GrantPath, reason: str) -> Flow8Error:
        """What to raise for a grant that nothing can renew, after its status says so."""
        expired = self._claims.expire(link, path, reason)
        if expired is None:
            return refresh_errors.busy(link)
        self._record("integration_needs_reconnect", expired, path)
        return link_errors.unusable(expired) or InvalidGrant("Reconnect the account.", link_id=str(link.id))

    def _superseded(self, turn: _Turn, tokens: Tokens) -> Link | None:
        """Our new tokens came too late. A newer grant is used, and ours left alone: revoking it could take the newer
        with it. Where the link was taken away meanwhile, nobody else will ever revoke them."""
        link = self._claims.reread(turn.link)
        if link is not None and link.status != "revoked":
            return None
        revocation.put_tokens(self._store, self._vault, link or turn.link, turn.path, tokens)
        raise (link_errors.unusable(link) if link else None) or link_errors.gone(turn.link.service)

    def _current(self, link: Link) -> Link:
        found = self._claims.reread(link)
        if found is None:
            raise link_errors.gone(link.service)
        return found

    def _refuse_unusable(self, link: Link, path: GrantPath) -> None:
        if link.status == "app_blocked":
            return  # while its access token lasts that is enough; a refresh asks whether the application is mended
        if link.status == "needs_reconnect" and link.grant(path).reply_kept:
            return  # a holder who was stopped for long has landed better tokens
        error = link_errors.unusable(link)
        if error is not None:
            raise error

    def _record(self, action: str, link: Link, path: GrantPath, *, error: Flow8Error | None = None) -> None:
        after: dict[str, Any] = {"service": link.service, "status": link.status, "status_reason": link.status_reason}
        after |= {"generation": link.grant(path).generation, "token_expiry": link.grant(path).expiry}
        if path == USER:
            after["kind"] = "user_token"
        Audit(self._store, self._vault, link.company_id).record(
            action, resource_type="integration", resource_id=str(link.id), after=after, error=error
        )
