"""How much of what is stored needs which key: what `flow8 keys status` shows, and `retire` goes by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from credentials import audit
from credentials.sealed import SEALED, documents, envelopes
from credentials.spool import NO_SPOOLS, Spools
from credentials.vault import Vault
from flow8_core.store import Store

SPOOL = "spool"  # beside the collections: files on the hosts' disks
UNKNOWN = "unknown"  # in the place of a kid: no key of this process, and none that the envelope names

Census = Mapping[str, Mapping[str, int]]


def take(store: Store, vault: Vault, spools: Spools = NO_SPOOLS) -> Census:
    """Per kid and collection, how many envelopes, signed states of a connect, and ends of audit logs there are, and how
    many replies lie in the hosts' spools.

    Reads everything that is sealed, and opens only envelopes of the old form, which do not name their key.
    """
    found: dict[str, Counter[str]] = {}
    for sealed in SEALED:
        for document in documents(store, sealed):
            kids = [vault.kid_of(envelope) for _, envelope in envelopes(document)]
            if isinstance(bound := document.get("bound"), dict):
                kids.append(str(bound.get("kid")))
            for kid in kids:
                found.setdefault(kid or UNKNOWN, Counter())[sealed.collection] += 1
    for _, kid in audit.heads(store):
        found.setdefault(kid, Counter())[audit.COLLECTION] += 1
    for spooled, count in spools.kids(vault).items():
        found.setdefault(spooled or UNKNOWN, Counter())[SPOOL] += count
    return found


def total(counts: Mapping[str, int] | None) -> int:
    """The sum over all collections."""
    return sum((counts or {}).values())
