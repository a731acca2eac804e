"""(a) A step through worker, ledger and resolver, against a hand-written Celery task with the stock SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import handwritten
from benchmarks.bed import Bed
from benchmarks.measure import Row, Size, faster, millis, paired
from flow8_runtime.definition import Flow

TITLE = "(a) a step of a burst, against a hand-written Celery task with the stock SDK"
CONTENT = "x" * 4096
AIMS = {"slack-message": 3.0, "s3-upload, 4 KiB": 3.0, "http-request, TLS": 1.0}


def run(bed: Bed, size: Size) -> list[Row]:
    """One row a module."""
    flows = {
        "slack-message": bed.step("slack-message", channel="C024BE91L", message="hello"),
        "s3-upload, 4 KiB": bed.step("s3-upload", key="k", content=CONTENT),
        "http-request, TLS": {
            **bed.step("http-request", url=f"{bed.secure_url}/call", method="POST", body={"x": 1}),
            "component_config_ids": {"request": bed.ours.request_id},
        },
    }
    tasks: dict[str, Callable[[], Any]] = {
        "slack-message": lambda: handwritten.slack.delay("C024BE91L", "hello"),
        "s3-upload, 4 KiB": lambda: handwritten.s3.delay("k", CONTENT),
        "http-request, TLS": lambda: handwritten.http.delay("/call", {"x": 1}),
    }
    with bed.our_worker(), bed.handwritten_worker():
        return [_row(bed, size, name, step, tasks[name]) for name, step in flows.items()]


def _row(bed: Bed, size: Size, name: str, step: dict[str, Any], send: Callable[[], Any]) -> Row:
    flow = Flow.parse({"name": "bench", "steps": [step]})
    mine, other = paired(
        size.rounds,
        lambda: bed.burst(lambda: bed.ours.submit(flow), size.steps),
        lambda: bed.burst(send, size.steps),
    )
    return faster(name, (millis(mine / size.steps), millis(other / size.steps)), other / mine, aim=AIMS[name])
