"""(e) Plays a second into the ledger by `submit_many`, against a loop of Celery's `delay()`, which records nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from bson import ObjectId

from benchmarks import handwritten
from benchmarks.bed import Bed
from benchmarks.measure import Row, Size, paired
from flow8_core.store import Store, open_store
from flow8_runtime import documents
from flow8_runtime.definition import Flow
from flow8_runtime.ledger import Ledger

TITLE = "(e) plays a second into the ledger, against tasks a second into Redis"
PLAYS_A_STEP = 10  # a burst has so many plays for each step of the other sections'
AIM = 5000


def run(bed: Bed, size: Size) -> list[Row]:
    """One row a store."""
    urls = {"SQLite": f"sqlite:///{bed.folder / 'submit.db'}"}
    database = bed.mongo_database()
    if database:
        urls["MongoDB"] = database
    return [_row(name, open_store(url), bed, size) for name, url in urls.items()]


def _row(name: str, store: Store, bed: Bed, size: Size) -> Row:
    for collection, indexes in ((documents.FLOWS, documents.FLOW_INDEXES), (documents.PLAYS, documents.PLAY_INDEXES)):
        store.declare(collection, indexes)
    ledger, count = Ledger(store), size.steps * PLAYS_A_STEP
    flow = Flow.parse(
        {"name": "bench", "steps": [bed.step("slack-message", channel="C1", message="{{ $prev.args.n }}")]}
    )
    many: list[dict[str, Any]] = [{"n": n, "customer": f"c{n}", "amount": 12.5} for n in range(count)]

    def ours() -> None:
        ids = [ObjectId() for _ in many]
        ledger.submit_many(flow, many, company_id=bed.ours.company_id, user_id=bed.ours.user_id, play_ids=ids)

    def theirs() -> None:
        for args in many:
            handwritten.slack.apply_async(kwargs={"channel": "C1", "text": str(args["n"])}, queue="nobody")

    mine, other = paired(size.rounds, lambda: _timed(ours), lambda: _timed(theirs))
    store.close()
    rate, theirs_rate = count / mine, count / other
    figures = f"{rate:,.0f}/s", f"{theirs_rate:,.0f}/s"
    return Row(name, *figures, f"{rate / theirs_rate:.1f}x", f"at least {AIM:,}/s", rate >= AIM)


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
