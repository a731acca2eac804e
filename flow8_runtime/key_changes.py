"""The steps of a key rotation on a platform: announce, rotate, retire. Embedded mode's keys file goes along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from credentials import kdf, key_rows
from credentials.audit import Audit, Selection
from credentials.keyring import NEXT, PREVIOUS, Keyring
from credentials.retirement import Retired, Retirement
from credentials.rotation import DEPLOYMENT, Report, Rotation, record
from flow8_core.errors import Conflict
from flow8_runtime.key_files import KeysFile
from flow8_runtime.platform import Platform

_ADDED = "encryption_key_added"


@dataclass(frozen=True)
class Announced:
    """A key that will write next. `secret` where it was made here, `file` where that was put; `ring` has it."""

    kid: str
    ring: Keyring
    secret: str | None = None
    file: Path | None = None


def announce(platform: Platform) -> Announced:
    """Announce the key of `ENC_KEY_SECRET_NEXT`, or a new one. Raises `Conflict` while another rotation goes on."""
    laid = platform.foundation
    ring = platform.keyring
    made = Announced(ring.announced[0], ring) if ring.announced else _made(platform, KeysFile.of(laid))
    vault = platform.vault
    if not Audit(platform.store, vault, DEPLOYMENT).count(Selection(action=_ADDED, resource_id=made.kid)):
        record(platform.store, vault, _ADDED, made.kid, after={"kid": made.kid})
    return made


def _made(platform: Platform, file: KeysFile | None) -> Announced:
    rows = key_rows.all_rows(platform.store)
    unfinished = [kid for kid, row in rows.items() if key_rows.state(row) in ("superseded", "retiring")]
    if unfinished:
        raise Conflict(f"Key {unfinished[0]} is not retired yet: finish that first (`flow8 keys status`).")
    secret, _ = kdf.generate()
    environ = {name: value for name, value in platform.foundation.environ.items() if name != PREVIOUS}
    ring = Keyring.derive(platform.settings.keys, {**environ, NEXT: secret})
    if file is not None:
        file.announce(secret)
    ring.verify(platform.store)
    return Announced(ring.announced[0], ring, secret, file.path if file else None)


def rotate(platform: Platform, progress: Callable[[], None]) -> tuple[Report, Keyring]:
    """Re-seal everything with the next key, or the current one where none is announced. Gives what was done and the
    ring as processes have it that start from now on. Raises as `Rotation.run`."""
    laid = platform.foundation
    ring = platform.keyring
    to = (*ring.announced, ring.primary.kid)[0]
    report = Rotation(platform.store, ring, to=to, unable=platform.unable_to_read, spool=platform.spools.here).run(
        progress
    )
    file = KeysFile.of(laid)
    if file is None or not ring.announced:
        return report, ring
    file.switch()
    return report, replace(ring, primary=ring.keys[to], announced=(), previous=(ring.primary.kid,))


def retire(platform: Platform, kid: str | None, *, settle_s: float, abandon: bool) -> Retired:
    """Retire a key, the old one unless named. Its secret stays in the keys file until the next rotation begins: copies
    of the database may need it. Raises as `Retirement.run`."""
    ring = platform.keyring
    primaries = {owner: primary for owner, (primary, _) in platform.key_holders().items()}
    retirement = Retirement(platform.store, ring, primaries=primaries, spools=platform.spools, settle_s=settle_s)
    return retirement.run(kid or retirement.the_one(), abandon=abandon)
