"""`make bench`: what a durable step costs, beside hand-written Celery tasks, in one run.

python -m benchmarks [SECTION ...] [--quick] [--json FILE]      sections: steps resolve startup engine submit recovery
growth
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import engine, growth, recovery, resolve, startup, steps, submit
from benchmarks.bed import Bed
from benchmarks.measure import Row, Size

SECTIONS: dict[str, Any] = {
    "steps": steps,
    "resolve": resolve,
    "startup": startup,
    "engine": engine,
    "submit": submit,
    "recovery": recovery,
    "growth": growth,
}
FULL = Size(rounds=5, steps=400, drained=3000, ledger=1_000_000)
QUICK = Size(rounds=3, steps=150, drained=1000, ledger=100_000)


def main() -> None:
    """Run the sections asked for, print tables, and write figures where asked to."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    given = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is measured is compiled once, as it is where it is installed
    console = Console(width=120)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    console.print(f"{machine}; medians of paired runs; load {os.getloadavg()[0]:.1f} before the start")
    figures: dict[str, Any] = {"machine": machine}
    own = tempfile.TemporaryDirectory(prefix="flow8-bench-", ignore_cleanup_errors=True)
    with own as folder, Bed(Path(folder)) as bed:
        for name in given.sections or SECTIONS:
            rows = SECTIONS[name].run(bed, QUICK if given.quick else FULL)
            figures[name] = [asdict(row) for row in rows]
            console.print(_table(SECTIONS[name].TITLE, rows))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def _table(title: str, rows: list[Row]) -> Table:
    table = Table("", "flow8", "beside it", "result", "aim", title=title, title_justify="left", min_width=115)
    for row in rows:
        style = "green" if row.met else "red"
        table.add_row(row.name, row.ours, row.theirs, f"[{style}]{row.result}[/]", row.aim)
    return table


if __name__ == "__main__":
    main()
