"""Unlinking: here at once, at the vendor as soon as it can be reached.

    tokens -> a revocation in the outbox, held -> the link is `revoked` and holds none -> the revocation is let go

The one update in the middle is what unlinks. Whoever dies before it has done nothing, and the held item is dropped;
whoever dies after it leaves a link that names the item, which the outbox finds by itself. From that update on flows get
`access_denied`, and a refresh that is under way finds that its tokens came too late.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bson import ObjectId

from credentials import outbox, revocation, token_reply, upkeep_times
from credentials.applications import REFUSED
from credentials.audit import Audit, Origin
from credentials.grants import COLLECTION, MAIN, USER, GrantPath
from credentials.link import Link
from credentials.links import Links
from credentials.providers.catalogue import Providers
from credentials.providers.provider import TokenName
from credentials.refresh_claims import Claims
from credentials.revocation import KIND, MARK
from credentials.token_reply import Tokens
from credentials.vault import EnvelopeRejected, Vault
from flow8_core import crashpoints
from flow8_core.errors import Conflict, Flow8Error
from flow8_core.secret import Secret
from flow8_core.store import Store

INTENDED = crashpoints.register("unlink.intended", "a held revocation is in the outbox; the link is as it was")
REVOKED = crashpoints.register("unlink.revoked", "the link is revoked; its revocation is still held")
RELEASED = crashpoints.register("unlink.released", "the revocation is due; nobody has been told")

Vendor = Literal["pending", "revoked", "kept_for_others", "not_possible", "nothing_to_revoke", "failed"]

_ATTEMPTS = 5
_log = logging.getLogger(__name__)

# what a revoked link no longer has: nothing to use, and nothing that ends
_CLEARED = (
    *("access_token", "refresh_token", "refresh", "not_before", "refresh_at", "user_token"),
    *("token_expiry", "grant_expires_at", "grant_idle_at", "failures", upkeep_times.FIELD, *REFUSED),
)


@dataclass(frozen=True)
class Unlinked:
    """A link that is revoked here. `item_id` is its revocation in the outbox; None where there is nothing to revoke."""

    link: Link
    item_id: ObjectId | None


class Unlink:
    """Revokes the links of one company. `actor` is who acts, for the audit log."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        providers: Providers,
        company_id: ObjectId,
        *,
        actor: ObjectId | None = None,
        origin: Origin = Origin(),  # noqa: B008  frozen
    ) -> None:
        self._store = store
        self._vault = vault
        self._providers = providers
        self._company_id = company_id
        self._actor = actor
        self._links = Links(store, vault, company_id, actor=actor)
        self._claims = Claims(store, vault)
        self._audit = Audit(store, vault, company_id, origin=origin)

    def link(self, link_id: ObjectId | str) -> Unlinked:
        """Unlink one link; of one that is revoked already, have tried again what was given up. Raises `NotFound`,
        `Conflict` where the link changes again and again, `StoreUnavailable`."""
        for _ in range(_ATTEMPTS):
            link = self._links.get(link_id)
            if link.status == "revoked":
                return Unlinked(link, self._again(link))
            done = self._unlinked(link)
            if done is not None:
                return done
        raise Conflict("The link is being changed by others again and again; try again.", link_id=str(link_id))

    def service(self, service: str) -> Sequence[Unlinked]:
        """Unlink all of the company's links of a service. Raises as `link`."""
        return [self.link(link.id) for link in self.of_service(service)]

    def of_service(self, service: str) -> Sequence[Link]:
        """The links that `service` would unlink."""
        return [link for link in self._links.list(service=service) if link.status != "revoked"]

    def vendor(self, link: Link) -> Vendor:
        """What is known of a revoked link at its vendor."""
        items = [item for item in outbox.pending(self._store, self._company_id, link.id) if item["kind"] == KIND]
        if not items:
            return "nothing_to_revoke"
        ended: Vendor | None = items[-1].get("ended")
        return "pending" if ended is None else "failed" if ended == outbox.DEAD else ended

    def _unlinked(self, link: Link) -> Unlinked | None:
        """Unlink the link as it was read; None where it has changed since."""
        tokens = self._tokens(link)
        before = {"status": link.status, "status_reason": link.status_reason, "generation": link.generation}
        after = {"status": "revoked", "status_reason": "unlinked"}
        self._record(link, before, after)
        item_id = None
        if tokens:
            item_id = revocation.put(self._store, self._vault, link, tokens, confirmed=False)
            crashpoints.visit(INTENDED)
        try:
            revoked = self._revoke(link, item_id)
        except Flow8Error as error:
            self._record(link, before, {}, error=error)
            raise
        if revoked is None:
            revoked = self._revoked_by(link, item_id)
        if revoked is None:
            if item_id is not None:
                self._store.delete(outbox.COLLECTION, {"_id": item_id, "company_id": self._company_id})
            return None
        crashpoints.visit(REVOKED)
        if item_id is not None:
            self._release(link, item_id, tokens)
        return Unlinked(revoked, item_id)

    def _revoke(self, link: Link, item_id: ObjectId | None) -> Link | None:
        now, seen = self._store.now(), link.document
        fields: dict[str, Any] = {"status": "revoked", "status_reason": "unlinked", "updated_at": now}
        if item_id is not None:
            fields[f"{MARK}.{item_id}"] = now
        wanted: dict[str, Any] = {
            "_id": link.id,
            "company_id": self._company_id,
            "status": seen.get("status"),
            "grant_id": seen.get("grant_id"),
        }
        for path in (MAIN, USER):
            grant = path.of(seen)
            wanted |= {path.field("generation"): grant.get("generation")}
            # a reply that was kept since holds tokens that are to be revoked, too
            wanted[path.field("refresh.sent_at")] = (grant.get("refresh") or {}).get("sent_at")
        update = {"$set": fields, "$unset": dict.fromkeys(_CLEARED, "")}
        document = self._store.update(COLLECTION, wanted, update)
        return None if document is None else Link(document, self._vault)

    def _revoked_by(self, link: Link, item_id: ObjectId | None) -> Link | None:
        """The link, if an answer that got lost was to our own update."""
        found = self._links.find(link.id)
        return found if found is not None and str(item_id) in (found.document.get(MARK) or {}) else None

    def _release(self, link: Link, item_id: ObjectId, tokens: dict[str, Secret]) -> None:
        """Let the held item go; put it in anew where it was dropped, because this process was stopped for a day."""
        wanted = {"_id": item_id, "company_id": self._company_id, "ended": {"$ne": "not_unlinked"}}
        changes = {"confirmed": True, "due_at": self._store.now()}
        held = {**wanted, "confirmed": False, "ended": None, "owner": None}
        released = self._store.update(outbox.COLLECTION, held, {"$set": changes})
        if released is None and self._store.count(outbox.COLLECTION, wanted) == 0:
            revocation.put(self._store, self._vault, link, tokens)
        crashpoints.visit(RELEASED)

    def _again(self, link: Link) -> ObjectId | None:
        """Have revocations of the link tried again that were given up; the id of the last that is under way."""
        under_way = None
        for item in outbox.pending(self._store, self._company_id, link.id):
            if item["kind"] != KIND:
                continue
            if item.get("ended") == outbox.DEAD:
                wanted = {"_id": item["_id"], "company_id": self._company_id, "ended": outbox.DEAD}
                again = {"due_at": self._store.now(), "attempts": 0}
                gone = {"ended": "", "ended_at": "", "expire_at": ""}
                self._store.update(outbox.COLLECTION, wanted, {"$set": again, "$unset": gone})
                under_way = item["_id"]
            elif item.get("ended") is None:
                under_way = item["_id"]
        return under_way

    def _tokens(self, link: Link) -> dict[str, Secret]:
        """All tokens of a link, those of a reply that nobody has read among them."""
        found: dict[str, Secret] = {}
        for path in (MAIN, USER):
            kinds: Iterable[TokenName] = ("access_token", "refresh_token")
            for kind in kinds:
                if not path.of(link.document).get(kind):
                    continue
                try:
                    found[revocation.name(path, kind)] = link.open(kind, path)
                except EnvelopeRejected:
                    _log.error("a token of the %s link %s does not open: it cannot be revoked", link.service, link.id)
            kept = self._kept(link, path)
            if kept is not None:
                found[revocation.name(path, "access_token", kept=True)] = kept.access_token
                if kept.refresh_token is not None:
                    found[revocation.name(path, "refresh_token", kept=True)] = kept.refresh_token
        return found

    def _kept(self, link: Link, path: GrantPath) -> Tokens | None:
        if "reply" not in link.grant(path).claim:
            return None
        kept = self._claims.kept_reply(link, path)
        if kept is None:
            return None
        try:
            provider = self._providers.get(link.service)
        except Flow8Error:
            return None  # a service that is configured no more: its links can be unlinked all the same
        return token_reply.tokens_of_refresh(provider, token_reply.document(kept[0]))

    def _record(
        self, link: Link, before: dict[str, Any], after: dict[str, Any], *, error: Flow8Error | None = None
    ) -> None:
        """Before it is done, and again where it fails."""
        self._audit.record(
            "integration_unlinked",
            resource_type="integration",
            resource_id=str(link.id),
            before=before | {"service": link.service},
            after=after,
            user_id=self._actor,
            error=error,
        )
