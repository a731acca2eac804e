"""`flow8 worker`: run the workers of this machine."""

from __future__ import annotations

import gc
import os
from typing import Annotated

import typer

from flow8_cli.reporting import reporting

EXAMPLES = ("flow8 worker", "flow8 worker --processes 4 --queue default --queue reports")

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def worker(
    queue: Annotated[
        list[str] | None, typer.Option("--queue", metavar="NAME", help="Serve this queue of steps; repeatable.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, max=256, help="Pool processes; one a core unless said.")
    ] = None,
    log_level: Annotated[
        str, typer.Option("--log-level", envvar="FLOW8_LOG_LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
    ] = "INFO",
) -> None:
    """Run workers: they drain the ledger, sweep, and refresh what is due.

    Ctrl-C or SIGTERM lets what is in flight finish and takes up nothing new; a second Ctrl-C does not wait.
    """
    with reporting(as_json=False):
        level = _level(log_level)
        os.environ["FLOW8_QUEUES"] = ",".join(queue or ["default"])
        os.environ["FLOW8_LOG_LEVEL"] = level
        gc.disable()  # importing makes no garbage, and looking for it takes a tenth of the start; worker.py looks again
        import worker as door

        arguments = ["--quiet", "worker", "--pool=prefork", f"--loglevel={level}"]
        arguments += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        if processes is not None:
            arguments.append(f"--concurrency={processes}")
        door.app.worker_main(arguments)


def _level(name: str) -> str:
    from flow8_core.errors import ValidationFailed

    if name.upper() not in LEVELS:
        raise ValidationFailed(f"The level is one of {', '.join(LEVELS)}.", path="--log-level")
    return name.upper()
