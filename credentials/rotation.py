"""Re-sealing everything with another key, while all processes go on.

One document after the other: its envelopes are opened and sealed anew, and written where they are still those that were
read. Whatever was stored in between wins, and is looked at again. Nothing is remembered: a rotation that was broken off
is begun again, and finds what is left to do. An envelope that does not open is reported and left as it is.

The end of each company's audit log is signed anew as well, by an entry that says so: with the old key gone, the
entries before could not be proven otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bson import ObjectId

from credentials import audit, check_values, key_rows, oauth_states
from credentials.audit import Audit
from credentials.check_values import Unable, nobody
from credentials.key_census import SPOOL
from credentials.keyring import Keyring
from credentials.sealed import SEALED, Sealed, documents, envelopes
from credentials.spool import Spool
from credentials.vault import EnvelopeRejected, Place, Vault
from flow8_core import crashpoints
from flow8_core.errors import Conflict, Flow8Error, NotFound
from flow8_core.store import Document, Store

HANDED_OVER = crashpoints.register("rotation.handed_over", "the new key writes; nothing is re-sealed")
OPENED = crashpoints.register("rotation.opened", "a record is sealed anew in memory; the old envelopes are stored")
RESEALED = crashpoints.register("rotation.resealed", "a record's new envelopes are stored; nobody has counted them")
SIGNED = crashpoints.register("rotation.signed", "one company's audit log ends with the new key")

# whose audit log takes up what concerns the whole deployment
DEPLOYMENT = ObjectId(b"flow8 system")
RESOURCE = "encryption_key"

_PASSES = 5  # each looks for what others have sealed with the old key during the one before
_ATTEMPTS = 20  # at one document that others keep changing

Progress = Callable[[], None]  # called for each document


class Unreadable(NamedTuple):
    """An envelope that does not open, or that others kept changing."""

    collection: str
    id: str
    field: str


@dataclass
class Report:
    """What a rotation did: records re-sealed (and the envelopes in them), audit logs signed, and what it left."""

    kid: str
    records: int = 0
    envelopes: int = 0
    logs: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)


class _Piece(NamedTuple):
    """One thing to replace: `path` gets `fresh`, where `witness` (a path) still holds `seen`."""

    path: str
    witness: str
    seen: Any
    fresh: Any


class Rotation:
    """Re-seals with the key `to`. `unable` names the living processes that cannot read with a key; `spool` is this
    host's: what lies in those of others, their workers bring to its link."""

    def __init__(
        self, store: Store, keyring: Keyring, *, to: str, unable: Unable = nobody, spool: Spool | None = None
    ) -> None:
        if to not in keyring.keys:
            raise NotFound(f"Key {to} is not one that this process has.")
        self._store = store
        self._to = to
        self._unable = unable
        self._spool = spool or Spool(None)
        self._vault = Vault(keyring, lambda: keyring.keys[to])

    def run(self, progress: Progress = lambda: None) -> Report:
        """Hand writing over to the key, and re-seal until nothing else is found.

        Raises `Conflict` where a living process could not read what the key writes, `StoreUnavailable`. Run it again
        after whatever broke it off; two at once share the work.
        """
        blind = self._unable(self._to)
        if blind:
            raise Conflict(check_values.too_early(self._to, blind))
        report = Report(self._to)
        record(self._store, self._vault, "encryption_key_rotation_started", self._to, after={"kid": self._to})
        key_rows.hand_over(self._store, self._to)
        crashpoints.visit(HANDED_OVER)
        for number in range(_PASSES):
            before = report.records
            report.unreadable = list(self._spooled(report))
            report.unreadable += [left for sealed in SEALED for left in self._collection(sealed, report, progress)]
            if number and report.records == before:
                break
            progress = lambda: None  # noqa: E731  the first pass is the work
        self._sign(report)
        return report

    def _collection(self, sealed: Sealed, report: Report, progress: Progress) -> Iterator[Unreadable]:
        for document in documents(self._store, sealed):
            for path in self._document(sealed.collection, document, report):
                yield Unreadable(sealed.collection, str(document["_id"]), path)
            progress()

    def _spooled(self, report: Report) -> Iterator[Unreadable]:
        """Before the links, for what is taken from there meanwhile is found in them."""
        for spooled in self._spool.all():
            if not self._vault.outdated(spooled.envelope):
                continue
            try:
                fresh = self._vault.resealed(spooled.place, spooled.envelope)
                crashpoints.visit(OPENED)
                self._spool.replace(spooled, fresh)
                crashpoints.visit(RESEALED)
            except (EnvelopeRejected, OSError):
                yield Unreadable(SPOOL, spooled.file.name, "reply")
            else:
                report.records, report.envelopes = report.records + 1, report.envelopes + 1

    def _document(self, collection: str, document: Document | None, report: Report) -> list[str]:
        """Re-seal one document. Gives the paths that could not be."""
        left: list[str] = []
        for _ in range(_ATTEMPTS):
            if document is None:
                return []
            pieces, left = self._pieces(collection, document)
            if not pieces:
                return left
            crashpoints.visit(OPENED)
            if self._write(collection, document, pieces):
                crashpoints.visit(RESEALED)
                report.records += 1
                report.envelopes += sum(piece.path != "bound" for piece in pieces)
                return left
            document = self._store.get(collection, document["_id"])
        return left + [piece.path for piece in pieces]

    def _pieces(self, collection: str, document: Document) -> tuple[list[_Piece], list[str]]:
        pieces, left = [], []
        for path, envelope in envelopes(document):
            if not self._vault.outdated(envelope):
                continue
            try:
                place = Place(collection, document["_id"], document.get("company_id"), path)  # type: ignore[arg-type]
                fresh = self._vault.resealed(place, envelope)
            except EnvelopeRejected:
                left.append(path)
            else:
                pieces.append(_Piece(path, f"{path}.nonce", envelope["nonce"], fresh))
        if collection == oauth_states.COLLECTION and (bound := oauth_states.rebound(self._vault, document)):
            pieces.append(_Piece("bound", "bound.mac", document["bound"]["mac"], bound))
        return pieces, left

    def _write(self, collection: str, document: Document, pieces: list[_Piece]) -> bool:
        wanted = {"_id": document["_id"], "company_id": document["company_id"]}
        wanted |= {piece.witness: piece.seen for piece in pieces}
        changes = {"$set": {piece.path: piece.fresh for piece in pieces}}
        return self._store.update(collection, wanted, changes) is not None

    def _sign(self, report: Report) -> None:
        """Let each audit log end with an entry that the key signs; the deployment's own says what was done."""
        for company_id, kid in audit.heads(self._store):
            if kid != self._to and company_id != DEPLOYMENT:
                log = Audit(self._store, self._vault, company_id)
                log.record(
                    "encryption_key_rotated",
                    resource_type=RESOURCE,
                    resource_id=self._to,
                    before={"kid": kid},
                    after={"kid": self._to},
                )
                crashpoints.visit(SIGNED)
                report.logs += 1
        after = {"kid": self._to, "envelopes": report.envelopes, "unreadable": len(report.unreadable)}
        record(self._store, self._vault, "encryption_key_rotated", self._to, after=after)


def record(
    store: Store, vault: Vault, action: str, kid: str, *, after: dict[str, Any], error: Flow8Error | None = None
) -> None:
    """An entry about a key in the deployment's own audit log. Raises `StoreUnavailable`."""
    Audit(store, vault, DEPLOYMENT).record(action, resource_type=RESOURCE, resource_id=kid, after=after, error=error)


def size(store: Store) -> int:
    """How many documents a rotation will look at."""
    return sum(store.count(sealed.collection, {}) for sealed in SEALED)
