"""From the spool into the store: a reply that was left on this host's disk is put into its link's claim.

From there on it is like any other reply that a holder kept and did not get to read. Nothing of it is taken unless it
opens in the place that it names, and was bought with the generation that the link still has.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from credentials import revocation, token_reply
from credentials.grants import GrantPath
from credentials.link import Link
from credentials.providers.catalogue import Providers
from credentials.refresh_claims import Claims
from credentials.spool import Spool, Spooled
from credentials.token_reply import Reply
from credentials.vault import EnvelopeRejected, Vault
from flow8_core.store import Store

_log = logging.getLogger(__name__)


class Adoption:
    """Adopts what lies in one host's spool."""

    def __init__(self, store: Store, vault: Vault, providers: Providers, claims: Claims, spool: Spool) -> None:
        self._store = store
        self._vault = vault
        self._providers = providers
        self._claims = claims
        self._spool = spool

    def keep(self, link: Link) -> bool:
        """Put what lies here for a link into its claim; whether there was anything of use."""
        taken = [self.take(spooled) for spooled in self._spool.all(link)]
        return any(found is not None for found in taken)

    def take(self, spooled: Spooled) -> Link | None:
        """Put one reply into its link's claim, and remove the file; the link as it was before. None where it is of no
        use: it does not open, the link has another generation, or was revoked: then the tokens are given back. What is
        sealed with a key that is not here is left to a process that has it. Raises `StoreUnavailable`, and leaves
        it."""
        if not self._has_key(spooled.envelope):
            _log.error("a spooled reply for link %s is sealed with a key that is not here; it stays", spooled.link_id)
            return None
        link = self._claims.find(spooled.company_id, spooled.link_id)
        taken = link is not None and self._taken(link, spooled)
        self._spool.remove(spooled.file)
        return link if taken else None

    def _has_key(self, envelope: Mapping[str, Any]) -> bool:
        kid = envelope.get("kid")
        return not isinstance(kid, str) or self._vault.knows(kid)

    def _taken(self, link: Link, spooled: Spooled) -> bool:
        try:
            reply, sent_at = self._claims.opened_reply(link, spooled.path, spooled.envelope)
        except (EnvelopeRejected, ValueError) as error:
            _log.warning("a spooled reply for link %s is of no use: %s", link.id, type(error).__name__)
            return False
        if self._claims.keep_sealed(self._claims.adopt(link, spooled.path), spooled.envelope, sent_at=sent_at):
            return True
        if link.status == "revoked":
            self._give_back(link, spooled.path, reply)
        return False

    def _give_back(self, link: Link, path: GrantPath, reply: Reply) -> None:
        """Tokens that came for a link which was revoked meanwhile: nobody else will ever revoke them."""
        provider = self._providers.get(link.service)
        tokens = token_reply.tokens_of_refresh(provider, token_reply.document(reply))
        if tokens is not None:
            revocation.put_tokens(self._store, self._vault, link, path, tokens)
