"""A company's flows as they are now: of each the latest version that was started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from bson import ObjectId

from flow8_core.errors import Flow8Error
from flow8_core.store import Store
from flow8_runtime.definition import Flow
from flow8_runtime.documents import FLOWS

PAGE = 200


def latest_flows(store: Store, company_id: ObjectId) -> Iterator[tuple[str, Flow]]:
    """(name, flow) of the latest version of each flow; one that cannot be read is none."""
    company: dict[str, Any] = {"company_id": company_id}
    latest: dict[str, Any] = {}
    for row in store.find(FLOWS, company, sort=[("created_at", 1)], fields=("name",)):
        latest[row["name"]] = row["_id"]
    ids = list(latest.values())
    for start in range(0, len(ids), PAGE):
        for row in store.find(FLOWS, company | {"_id": {"$in": ids[start : start + PAGE]}}):
            with suppress(Flow8Error, ValueError):
                yield row["name"], Flow.stored(row["text"])
