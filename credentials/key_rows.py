"""What the collection `keyring` says of each key during a rotation, and which key a process therefore seals with.

`active_since` is set once a key may write. `superseded_by` names the key that writes in its place: a process that was
given it as the next one follows within `LOOK_S`. `retiring` stands while somebody makes sure that nothing is sealed
with the key any more, `retired_at` from then on. A process that cannot follow takes both away before it seals: nothing
is lost, and whoever retires the key finds that it is in use.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from bson import ObjectId

from credentials.check_values import COLLECTION
from credentials.keyring import Key, Keyring
from flow8_core.errors import StoreUnavailable
from flow8_core.store import Document, Store

LOOK_S = 5.0  # how long a process may go on with what it knows of its key

_log = logging.getLogger(__name__)


class Writer:
    """The key that this process seals with: its primary one, or the one that took its place."""

    def __init__(self, store: Store, keyring: Keyring, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._ring = keyring
        self._monotonic = monotonic
        self._key = keyring.primary
        self._looked_at: float | None = None

    def __call__(self) -> Key:
        """The key. A store that does not answer changes nothing: what is to be sealed may be the only copy of a token,
        and waits for nobody."""
        now = self._monotonic()
        if self._looked_at is None or now - self._looked_at >= LOOK_S:
            self._looked_at = now
            try:
                self._key = self._look()
            except StoreUnavailable:
                _log.warning("the store could not be asked which key writes; it stays %s", self._key.kid)
        return self._key

    def _look(self) -> Key:
        primary = self._ring.primary
        row = self._store.get(COLLECTION, primary.kid) or {}
        successor = row.get("superseded_by")
        if successor in self._ring.announced:  # and not just any: one that was given up may be in wrong hands
            return self._ring.keys[successor]
        if row.get("retiring") or row.get("retired_at"):
            _log.warning(
                "key %s is being retired, and this process has no other: restart it with the new key", primary.kid
            )
            revive(self._store, primary.kid)
        return primary


def all_rows(store: Store) -> dict[str, Document]:
    """What is known of all keys, by kid, the oldest first."""
    return {row["_id"]: row for row in store.find(COLLECTION, {}, sort=[("ordinal", 1)])}


def hand_over(store: Store, kid: str) -> None:
    """From now on the key writes, in the place of all others that do."""
    now = store.now()
    store.update(COLLECTION, {"_id": kid}, {"$unset": {"superseded_by": "", "retiring": ""}})
    store.update(COLLECTION, {"_id": kid, "active_since": None}, {"$set": {"active_since": now}})
    for other, row in all_rows(store).items():
        if other != kid and row.get("active_since") and row.get("superseded_by") != kid:
            store.update(COLLECTION, {"_id": other}, {"$set": {"superseded_by": kid}})


def begin_retiring(store: Store, kid: str) -> ObjectId:
    """Say that the key is about to be retired. Gives the token that `retire` wants; an earlier one counts no more."""
    token = ObjectId()
    store.update(COLLECTION, {"_id": kid}, {"$set": {"retiring": token}})
    return token


def retire(store: Store, kid: str, token: ObjectId) -> bool:
    """Retire the key, unless somebody has sealed with it since or has begun to retire it anew."""
    changes = {"$set": {"retired_at": store.now()}, "$unset": {"retiring": ""}}
    return store.update(COLLECTION, {"_id": kid, "retiring": token}, changes) is not None


def revive(store: Store, kid: str, token: ObjectId | None = None) -> None:
    """Take back that the key is retired, or about to be; with a `token`, only what that began."""
    wanted: dict[str, Any] = {"_id": kid} | ({"retiring": token} if token else {})
    store.update(COLLECTION, wanted, {"$set": {"retired_at": None}, "$unset": {"retiring": ""}})


def state(row: Mapping[str, Any]) -> str:
    """A key's state in a word: announced, writing, superseded, retiring or retired."""
    if row.get("retired_at"):
        return "retired"
    if row.get("retiring"):
        return "retiring"
    if not row.get("active_since"):
        return "announced"
    return "superseded" if row.get("superseded_by") else "writing"
