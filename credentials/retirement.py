"""Retiring a key: only when nothing needs it any more, and nobody can be about to store something that does.

    count -> say so (`retiring`) -> let writes under way arrive -> count again -> retire, if nobody objected

Whoever seals has looked at the key's row within `LOOK_S`, and either follows to the key that took its place or takes
`retiring` away first. So what was sealed with the old key is stored before the second count, or the last step fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from credentials import key_census, key_rows
from credentials.keyring import Keyring
from credentials.rotation import record
from credentials.sealed import SEALED, documents, envelopes
from credentials.spool import NO_SPOOLS, Spools
from credentials.vault import EnvelopeRejected, Place, Vault
from flow8_core import crashpoints
from flow8_core.errors import Conflict, Flow8Error, NotFound, ValidationFailed
from flow8_core.store import Store

# Longer than a process goes by what it knows of its key, and than a refresh tries to store what it got (44 s).
SETTLE_S = 60.0

RETIRING = crashpoints.register("retire.retiring", "the key is about to be retired; nothing is counted since")
COUNTED = crashpoints.register("retire.counted", "nothing needs the key; its row does not say so yet")


@dataclass(frozen=True)
class Retired:
    """A key that nothing needs any more. `abandoned` counts envelopes that did not open with it either."""

    kid: str
    abandoned: int = 0


class Retirement:
    """Retires keys of one deployment. `primaries` are the kids that living processes have as `ENC_KEY_SECRET`, by
    process; `pause` waits for so many seconds."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        *,
        primaries: Mapping[str, str] | None = None,
        spools: Spools = NO_SPOOLS,
        settle_s: float = SETTLE_S,
        pause: Callable[[float], None] | None = None,
    ) -> None:
        self._store = store
        self._ring = keyring
        self._vault = Vault(keyring, key_rows.Writer(store, keyring))
        self._primaries = primaries or {}
        self._spools = spools
        self._settle_s = settle_s
        self._pause = pause or time.sleep

    def the_one(self) -> str:
        """The only key that can be meant. Raises `ValidationFailed` where there is none, or a choice."""
        rows = key_rows.all_rows(self._store)
        old = [kid for kid, row in rows.items() if key_rows.state(row) in ("superseded", "retiring")]
        if len(old) != 1:
            known = f"could be meant: {', '.join(old)}" if old else "can be retired"
            raise ValidationFailed(f"{len(old) or 'no'} key {known}; `flow8 keys status` shows all", path="kid")
        return old[0]

    def run(self, kid: str, *, abandon: bool = False) -> Retired:
        """Retire a key. `abandon` leaves envelopes behind that do not open with it: they are lost in any case.

        Raises `NotFound` for an unknown key, and `Conflict` where it writes, where something still needs it or where a
        process used it meanwhile; nothing has changed then.
        """
        row = key_rows.all_rows(self._store).get(kid)
        if row is None:
            raise NotFound(f"There is no key {kid}; `flow8 keys status` shows those that there are.")
        if self._retired(kid):
            return Retired(kid)
        self._refuse_in_use(kid)
        self._counted(kid, abandon=abandon)
        token = key_rows.begin_retiring(self._store, kid)
        try:
            crashpoints.visit(RETIRING)
            self._pause(self._settle_s)
            abandoned = self._counted(kid, abandon=abandon)
            crashpoints.visit(COUNTED)
            record(self._store, self._vault, "encryption_key_retired", kid, after={"kid": kid, "unreadable": abandoned})
            if not key_rows.retire(self._store, kid, token) and not self._retired(kid):
                raise Conflict(f"Key {kid} was used, or retired by somebody else, at this moment; look and try again.")
        except Flow8Error as error:
            key_rows.revive(self._store, kid, token)
            record(self._store, self._vault, "encryption_key_retired", kid, after={"kid": kid}, error=error)
            raise
        return Retired(kid, abandoned)

    def _retired(self, kid: str) -> bool:
        return key_rows.state(key_rows.all_rows(self._store).get(kid) or {}) == "retired"

    def _refuse_in_use(self, kid: str) -> None:
        if self._vault.kid == kid:
            raise Conflict(f"Key {kid} writes: rotate to another one first (`flow8 keys add` begins).")
        if kid == self._ring.primary.kid:
            raise Conflict(
                f"Key {kid} is still the ENC_KEY_SECRET here, and no process would start with a retired one: make "
                "ENC_KEY_SECRET_NEXT the ENC_KEY_SECRET everywhere, and the old one ENC_KEY_SECRET_PREVIOUS."
            )
        if kid not in self._ring.keys:
            raise Conflict(
                f"Key {kid} is not one that this process has, so that what needs it cannot be told from what does not: "
                "run this with its secret as ENC_KEY_SECRET_PREVIOUS."
            )
        holding = [process for process, primary in self._primaries.items() if primary == kid]
        if holding:
            raise Conflict(
                f"Key {kid} is still the ENC_KEY_SECRET of {len(holding)} living worker processes; restart them with "
                "the new one."
            )

    def _counted(self, kid: str, *, abandon: bool) -> int:
        """How many envelopes will be left behind. Raises `Conflict` where others need the key."""
        census = key_census.take(self._store, self._vault, self._spools)
        counts = dict(census.get(kid) or {})
        count, lost = key_census.total(counts), 0
        if count and abandon:
            lost = self._lost(kid)
        if count > lost:
            listed = ", ".join(f"{number} in {name}" for name, number in sorted(counts.items()))
            raise Conflict(f"Key {kid} is still needed ({listed}); run `flow8 keys rotate` first.")
        return lost

    def _lost(self, kid: str) -> int:
        """How many envelopes name the key and do not open with it."""
        lost = 0
        for sealed in SEALED:
            for document in documents(self._store, sealed):
                for path, envelope in envelopes(document):
                    if self._vault.kid_of(envelope) == kid:
                        place = Place(sealed.collection, document["_id"], document.get("company_id"), path)  # type: ignore[arg-type]
                        lost += not self._opens(place, envelope)
        for spooled in self._spools.here.all():
            if self._vault.kid_of(spooled.envelope) == kid:
                lost += not self._opens(spooled.place, spooled.envelope)
        return lost

    def _opens(self, place: Place, envelope: Mapping[str, object]) -> bool:
        try:
            self._vault.resealed(place, envelope)
        except EnvelopeRejected:
            return False
        return True
