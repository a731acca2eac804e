"""Does a store keep what it promises? Asked by `flow8 doctor` of a server that it does not know.

Some servers that speak MongoDB's protocol do not update the first match atomically (FerretDB 1.24 kept 250 of 1,600
increments and gave 1,000 jobs out 4,259 times), and with such a one steps would run twice.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bson.objectid import ObjectId

from flow8_core.store.base import DuplicateKey, Index, Insert, Store

COLLECTION = "store_probe"
_RIVALS = 8
_INCREMENTS = 25
_JOBS = 50


@dataclass(frozen=True)
class Finding:
    """One promise, whether the store keeps it, and what was seen."""

    promise: str
    kept: bool
    seen: str


def probe(store: Store) -> list[Finding]:
    """Try the store's promises for a moment, in a collection of their own that is left empty.

    Raises `StoreUnavailable` where the store is down.
    """
    store.declare(COLLECTION, [Index((("name", 1),), unique=True)])
    run = str(ObjectId())
    try:
        return [_increments(store, run), _claims(store, run), _uniqueness(store, run)]
    finally:
        while store.delete(COLLECTION, {"run": run}) is not None:
            pass


def _increments(store: Store, run: str) -> Finding:
    counter = f"{run}.counter"
    store.insert(COLLECTION, {"_id": counter, "run": run, "name": counter, "count": 0})

    def increase() -> int:
        return sum(
            store.update(COLLECTION, {"_id": counter}, {"$inc": {"count": 1}}) is not None for _ in range(_INCREMENTS)
        )

    acknowledged = sum(_together(increase))
    kept = (store.get(COLLECTION, counter) or {"count": 0})["count"]
    return Finding(
        "an acknowledged increment is never lost", kept == acknowledged, f"{kept} of {acknowledged} increments kept"
    )


def _claims(store: Store, run: str) -> Finding:
    jobs = [f"{run}.{number}" for number in range(_JOBS)]
    store.batch([Insert(COLLECTION, {"_id": job, "run": run, "name": job, "status": "new"}) for job in jobs])

    def claim() -> int:
        taken = 0
        while store.update(COLLECTION, {"run": run, "status": "new"}, {"$set": {"status": "taken"}}) is not None:
            taken += 1
            if taken > _JOBS:
                break
        return taken

    taken = sum(_together(claim))
    return Finding(
        "the first match is updated by one caller only", taken == _JOBS, f"{_JOBS} jobs claimed {taken} times"
    )


def _uniqueness(store: Store, run: str) -> Finding:
    def insert() -> int:
        try:
            store.insert(COLLECTION, {"_id": ObjectId(), "run": run, "name": f"{run}.unique"})
        except DuplicateKey:
            return 0
        return 1

    inserted = sum(_together(insert))
    return Finding("a unique index is enforced", inserted == 1, f"{inserted} documents with one unique value")


def _together(work: Callable[[], int]) -> list[int]:
    with ThreadPoolExecutor(_RIVALS) as pool:
        return [future.result() for future in [pool.submit(work) for _ in range(_RIVALS)]]
