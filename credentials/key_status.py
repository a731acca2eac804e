"""Where a rotation stands, and what the operator does next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from credentials import key_census, key_rows
from credentials.key_census import UNKNOWN
from credentials.keyring import NEXT, PREVIOUS, SECRET, Keyring
from credentials.spool import NO_SPOOLS, Spools
from credentials.vault import Vault
from flow8_core.store import Store


@dataclass(frozen=True)
class KeyStatus:
    """One key. `variable` is where this process has it from, None where it has not; `state` as in `key_rows.state`,
    or unknown where the collection `keyring` does not know it; `envelopes` by collection. `primary_of` and
    `missing_at` name living processes."""

    kid: str
    variable: str | None
    state: str
    envelopes: Mapping[str, int]
    primary_of: tuple[str, ...] = ()
    missing_at: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return key_census.total(self.envelopes)


@dataclass(frozen=True)
class Status:
    """All keys, the key that writes, how much no key accounts for, and the next step in words."""

    writes: str
    keys: tuple[KeyStatus, ...]
    unreadable: Mapping[str, int]
    next_step: str


Processes = Mapping[str, tuple[str, tuple[str, ...]]]  # id -> (its primary kid, all that it reads with)


def look(store: Store, keyring: Keyring, processes: Processes, spools: Spools = NO_SPOOLS) -> Status:
    """The status, from a count of everything that is sealed. Raises `StoreUnavailable`, and as `Spool.kids`."""
    vault = Vault(keyring, key_rows.Writer(store, keyring))
    census, rows = key_census.take(store, vault, spools), key_rows.all_rows(store)
    variables = {keyring.primary.kid: SECRET}
    variables |= dict.fromkeys(keyring.announced, NEXT) | dict.fromkeys(keyring.previous, PREVIOUS)
    kids = dict.fromkeys([*rows, *keyring.keys, *census])
    keys = tuple(
        KeyStatus(
            kid,
            variables.get(kid),
            key_rows.state(rows[kid]) if kid in rows else "unknown",
            dict(census.get(kid, {})),
            tuple(one for one, (primary, _) in processes.items() if primary == kid),
            tuple(one for one, (_, reads) in processes.items() if kid not in reads),
        )
        for kid in kids
        if kid != UNKNOWN
    )
    return Status(vault.kid, keys, dict(census.get(UNKNOWN, {})), next_step(keys, vault.kid))


def next_step(keys: Iterable[KeyStatus], writes: str) -> str:
    """What an operator does now: the steps of docs/keys.md, in their order."""
    by_variable = {key.variable: key for key in keys if key.variable}
    following, previous = by_variable.get(NEXT), by_variable.get(PREVIOUS)
    stale = [key for key in keys if key.kid != writes and key.total and key.state != "unknown"]
    if following is not None:
        return _with_next(following, stale, writes)
    if previous is not None:
        return _with_previous(previous, stale)
    if stale:
        return f"Set the secret of key {stale[0].kid} as {PREVIOUS} beside {SECRET}; then `flow8 keys rotate`."
    return "Nothing to do. `flow8 keys add` begins a rotation."


def _with_next(following: KeyStatus, stale: list[KeyStatus], writes: str) -> str:
    if following.missing_at:
        count = len(following.missing_at)
        return f"Give {NEXT} to all processes and restart them: {count} living workers cannot read with it yet."
    if following.kid != writes or stale:
        return f"Once every process has been restarted with {NEXT}: `flow8 keys rotate`."
    return (
        f"Make {NEXT} the {SECRET} of every process, and the old one {PREVIOUS}; restart them; then "
        "`flow8 keys retire`."
    )


def _with_previous(previous: KeyStatus, stale: list[KeyStatus]) -> str:
    if stale:
        return "`flow8 keys rotate`."
    if previous.primary_of:
        return f"Restart {len(previous.primary_of)} living workers whose {SECRET} is still the old one."
    if previous.state == "retired":
        return f"Remove {PREVIOUS} from every process; keep it with old backups of the database, which need it."
    return "`flow8 keys retire`."
