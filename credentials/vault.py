"""Seals one field at a time, bound to its place: a ciphertext that is moved elsewhere no longer opens.

NaCl's SecretBox has no associated data, so each field has a key of its own: keyed BLAKE2b over the length-prefixed
collection, id, company, field and version. The envelope is flow8's `{encrypted, nonce, ciphertext}` with `v` and `kid`.
flow8's own form, which is bound to nothing, is read only where `keys.unbound` is set, and written only where that says
so.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from bson import ObjectId
from nacl.bindings import crypto_secretbox_open_easy
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from credentials import sealed
from credentials.keyring import Key, Keyring
from flow8_core.errors import InternalError
from flow8_core.secret import Secret

VERSION = 2
MAX_BYTES = 2**20  # of one secret

_BOUND = frozenset({"encrypted", "v", "kid", "nonce", "ciphertext"})
_UNBOUND = frozenset({"encrypted", "nonce", "ciphertext"})


class EnvelopeRejected(InternalError):
    """An encrypted field does not open. Which of its parts is at fault is said to nobody."""


class Place(NamedTuple):
    """Where a sealed field lives. `field` is its dotted path within the document, e.g. `config.api_key`: a rotation
    finds it there."""

    collection: str
    id: ObjectId
    company_id: ObjectId
    field: str


class Vault:
    """Seals and opens with the keys of one `Keyring`. Safe to share between threads, and across a fork.

    `writer` says which key of the ring seals now (`key_rows.Writer`); the ring's primary one unless given.
    """

    def __init__(self, keyring: Keyring, writer: Callable[[], Key] | None = None) -> None:
        self._keyring = keyring
        self._writer = writer or (lambda: keyring.primary)

    @property
    def kid(self) -> str:
        """The key that seals now; it may be another one in the next moment, so take it once for one purpose."""
        return self._writer().kid

    def knows(self, kid: str) -> bool:
        """Whether this process has that key."""
        return kid in self._keyring.keys

    def seal(self, place: Place, secret: Secret | str) -> dict[str, Any]:
        """The envelope to store at `place`. Raises `EnvelopeRejected` for what no envelope can hold: more than
        `MAX_BYTES`, or text that is not Unicode; `InternalError` for a collection that `sealed` does not list."""
        if place.collection not in sealed.COLLECTIONS:
            raise InternalError(
                f"Nothing can be sealed in {place.collection}: list it in credentials/sealed.py, for rotations re-seal "
                "what is listed there."
            )
        try:
            plain = (secret.reveal() if isinstance(secret, Secret) else secret).encode()
            context = _context(place)
        except (TypeError, ValueError, AttributeError):
            _reject(place)
        if len(plain) > MAX_BYTES:
            _reject(place)
        if isinstance(secret, str):
            Secret(secret)  # known to the log redaction from here on
        return self._sealed(context, plain)

    def open(self, place: Place, envelope: Mapping[str, Any]) -> Secret:
        """The secret that was sealed at `place`. Raises `EnvelopeRejected` for everything else."""
        try:
            return Secret(self._opened(place, envelope).decode())
        except (TypeError, ValueError, KeyError, AttributeError, CryptoError):
            _reject(place)

    def resealed(self, place: Place, envelope: Mapping[str, Any]) -> dict[str, Any]:
        """The same secret at the same place, sealed with the key that seals now. Raises `EnvelopeRejected`."""
        try:
            return self._sealed(_context(place), self._opened(place, envelope))
        except (TypeError, ValueError, KeyError, AttributeError, CryptoError):
            _reject(place)

    def kid_of(self, envelope: Mapping[str, Any]) -> str | None:
        """The key that an envelope is sealed with, by what it says; one of the old form says nothing, and is tried.
        None where no key of this process opens that, or where it is no envelope."""
        if envelope.keys() != _UNBOUND:
            kid = envelope.get("kid")
            return kid if isinstance(kid, str) else None
        try:
            nonce, ciphertext = _decoded(envelope["nonce"]), _decoded(envelope["ciphertext"])
            return self._unbound_key(nonce, ciphertext)[0]
        except (TypeError, ValueError):
            return None

    def outdated(self, envelope: Mapping[str, Any]) -> bool:
        """Whether a rotation has something to do here: another key, or the old form where that is not to be written."""
        old_form = envelope.keys() == _UNBOUND and not self._keyring.write_unbound
        return old_form or self.kid_of(envelope) != self.kid

    def mac(self, purpose: str, data: bytes, *, kid: str | None = None) -> bytes:
        """32 bytes of keyed BLAKE2b over `data`, apart from those of any other purpose: chains, fingerprints, hashes of
        one-time values. With the key that seals, or the one named. Raises `KeyError` for a key that is not here."""
        key = self._writer() if kid is None else self._keyring.keys[kid]
        return key.subkey(b"flow8-mac", _joined(purpose.encode(), data))

    def _opened(self, place: Place, envelope: Mapping[str, Any]) -> bytes:
        if envelope["encrypted"] is not True:
            raise ValueError
        nonce, ciphertext = _decoded(envelope["nonce"]), _decoded(envelope["ciphertext"])
        names = envelope.keys()
        if names != _BOUND:
            if names != _UNBOUND:
                raise ValueError
            return self._unbound_key(nonce, ciphertext)[1]
        version = envelope["v"]
        if version != VERSION or not isinstance(version, int):
            raise ValueError
        key = self._keyring.keys[envelope["kid"]]
        return crypto_secretbox_open_easy(ciphertext, nonce, key.subkey(_PERSON, _context(place)))

    def _sealed(self, context: bytes, plain: bytes) -> dict[str, Any]:
        key = self._writer()
        if self._keyring.write_unbound:
            return {"encrypted": True, **_sealed(self._keyring.unbound_of(key.kid).raw(), plain)}
        return {"encrypted": True, "v": VERSION, "kid": key.kid, **_sealed(key.subkey(_PERSON, context), plain)}

    def _unbound_key(self, nonce: bytes, ciphertext: bytes) -> tuple[str, bytes]:
        """The key that opens an envelope of the old form, and what is in it. Raises `ValueError`."""
        for kid, key in zip(self._keyring.keys, self._keyring.unbound, strict=False):
            try:
                return kid, crypto_secretbox_open_easy(ciphertext, nonce, key.raw())
            except CryptoError:
                continue
        raise ValueError


_PERSON = b"flow8-field-v2"
_VERSION = VERSION.to_bytes(4, "big")


def _context(place: Place) -> bytes:
    # `.binary` and `.encode()` on purpose: a document whose ids were replaced by something else has no place.
    collection, id_, company_id, field = place
    return _joined(collection.encode(), id_.binary, company_id.binary, field.encode(), _VERSION)


def _joined(*parts: bytes) -> bytes:
    """Length-prefixed, so that no two lists of parts give the same bytes."""
    return b"".join([len(part).to_bytes(8, "big") + part for part in parts])


def _sealed(key: bytes, plain: bytes) -> dict[str, str]:
    message = SecretBox(key).encrypt(plain)
    return {"nonce": _encoded(message.nonce), "ciphertext": _encoded(message.ciphertext)}


def _encoded(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _decoded(text: Any) -> bytes:
    """Base64 in its one canonical spelling: the spare bits of the last character are no place to hide a change in."""
    if not isinstance(text, str) or len(text) > 2 * MAX_BYTES:
        raise TypeError
    data = binascii.a2b_base64(text, strict_mode=True)
    if binascii.b2a_base64(data, newline=False) != text.encode():
        raise ValueError
    return data


def _reject(place: Place) -> NoReturn:
    raise EnvelopeRejected(
        f"The encrypted field {place.field} of {place.collection} {place.id} does not open: it was changed, moved, or "
        "sealed with a key that this process does not have. Store the credential again, or see `flow8 keys check`."
    ) from None
