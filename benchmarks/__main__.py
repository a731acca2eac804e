"""`make bench`: what a durable step costs, beside hand-written Celery tasks, in one run.

python -m benchmarks [SECTION ...] [--quick] [--json FILE]      sections: steps resolve startup drain
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import handwritten
from benchmarks.bed import TOKEN, Bed
from flow8_core.clock import Deadline
from flow8_runtime.definition import Flow

Row = tuple[str, str, str, str]
console = Console(width=110)


def _step(name: str, module_ref: str, order: int = 1, **mapping: Any) -> dict[str, Any]:
    return {"name": name, "module_ref": module_ref, "order": order, "input_mapping": mapping}


def paired(rounds: int, ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float]:
    """Medians of alternating runs, so that a machine that slows down slows both."""
    first, second = [], []
    for _ in range(rounds):
        first.append(ours())
        second.append(theirs())
    return statistics.median(first), statistics.median(second)


def steps(bed: Bed, *, count: int, rounds: int) -> list[Row]:
    """(a) A step through worker, ledger and resolver against a hand-written task with the stock SDK."""
    content = "x" * 4096
    http = _step("call", "http-request", url=f"https://127.0.0.1:{bed.secure}/call", method="POST", body={"x": 1})
    flows = {
        "slack-message": _step("post", "slack-message", channel="C024BE91L", message="hello"),
        "s3-upload (4 KiB)": _step("put", "s3-upload", key="k", content=content),
        "http-request (TLS)": {**http, "component_config_ids": {"request": bed.request_id}},
    }
    tasks: dict[str, Callable[[], Any]] = {
        "slack-message": lambda: handwritten.slack.delay("C024BE91L", "hello"),
        "s3-upload (4 KiB)": lambda: handwritten.s3.delay("k", content),
        "http-request (TLS)": lambda: handwritten.http.delay("/call", {"x": 1}),
    }
    worker, other = bed.start_worker(), bed.start_handwritten()
    rows: list[Row] = []
    for name, step in flows.items():
        flow = Flow.parse({"name": name, "steps": [step]})

        def ours(flow: Flow = flow) -> float:
            return _burst(bed, count, lambda: bed.submit(flow))

        def theirs(send: Callable[[], Any] = tasks[name]) -> float:
            return _burst(bed, count, send)

        ours(), theirs()  # warm
        mine, handmade = paired(rounds, ours, theirs)
        rows.append((name, _ms(mine / count), _ms(handmade / count), f"{handmade / mine:.1f}x"))
    worker.stop()
    other.stop()
    return rows


def resolve(bed: Bed, *, count: int, rounds: int) -> list[Row]:
    """(b) Resolving a fresh link against a raw find plus decrypt."""
    from bson import ObjectId

    from credentials.grants import COLLECTION
    from credentials.vault import Place

    store, vault, resolver, clock = bed.platform.store, bed.platform.vault, bed.platform.resolver, bed.platform.clock
    link_id = ObjectId(bed.link_id)
    scopes = frozenset({"chat:write"})

    def ours() -> float:
        began = time.perf_counter()
        for _ in range(count):
            access = resolver.link(
                company_id=bed.company_id, user_id=bed.user_id, service="slack", link_id=bed.link_id,
                scopes=scopes, deadline=Deadline.after(30, clock),
            )  # fmt: skip
            access.access_token.reveal()
        return time.perf_counter() - began

    def raw() -> float:
        began = time.perf_counter()
        for _ in range(count):
            found = store.find(COLLECTION, {"_id": link_id, "company_id": bed.company_id}, limit=1)[0]
            place = Place(COLLECTION, found["_id"], found["company_id"], "access_token")
            assert vault.open(place, found["access_token"]).reveal() == TOKEN
        return time.perf_counter() - began

    ours(), raw()
    mine, bare = paired(rounds, ours, raw)
    return [("resolve of a fresh link", _ms(mine / count), _ms(bare / count), f"{mine / bare:.2f}x")]


def startup(bed: Bed, *, rounds: int) -> list[Row]:
    """(c) Worker start and memory against bare Celery, before any SDK is used."""
    started: dict[str, list[float]] = {"ours": [], "theirs": []}
    memory: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        for name, start in (("ours", bed.start_worker), ("theirs", bed.start_handwritten)):
            worker = start()
            started[name].append(worker.ready_s)
            time.sleep(1.0)  # let its pool processes finish their own start
            memory[name].append(statistics.mean(worker.child_memory()))
            worker.stop()
    mine, bare = statistics.median(started["ours"]), statistics.median(started["theirs"])
    mine_mb, bare_mb = statistics.median(memory["ours"]), statistics.median(memory["theirs"])
    return [
        ("worker start", _ms(mine), _ms(bare), f"{(mine - bare) * 1000:+.0f} ms"),
        ("memory of a pool process", f"{mine_mb:.0f} MB", f"{bare_mb:.0f} MB", f"{mine_mb - bare_mb:+.0f} MB"),
    ]


def drain(bed: Bed, *, count: int, rounds: int) -> list[Row]:
    """(d) Steps a second at once, single and in plays of ten, and idle latency, against a task and a chain."""
    url = f"http://127.0.0.1:{bed.plain}/call"
    one = Flow.parse({"name": "one", "steps": [_step("s1", "http-request", 1, url=url, method="POST", body={})]})
    many = [_step(f"s{n}", "http-request", n, url=url, method="POST", body={}) for n in range(1, 11)]
    ten = Flow.parse({"name": "ten", "steps": many})
    worker, other = bed.start_worker(), bed.start_handwritten()
    rows: list[Row] = []

    def burst(send: Callable[[], Any], plays: int, steps_: int) -> Callable[[], float]:
        return lambda: _burst(bed, plays, send, effects=plays * steps_)

    cases = [
        ("single steps", burst(lambda: bed.submit(one), count, 1), burst(handwritten.call.delay, count, 1), count),
        ("plays of ten", burst(lambda: bed.submit(ten), count // 10, 10), burst(handwritten.ten_in_a_row, count // 10, 10), count),
    ]  # fmt: skip
    for name, ours, theirs, total in cases:
        ours(), theirs()
        mine, bare = paired(rounds, ours, theirs)
        rows.append((f"{name}, steps/s", f"{total / mine:.0f}", f"{total / bare:.0f}", f"{bare / mine:.1f}x"))
    idle = [
        ("one step, idle", lambda: _idle(bed, lambda: bed.submit(one), 1), lambda: _idle(bed, handwritten.call.delay, 1)),
        ("play of ten, idle", lambda: _idle(bed, lambda: bed.submit(ten), 10), lambda: _idle(bed, handwritten.ten_in_a_row, 10)),
    ]  # fmt: skip
    for name, ours, theirs in idle:
        mine, bare = paired(rounds * 8, ours, theirs)
        rows.append((name, _ms(mine), _ms(bare), f"{bare / mine:.1f}x"))
    worker.stop()
    other.stop()
    return rows


def _burst(bed: Bed, count: int, send: Callable[[], Any], *, effects: int | None = None) -> float:
    bed.effects()
    began = time.perf_counter()
    for _ in range(count):
        send()
    return bed.until_effects(effects or count) - began


def _idle(bed: Bed, send: Callable[[], Any], effects: int) -> float:
    time.sleep(0.4)  # longer than any drain lingers
    bed.effects()
    began = time.perf_counter()
    send()
    return bed.until_effects(effects) - began


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


TITLES = {
    "steps": ("(a) a step: ours against a hand-written Celery task with the stock SDK", "faster by"),
    "resolve": ("(b) resolving: against a raw find plus decrypt", "cost"),
    "startup": ("(c) worker start and memory: against bare Celery", "more"),
    "drain": ("(d) durable steps: against a bare Celery task and a Celery chain", "faster by"),
}


def main() -> None:
    """Run the sections asked for, print tables, and write figures where asked to."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*TITLES, []], default=[])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    given = parser.parse_args()
    count, rounds = (200, 3) if given.quick else (600, 5)
    runs: dict[str, Callable[[Bed], list[Row]]] = {
        "steps": lambda bed: steps(bed, count=count, rounds=rounds),
        "resolve": lambda bed: resolve(bed, count=count * 3, rounds=rounds),
        "startup": lambda bed: startup(bed, rounds=rounds),
        "drain": lambda bed: drain(bed, count=count * 5, rounds=rounds),
    }
    figures: dict[str, Any] = {"machine": f"{platform.machine()}, Python {platform.python_version()}"}
    with tempfile.TemporaryDirectory(prefix="flow8-bench-", ignore_cleanup_errors=True) as folder:
        bed = Bed(Path(folder))
        try:
            for name in given.sections or TITLES:
                rows = runs[name](bed)
                figures[name] = rows
                title, last = TITLES[name]
                table = Table("", "flow8", "beside it", last, title=title, title_justify="left")
                for row in rows:
                    table.add_row(*row)
                console.print(table)
        finally:
            bed.close()
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
