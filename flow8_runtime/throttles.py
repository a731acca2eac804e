"""Who asked us for patience, and until when: one moment for each credential, seen by every worker at claim time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from flow8_core.clock import Clock, SystemClock
from flow8_core.store import Index, Store

COLLECTION = "throttles"
INDEXES = (Index(keys=(("not_before", 1),), expire_after_s=3600),)

CACHE_S = 1.0
CACHE_LIMIT = 10_000


class Throttles:
    """Reads through a cache of one second, so that claiming costs no query for each step.

    A key names a credential, and where a vendor counts apart a bucket of it: "link:<id>", "link:<id>/chat.postMessage".
    """

    def __init__(self, store: Store, *, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()
        self._cache: dict[str, tuple[float, datetime | None]] = {}

    def hit(self, key: str, not_before: datetime) -> None:
        """No call with this key before this moment (the store's clock). An earlier moment changes nothing."""
        row = self._store.update(COLLECTION, {"_id": key}, {"$max": {"not_before": not_before}}, upsert=True)
        self._remember({key: row["not_before"] if row else not_before})

    def not_before(self, key: str) -> datetime | None:
        """Until when nothing may be called with this key; None where there is nothing to wait for that we know of.

        The moment may have passed. Another worker's `hit` is seen within a second.
        """
        known = self._cache.get(key)  # nearly always it was asked about a moment ago
        if known is not None and known[0] > self._clock.monotonic():
            return known[1]
        return self.of([key]).get(key)

    def of(self, keys: Iterable[str]) -> dict[str, datetime]:
        """`not_before` for several keys, at the cost of at most one query."""
        now = self._clock.monotonic()
        found: dict[str, datetime] = {}
        unknown: list[str] = []
        for key in set(keys):
            known = self._cache.get(key)
            if known is None or known[0] <= now:
                unknown.append(key)
            elif known[1] is not None:
                found[key] = known[1]
        if unknown:
            rows = {row["_id"]: row["not_before"] for row in self._store.find(COLLECTION, {"_id": {"$in": unknown}})}
            self._remember({key: rows.get(key) for key in unknown})
            found |= rows
        return found

    def _remember(self, moments: dict[str, datetime | None]) -> None:
        if len(self._cache) > CACHE_LIMIT:
            self._cache = {}
        until = self._clock.monotonic() + CACHE_S
        for key, moment in moments.items():
            self._cache[key] = (until, moment)
