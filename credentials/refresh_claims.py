"""The writes of a refresh, each one compare-and-set on the link document.

A claim is `refresh {owner, lease_until, started_at, attempt}` in the grant's own fields, set where the generation and
the earlier claim are those that were seen. It is the record of intent as well: from then on the generation may be
spent. What comes out of it is written on the generation that was spent, not on the owner, so that a holder who was
stopped for long and has the only good tokens can still land them; a claim is given up only by its owner.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from bson import ObjectId

from credentials import grants, link_errors, token_reply, upkeep_times
from credentials.applications import REFUSED
from credentials.grants import COLLECTION, MAIN, USER, GrantPath
from credentials.link_notes import noted
from credentials.links import Link
from credentials.providers.provider import Provider
from credentials.token_reply import Reply, Tokens
from credentials.vault import EnvelopeRejected, Vault
from flow8_core.errors import StoreUnavailable
from flow8_core.store import Document, Store

CALL_S = 20.0  # total, for one refresh
LEASE_S = 90.0  # outlives the call and the writes after it

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0

# while the store is away each try takes up to 2 s by itself; all of them together end before the lease does
_STORE_TRIES = 20
_STORE_PAUSE_S = 0.2


class Pause(Protocol):
    """Waits; `time.sleep` outside tests."""

    def __call__(self, seconds: float, /) -> None: ...


@dataclass(frozen=True)
class Claim:
    """A refresh that this process holds. `link` is as the claiming write left it; `unknown` says that an earlier holder
    may have spent the generation."""

    link: Link
    path: GrantPath
    owner: str | None
    generation: int
    lease_until: datetime
    unknown: bool


class Claims:
    """Claims and outcomes in the store; knows nothing of the network."""

    def __init__(self, store: Store, vault: Vault, *, pause: Pause = time.sleep) -> None:
        self._store = store
        self._vault = vault
        self._pause = pause

    def reread(self, link: Link) -> Link | None:
        """The link as it is now; None where it is gone."""
        return self.find(link.company_id, link.id)

    def current(self, link: Link) -> Link:
        """As `reread`. Raises `AccessDenied` where the link is gone."""
        found = self.reread(link)
        if found is None:
            raise link_errors.gone(link.service)
        return found

    def find(self, company_id: ObjectId, link_id: ObjectId) -> Link | None:
        """A company's link; None where it has no such one."""
        found = self._store.find(COLLECTION, {"_id": link_id, "company_id": company_id}, limit=1)
        return Link(found[0], self._vault) if found else None

    def take(self, link: Link, path: GrantPath, *, unknown: bool) -> Claim | None:
        """Claim the generation that was seen; None where somebody else was first."""
        grant, now, owner = link.grant(path), self._store.now(), str(ObjectId())
        lease_until = now + timedelta(seconds=LEASE_S)
        attempt = int(grant.claim.get("attempt") or 0) + 1
        started_at = grant.claim.get("started_at", now) if unknown else now
        claim = {"owner": owner, "lease_until": lease_until, "started_at": started_at, "attempt": attempt}
        wanted = {
            **self._spent(link, path),
            path.field("refresh.owner"): grant.claim.get("owner"),
            "status": {"$in": ["active", "app_blocked", None]},
        }
        # where this process dies, the upkeep looks at what became of it
        changes = {path.field("refresh"): claim, upkeep_times.FIELD: lease_until}
        document = self._store.update(COLLECTION, wanted, {"$set": changes})
        if document is None:
            return None
        return Claim(Link(document, self._vault), path, owner, grant.generation, lease_until, unknown)

    def adopt(self, link: Link, path: GrantPath) -> Claim:
        """The claim that stands in a link, to go on with in place of its holder."""
        grant = link.grant(path)
        return Claim(link, path, grant.claim.get("owner"), grant.generation, self._store.now(), unknown=True)

    def sealed_reply(self, claim: Claim, reply: Reply, *, sent_at: datetime) -> dict[str, Any]:
        """The raw reply as the claim holds it. It says itself which generation it was bought with: one of an earlier
        generation, put back by somebody, is not taken."""
        text = json.dumps(
            {
                **token_reply.packed(reply),
                "spent": _spent_with(claim.link, claim.path),
                "sent_at": sent_at.isoformat(),
            }
        )
        place = grants.place(claim.path, "refresh.reply", link_id=claim.link.id, company_id=claim.link.company_id)
        return self._vault.seal(place, text)

    def keep_sealed(self, claim: Claim, envelope: Mapping[str, Any], *, sent_at: datetime) -> bool:
        """Put what `sealed_reply` gave into the claim, before anything of it is read. False where the generation is
        past or the link is gone. Tries for as long as the lease allows: this may be the only copy of the tokens."""
        kept = {"reply": dict(envelope), "sent_at": sent_at}
        changes = {claim.path.field(f"refresh.{name}"): value for name, value in kept.items()}
        return self._insist(claim, {"$set": changes}) is not None

    def kept_reply(self, link: Link, path: GrantPath) -> tuple[Reply, datetime] | None:
        """A reply that a holder kept and did not get to read, with the time at which it was asked for."""
        try:
            return self.opened_reply(link, path, link.grant(path).claim["reply"])
        except (EnvelopeRejected, ValueError, KeyError):
            return None

    def opened_reply(self, link: Link, path: GrantPath, envelope: Mapping[str, Any]) -> tuple[Reply, datetime]:
        """What `sealed_reply` sealed. Raises `EnvelopeRejected` for what was sealed elsewhere, and `ValueError` for
        what was bought with another generation than the one that the link has."""
        place = grants.place(path, "refresh.reply", link_id=link.id, company_id=link.company_id)
        kept = json.loads(self._vault.open(place, envelope).reveal())
        if kept.get("spent") != _spent_with(link, path):
            raise ValueError("of another generation")
        return token_reply.unpacked(kept), datetime.fromisoformat(kept["sent_at"])

    def store_tokens(self, claim: Claim, tokens: Tokens, provider: Provider, *, issued_at: datetime) -> Link | None:
        """Everything in one update, on the generation that was spent; None where it is past or the link is gone."""
        path, link = claim.path, claim.link
        fields = grants.written(
            path,
            tokens,
            provider=provider,
            issued_at=issued_at,
            link_id=link.id,
            company_id=link.company_id,
            vault=self._vault,
            had_refresh_token=True,
        )
        fields |= {"updated_at": self._store.now(), path.field("generation"): claim.generation + 1}
        fields |= _status(path, "active", None)
        if link.status == "app_blocked":
            fields |= {"status": "active", "status_reason": None}
        # of the other grant, this may be an older state: then the next look comes too early, which does no harm
        after = upkeep_times.changed(link.document, path, fields)
        fields[upkeep_times.FIELD] = upkeep_times.of_document(after, provider, now=self._store.now())
        document = self._insist(claim, {"$set": fields, "$unset": self._cleared(path)})
        return None if document is None else Link(document, self._vault)

    def give_up(
        self, claim: Claim, *, pause_s: float | None, spent_perhaps: bool, marks: Mapping[str, Any] | None = None
    ) -> None:
        """End a claim that brought nothing, if it is still ours. With `spent_perhaps` it stays, over, so that the next
        holder knows; and so does a reply that could not be read. `marks` are set in the link as well."""
        path, now = claim.path, self._store.now()
        failures = claim.link.grant(path).failures + 1
        wait = pause_s if pause_s is not None else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures - 1, 10))
        changes: dict[str, Any] = {
            path.field("not_before"): now + timedelta(seconds=wait),
            path.field("failures"): failures,
            **(marks or {}),
        }
        update: dict[str, Any] = {"$set": changes}
        if spent_perhaps:
            changes |= {path.field("refresh.lease_until"): now, path.field("refresh.unreadable"): True}
        else:
            update["$unset"] = {path.field("refresh"): ""}
        changes[upkeep_times.FIELD] = changes[path.field("not_before")]  # a look that may come too early
        self._store.update(COLLECTION, self._owned(claim), update)

    def hand_back(self, claim: Claim) -> None:
        """End a claim under which nothing was sent, as if it had never been."""
        before: dict[str, Any] = {"$unset": {claim.path.field("refresh"): ""}}
        if claim.unknown:
            before = {"$set": {claim.path.field("refresh.lease_until"): self._store.now()}}
        self._store.update(COLLECTION, self._owned(claim), before)

    def bury(self, claim: Claim, reason: str, *, marks: Mapping[str, Any]) -> Link | None:
        """Mark the grant as needing a reconnect, if the claim is still ours; None where it is not. The tokens stay: a
        holder who was stopped may still land better ones."""
        fields = self._needs_reconnect(claim.link, claim.path, reason) | dict(marks)
        document = self._store.update(
            COLLECTION, self._owned(claim), {"$set": fields, "$unset": {claim.path.field("refresh"): ""}}
        )
        return None if document is None else Link(document, self._vault)

    def block(self, link: Link, code: str) -> Link | None:
        """Mark an active link as one whose application the provider refuses; None where it is not active any more."""
        fields = {"status": "app_blocked", "status_reason": code, "updated_at": self._store.now()}
        wanted = {"_id": link.id, "company_id": link.company_id, "status": {"$in": ["active", None]}}
        document = self._store.update(COLLECTION, wanted, {"$set": fields})
        return None if document is None else Link(document, self._vault)

    def expire(self, link: Link, path: GrantPath, reason: str) -> Link | None:
        """Mark a grant that nothing can renew, if it is still the generation that was seen."""
        fields = self._needs_reconnect(link, path, reason)
        document = self._store.update(COLLECTION, self._spent(link, path), {"$set": fields})
        return None if document is None else Link(document, self._vault)

    def _needs_reconnect(self, link: Link, path: GrantPath, reason: str) -> dict[str, Any]:
        now, status = self._store.now(), "needs_reconnect"
        note = noted(link, status, reason=reason, path=path, now=now)
        return {"updated_at": now, **_status(path, status, reason), **note}

    def _insist(self, claim: Claim, update: Mapping[str, Any]) -> Document | None:
        """Write on the spent generation, again and again while the store is away and the lease lasts."""
        write_id = ObjectId()
        changes = {**update["$set"], "write_id": write_id}
        for tries in range(1, _STORE_TRIES + 1):
            try:
                document = self._store.update(
                    COLLECTION, self._spent(claim.link, claim.path), {**update, "$set": changes}
                )
                return document if document is not None else self._mine(claim, write_id)
            except StoreUnavailable:
                if tries == _STORE_TRIES:
                    raise
                self._pause(_STORE_PAUSE_S)
        return None

    def _mine(self, claim: Claim, write_id: ObjectId) -> Document | None:
        """The document, if an answer that got lost was to this very write."""
        link = self.reread(claim.link)
        return dict(link.document) if link is not None and link.document.get("write_id") == write_id else None

    def _spent(self, link: Link, path: GrantPath) -> dict[str, Any]:
        """The link, still at the generation that was seen, of the same connect, and not taken back by its owner."""
        return {
            "_id": link.id,
            "company_id": link.company_id,
            "grant_id": link.document.get("grant_id"),
            path.field("generation"): path.of(link.document).get("generation"),
            "status": {"$ne": "revoked"},
        }

    def _owned(self, claim: Claim) -> dict[str, Any]:
        return {**self._spent(claim.link, claim.path), claim.path.field("refresh.owner"): claim.owner}

    def _cleared(self, path: GrantPath) -> dict[str, str]:
        return dict.fromkeys((path.field("refresh"), path.field("not_before"), *REFUSED), "")


def _spent_with(link: Link, path: GrantPath) -> list[Any]:
    """Which of a link's successive refresh tokens a refresh spends."""
    return [str(link.document.get("grant_id")), link.grant(path).generation]


def _status(path: GrantPath, status: str, reason: str | None) -> dict[str, Any]:
    """A link's status follows its main grant; a user's own grant that died beside it is told by its own."""
    prefix = "" if path == MAIN else USER.prefix
    return {f"{prefix}status": status, f"{prefix}status_reason": reason}
