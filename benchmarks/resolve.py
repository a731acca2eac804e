"""(b) Resolving a fresh link, against a raw find plus decrypt."""

from __future__ import annotations

import time
from collections.abc import Callable

from bson import ObjectId

from benchmarks.bed import Bed
from benchmarks.deployment import TOKEN
from benchmarks.measure import Row, Size, millis, paired
from credentials.grants import COLLECTION
from credentials.vault import Place
from flow8_core.clock import Deadline

TITLE = "(b) resolving a fresh link, against a raw find plus decrypt"
AT_ONCE = 100  # short turns, many of them: in this process nothing else is measured
TURNS_A_ROUND = 20
AIM = 1.3


def run(bed: Bed, size: Size) -> list[Row]:
    """One row."""
    deployment, platform = bed.ours, bed.ours.platform
    store, vault, resolver, link_id = platform.store, platform.vault, platform.resolver, ObjectId(deployment.link_id)
    scopes = frozenset({"chat:write"})

    def ours() -> None:
        access = resolver.link(
            company_id=deployment.company_id,
            user_id=deployment.user_id,
            service="slack",
            link_id=deployment.link_id,
            scopes=scopes,
            deadline=Deadline.after(30, platform.clock),
        )
        assert access.access_token.reveal() == TOKEN

    def raw() -> None:
        found = store.find(COLLECTION, {"_id": link_id, "company_id": deployment.company_id}, limit=1)[0]
        place = Place(COLLECTION, found["_id"], found["company_id"], "access_token")
        assert vault.open(place, found["access_token"]).reveal() == TOKEN

    mine, bare = paired(size.rounds * TURNS_A_ROUND, lambda: _timed(ours), lambda: _timed(raw), warm=TURNS_A_ROUND)
    return [Row("resolve", millis(mine), millis(bare), f"{mine / bare:.2f}x", f"under {AIM:g}x", mine / bare < AIM)]


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    for _ in range(AT_ONCE):
        work()
    return (time.perf_counter() - began) / AT_ONCE
