"""What the database knows of the keys that sealed it: enough to notice a wrong one, never a key.

The collection `keyring` holds one document a key: its `kid`, its KDF and a sealed constant. A process whose keys do not
fit refuses to start, for it would make new credentials that the others cannot read and fail on all the old ones.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from credentials import kdf, sealed
from flow8_core.errors import InternalError, StoreUnavailable
from flow8_core.store import DuplicateKey, Index

if TYPE_CHECKING:
    from credentials.keyring import Key, Keyring
    from flow8_core.store import Document, Store

COLLECTION = "keyring"
# Two processes with different keys that start on an empty database at once: the ordinal lets only one of them be first.
INDEXES = (Index((("ordinal", 1),), unique=True),)

_CONSTANT = b"flow8 key check"
_SAMPLE = 20  # documents a collection
_ATTEMPTS = 10


class KeyMismatch(InternalError):
    """A key of this process is wrong, or one that the database still needs is missing. Nothing was written."""


Unable = Callable[[str], Sequence[str]]  # the living processes that cannot read with a key


def nobody(_: str) -> Sequence[str]:
    """`Unable` where nobody is known."""
    return ()


def verify(keyring: Keyring, store: Store, *, unable: Unable = nobody) -> None:
    """`Keyring.verify`: raises `KeyMismatch`, or leaves a document for each key that may write."""
    for _ in range(_ATTEMPTS):
        rows = store.find(COLLECTION, {}, sort=[("ordinal", 1)])
        _compare(keyring, rows)
        _refuse_too_early(keyring, rows, unable)
        _compare_sealed_fields(keyring, store, first_start=not rows)
        try:
            _record(keyring, store, rows)
        except DuplicateKey:
            continue  # another process was first: compare with what it wrote
        return
    raise StoreUnavailable("The key check values keep changing while this process starts; start it again.")


def _compare(keyring: Keyring, rows: list[Document]) -> None:
    for row in rows:
        key = keyring.keys.get(row["_id"])
        if key is None and row.get("active_since") and not row.get("retired_at"):
            raise KeyMismatch(_missing(keyring, row))
        if key is not None and not _opens(key, row.get("check")):
            raise KeyMismatch(
                f"The check value of key {key.kid} does not open: the collection {COLLECTION} was changed."
            )
        if key is keyring.primary and row.get("retired_at"):
            raise KeyMismatch(f"ENC_KEY_SECRET gives key {key.kid}, which was retired; use the one that followed it.")


def _refuse_too_early(keyring: Keyring, rows: list[Document], unable: Unable) -> None:
    """Readers first: what the first process writes with a new key, the others must be able to read."""
    others = [row for row in rows if row["_id"] != keyring.primary.kid and row.get("active_since")]
    if not others or any(row["_id"] == keyring.primary.kid and row.get("active_since") for row in rows):
        return
    blind = unable(keyring.primary.kid)
    if blind:
        raise KeyMismatch(too_early(keyring.primary.kid, blind))


def too_early(kid: str, blind: Sequence[str]) -> str:
    """What to say where living processes cannot read with a key that is to write."""
    named = ", ".join(blind[:3]) + (", ..." if len(blind) > 3 else "")
    return (
        f"Key {kid} cannot write yet: {len(blind)} living worker processes cannot read with it ({named}). Give all "
        "processes its secret as ENC_KEY_SECRET_NEXT, restart them, and try again."
    )


def _missing(keyring: Keyring, row: Document) -> str:
    text = (
        f"This database holds credentials sealed with key {row['_id']}, which this process does not have: "
        f"ENC_KEY_SECRET and ENV_KEY_SALT give {keyring.primary.kid}. Set the secret and the salt that it was made "
        "with, or, in a rotation, the old secret as ENC_KEY_SECRET_PREVIOUS."
    )
    made_with = (row.get("kdf") or {}).get("name")
    if made_with in kdf.profiles() and made_with != keyring.primary.profile:
        text += f" That key was derived with the profile {made_with}; keys.kdf says {keyring.primary.profile}."
    return text


def _compare_sealed_fields(keyring: Keyring, store: Store, *, first_start: bool) -> None:
    """What was sealed before any check value was written, or by an older server, must open as well."""
    tried = opened = 0
    for collection in (each.collection for each in sealed.SEALED):
        for document in store.find(collection, {}, limit=_SAMPLE) if first_start or keyring.unbound else ():
            for _, envelope in sealed.envelopes(document):
                kid = envelope.get("kid")
                if first_start and kid is not None and kid not in keyring.keys:
                    raise KeyMismatch(
                        f"The collection {collection} holds credentials of a key that ENC_KEY_SECRET and ENV_KEY_SALT "
                        f"do not give ({keyring.primary.kid}), and the collection {COLLECTION} is empty; restore both."
                    )
                if kid is None and keyring.unbound:
                    tried += 1
                    opened += any(_opens_raw(key.raw(), envelope) is not None for key in keyring.unbound)
    if tried and not opened:
        raise KeyMismatch(
            "The older server's credentials in this database do not open: ENC_KEY_SECRET, ENV_KEY_SALT or "
            f"keys.unbound.kdf ({keyring.unbound[0].profile}) is not what that server uses."
        )


def _record(keyring: Keyring, store: Store, rows: list[Document]) -> None:
    known = {row["_id"]: row for row in rows}
    ordinal = max((row.get("ordinal", 0) for row in rows), default=0)
    for kid in (keyring.primary.kid, *keyring.announced):
        now = store.now()
        active_since = now if kid == keyring.primary.kid else None
        if kid not in known:
            ordinal += 1
            store.insert(COLLECTION, _document(keyring.keys[kid], ordinal, now, active_since))
        elif active_since and not known[kid].get("active_since"):
            store.update(COLLECTION, {"_id": kid}, {"$set": {"active_since": active_since}})


def _document(key: Key, ordinal: int, now: Any, active_since: Any) -> Document:
    sealed = _box(key).encrypt(_CONSTANT)
    return {
        "_id": key.kid,
        "ordinal": ordinal,
        "kdf": kdf.describe(key.profile),
        "check": {
            "nonce": base64.b64encode(sealed.nonce).decode(),
            "ciphertext": base64.b64encode(sealed.ciphertext).decode(),
        },
        "created_at": now,
        "active_since": active_since,
        "retired_at": None,
    }


def _box(key: Key) -> SecretBox:
    return SecretBox(key.subkey(b"flow8-key-check", key.kid.encode()))


def _opens(key: Key, check: object) -> bool:
    return isinstance(check, Mapping) and _opens_raw(bytes(_box(key)), check) == _CONSTANT


def _opens_raw(key: bytes, envelope: Mapping[str, Any]) -> bytes | None:
    try:
        nonce, ciphertext = (base64.b64decode(envelope[name], validate=True) for name in ("nonce", "ciphertext"))
        return SecretBox(key).decrypt(ciphertext, nonce)
    except (KeyError, TypeError, ValueError, CryptoError):
        return None
