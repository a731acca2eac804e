"""The chain of a company's audit events: linking a new one, and finding what was changed since.

`chain_digest` is a plain hash over all events so far, `chain` its MAC under the key `kid`. The MAC is what cannot be
forged; the digest is what keeps events proven when the key that signed them is retired: they are covered by the next
event whose key is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from bson import ObjectId

from credentials.audit_states import canonical
from credentials.vault import Vault
from flow8_core.store import Document

_PURPOSE = "audit-chain"
_START = "0" * 64


@dataclass(frozen=True)
class Head:
    """The last event of a company's chain: what an anchor outside the database remembers."""

    seq: int
    chain: str


@dataclass(frozen=True)
class Verification:
    """`checked` events were found in order. Where one is wrong, `broken_at` is its number and `reason` says how."""

    checked: int
    head: Head | None
    broken_at: int | None = None
    reason: str | None = None

    @property
    def ok(self) -> bool:
        return self.broken_at is None


class Chain:
    """The chain of one company."""

    def __init__(self, vault: Vault, company_id: ObjectId) -> None:
        self._vault = vault
        self._company_id = company_id

    def link(self, event: Document, last: Document | None) -> Document:
        """The event as it follows `last`. Its `_id` follows from company and number, so that of two writers which both
        saw the same `last` only one can insert."""
        number = last["seq"] + 1 if last else 1
        kid = self._vault.kid
        document = {"_id": self._id(number), **event, "seq": number, "kid": kid}
        digest = digest_after(str(last.get("chain_digest")) if last else _START, document)
        return {**document, "chain_digest": digest, "chain": self._mac(digest, kid)}

    def verify(self, events: Iterable[Document], anchor: Head | None) -> Verification:
        """Walk all events, in the order of their numbers."""
        walk = _Walk()
        for document in events:
            fault = self._fault(document, walk)
            if fault is None and anchor and anchor.seq == walk.number and anchor.chain != document["chain"]:
                fault = "is not the event that the anchor remembers"
            if fault:
                return walk.broken(fault)
            walk.step(document, proven=self._vault.knows(document["kid"]))
        if walk.unproven:
            return Verification(walk.checked, walk.head, walk.unproven, "and all after it are signed with unknown keys")
        if anchor and anchor.seq > walk.checked:
            return Verification(walk.checked, walk.head, walk.number, "is missing: the end of the log was cut off")
        return Verification(walk.checked, walk.head)

    def _id(self, number: int) -> ObjectId:
        data = self._company_id.binary + number.to_bytes(8, "big")
        return ObjectId(hashlib.blake2b(data, digest_size=12, person=b"flow8-audit-id").digest())

    def _mac(self, digest: str, kid: str) -> str:
        return self._vault.mac(_PURPOSE, self._company_id.binary + digest.encode(), kid=kid).hex()

    def _fault(self, document: Document, walk: _Walk) -> str | None:
        """What is wrong with the event that should be the walk's next."""
        if document.get("seq") != walk.number:
            return "is missing"
        kid, chain = document.get("kid"), document.get("chain")
        try:
            digest = digest_after(walk.digest, document)
        except (TypeError, ValueError):
            return "was changed"
        if document.get("chain_digest") != digest or not isinstance(kid, str) or not isinstance(chain, str):
            return "was changed"
        return "was changed" if self._vault.knows(kid) and chain != self._mac(digest, kid) else None


class _Walk:
    """How far a verification has come. `unproven` is the first of the latest events whose key is not here: they hold
    once an event after them is proven, whose MAC covers them."""

    def __init__(self) -> None:
        self.checked = 0
        self.digest = _START
        self.head: Head | None = None
        self.unproven: int | None = None

    @property
    def number(self) -> int:
        return self.checked + 1

    def step(self, document: Document, *, proven: bool) -> None:
        self.unproven = None if proven else self.unproven or self.number
        self.checked += 1
        self.digest = document["chain_digest"]
        self.head = Head(self.checked, document["chain"])

    def broken(self, fault: str) -> Verification:
        """Keys are retired oldest first: only at the beginning of a log do events of unknown keys belong."""
        if self.unproven is None:
            return Verification(self.checked, self.head, self.number, fault)
        if self.unproven > 1:
            return Verification(self.checked, self.head, self.unproven, "was changed")
        return Verification(self.checked, self.head, self.number, f"{fault}, or one before it, whose keys are not here")


def digest_after(previous: str, document: Document) -> str:
    """The plain digest of a chain that ended in `previous` and goes on with the document."""
    covered = {name: value for name, value in document.items() if name not in ("chain", "chain_digest")}
    return hashlib.blake2b(previous.encode() + canonical(covered), digest_size=32).hexdigest()
