"""A token to sign a revocation with, where the one that a link had is over: such a vendor takes a grant back from its
bearer only, and an access token that is over is no bearer while its refresh token lives on.

As with any refresh, the reply is durable, sealed in the outbox's item, before anything of it is read: whoever goes on
with the item reads it there, and presents no refresh token a second time that may be spent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from credentials import outbox, token_reply
from credentials.grants import GrantPath
from credentials.link_notes import name_of
from credentials.oauth import client_for
from credentials.providers.provider import Provider, TokenName
from credentials.token_errors import refusal
from credentials.token_reply import Reply
from credentials.vault import EnvelopeRejected, Place, Vault
from flow8_core import crashpoints
from flow8_core.clock import Deadline
from flow8_core.egress import Egress
from flow8_core.errors import InvalidGrant, TokenRevoked, VendorBadResponse
from flow8_core.secret import Secret
from flow8_core.store import Document, Store

RENEWED = crashpoints.register("revocation.renewed", "a token to sign the revocation with is in memory only")
KEPT = crashpoints.register("revocation.kept", "the reply with it is durable; nothing of it is interpreted")


class Renewal:
    """Renews for items of the outbox."""

    def __init__(self, store: Store, vault: Vault, egress: Egress) -> None:
        self._store = store
        self._vault = vault
        self._egress = egress

    def renewed(
        self,
        item: Document,
        path: GrantPath,
        tokens: Mapping[TokenName, Secret],
        *,
        provider: Provider,
        deadline: Deadline,
    ) -> dict[TokenName, Secret]:
        """The tokens, with an access token that works, if one is to be had. Raises a `Flow8Error` where that may be so
        later: the item is tried again."""
        kept = self._kept(item, path)
        if kept is None:
            asked_at, over_at = self._store.now(), item.get("access_over_at")
            if over_at is None or over_at > asked_at or "refresh_token" not in tokens:
                return dict(tokens)
            reply = client_for(provider, self._egress, deadline).refresh(
                refresh_token=tokens["refresh_token"], scopes=(), answered=lambda: None
            )
            crashpoints.visit(RENEWED)
            self._keep(item, path, reply, asked_at)
            crashpoints.visit(KEPT)
            kept = reply, asked_at
        return self._read(item, path, tokens, provider=provider, kept=kept)

    def _read(
        self,
        item: Document,
        path: GrantPath,
        tokens: Mapping[TokenName, Secret],
        *,
        provider: Provider,
        kept: tuple[Reply, datetime],
    ) -> dict[TokenName, Secret]:
        reply, asked_at = kept
        error = refusal(provider, reply, phase="refresh", now=self._store.now())
        fresh = token_reply.tokens_of_refresh(provider, token_reply.document(reply)) if error is None else None
        if fresh is None:
            self._change(item, {}, forget=path)
            if isinstance(error, InvalidGrant | TokenRevoked):
                return dict(tokens)  # it is over already, and the vendor will say so
            raise error or VendorBadResponse(
                f"{provider.title} answered a refresh without a usable access token.", service=provider.service
            )
        renewed = {**tokens, "access_token": fresh.access_token}
        if fresh.refresh_token is not None:
            renewed["refresh_token"] = fresh.refresh_token
        over_at = None if fresh.lifetime_s is None else asked_at + timedelta(seconds=fresh.lifetime_s)
        sealed = {f"{name_of(path)}_{kind}": token for kind, token in renewed.items()}
        changes = {f"sealed.{key}": self._vault.seal(place(item, key), token) for key, token in sealed.items()}
        self._change(item, {**changes, "access_over_at": over_at}, forget=path)
        return renewed

    def _keep(self, item: Document, path: GrantPath, reply: Reply, asked_at: datetime) -> None:
        """Whatever it says: a refusal that is read twice does no harm."""
        text = json.dumps({**token_reply.packed(reply), "asked_at": asked_at.isoformat()})
        self._change(item, {f"sealed.{_key(path)}": self._vault.seal(place(item, _key(path)), text)})

    def _kept(self, item: Document, path: GrantPath) -> tuple[Reply, datetime] | None:
        envelope = (item.get("sealed") or {}).get(_key(path))
        if envelope is None:
            return None
        try:
            kept = json.loads(self._vault.open(place(item, _key(path)), envelope).reveal())
            return token_reply.unpacked(kept), datetime.fromisoformat(kept["asked_at"])
        except (EnvelopeRejected, ValueError, KeyError):
            return None

    def _change(self, item: Document, changes: Mapping[str, Any], *, forget: GrantPath | None = None) -> None:
        update: dict[str, Any] = {"$set": dict(changes)} if changes else {}
        if forget is not None:
            update["$unset"] = {f"sealed.{_key(forget)}": ""}
        # an item that another ended meanwhile, while this process was stopped, holds no tokens and gets none
        wanted = {"_id": item["_id"], "company_id": item["company_id"], "ended": None}
        self._store.update(outbox.COLLECTION, wanted, update)


def place(item: Document, key: str) -> Place:
    """The place to which an item's secret is bound."""
    return Place(outbox.COLLECTION, item["_id"], item["company_id"], f"sealed.{key}")


def _key(path: GrantPath) -> str:
    return f"{name_of(path)}_reply"
