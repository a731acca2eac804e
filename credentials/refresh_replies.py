"""What a token endpoint answers to a refresh: durable before anything of it is read, then read, then stored on the
generation that was spent.

    sealed -> in the spool, if there is one -> in the claim -> read -> the link's new tokens
"""

from __future__ import annotations

from datetime import datetime

from credentials import link_errors, revocation, token_reply
from credentials.applications import Applications
from credentials.link import Link
from credentials.providers.provider import Provider
from credentials.refresh_claims import Claim, Claims
from credentials.refresh_turn import Chronicle, Turn
from credentials.refresh_verdicts import Verdicts
from credentials.spool import Spool
from credentials.token_errors import refusal
from credentials.token_reply import Reply, Tokens
from credentials.vault import Vault
from flow8_core import crashpoints
from flow8_core.errors import Flow8Error, VendorBadResponse
from flow8_core.store import Store

SPOOLED = crashpoints.register("refresh.spooled", "the sealed reply is in the spool, if there is one, not in the store")
KEPT = crashpoints.register("refresh.kept", "the raw reply is durable; nothing of it is interpreted")
STORED = crashpoints.register("refresh.stored", "the new tokens are stored; nobody has been told")


class Replies:
    """Keeps and reads replies; what a refusal means is for `verdicts` to say."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        *,
        claims: Claims,
        spool: Spool,
        applications: Applications,
        verdicts: Verdicts,
    ) -> None:
        self._store = store
        self._vault = vault
        self._claims = claims
        self._spool = spool
        self._applications = applications
        self._verdicts = verdicts
        self._chronicle = Chronicle(store, vault)

    def take(self, turn: Turn, claim: Claim, reply: Reply, *, sent_at: datetime) -> Link | None:
        """The link with what the reply brought; None where somebody newer has it. Raises as `Verdicts.failed`, and
        `StoreUnavailable`."""
        if not 200 <= reply.status < 300:
            return self._verdicts.failed(turn, claim, self._refusal(turn.provider, reply))
        envelope = self._claims.sealed_reply(claim, reply, sent_at=sent_at)
        spooled = self._spool.put(claim.link, claim.path, envelope, sent_at=sent_at)
        crashpoints.visit(SPOOLED)
        self._claims.keep_sealed(claim, envelope, sent_at=sent_at)
        self._spool.remove(spooled)
        crashpoints.visit(KEPT)
        return self._read(turn, claim, reply, sent_at)

    def recover(self, turn: Turn) -> Link | None:
        """Go on where a holder ended who had kept the reply and not read it. As `take`."""
        claim = self._claims.adopt(turn.link, turn.path)
        kept = self._claims.kept_reply(turn.link, turn.path)
        if kept is None:
            self._claims.give_up(claim, pause_s=0.0, spent_perhaps=True)
            return None
        reply, sent_at = kept
        return self._read(turn, claim, reply, sent_at)

    def _read(self, turn: Turn, claim: Claim, reply: Reply, sent_at: datetime) -> Link | None:
        """Interpret a reply that is durable, and store what it holds."""
        fields = token_reply.document(reply)
        error = refusal(turn.provider, reply, phase="refresh", now=self._store.now())
        tokens = token_reply.tokens_of_refresh(turn.provider, fields) if error is None else None
        if tokens is None:
            error = error or self._refusal(turn.provider, reply)
            return self._verdicts.failed(turn, claim, error, kept_at=sent_at)
        link = self._claims.store_tokens(claim, tokens, turn.provider, issued_at=sent_at)
        crashpoints.visit(STORED)
        self._applications.passed(turn.provider, turn.standing)
        if link is None:
            return self._superseded(turn, tokens)
        self._chronicle.record("integration_refreshed", link, turn.path)
        return link

    def _superseded(self, turn: Turn, tokens: Tokens) -> Link | None:
        """Our new tokens came too late. A newer grant is used, and ours left alone: revoking it could take the newer
        with it. Where the link was taken away meanwhile, nobody else will ever revoke them."""
        link = self._claims.reread(turn.link)
        if link is not None and link.status != "revoked":
            return None
        revocation.put_tokens(self._store, self._vault, link or turn.link, turn.path, tokens)
        raise (link_errors.unusable(link) if link else None) or link_errors.gone(turn.link.service)

    def _refusal(self, provider: Provider, reply: Reply) -> Flow8Error:
        error = refusal(provider, reply, phase="refresh", now=self._store.now())
        return error or VendorBadResponse(
            f"{provider.title} answered a refresh without a usable access token; try again later.",
            service=provider.service,
            ambiguous=True,
        )
