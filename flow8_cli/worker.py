"""`flow8 worker`: run the workers of this machine."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from flow8_cli.session import reporting


def worker(
    queue: Annotated[list[str] | None, typer.Option("--queue", help="Serve this queue of steps; repeatable.")] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, max=256, help="Pool processes; one a core.")
    ] = None,
    log_level: Annotated[str, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Run workers: they drain the ledger, sweep, and refresh what is due. SIGTERM lets what is in flight finish.

    Examples: flow8 worker
              flow8 worker --processes 4 --queue default --queue reports
    """
    with reporting(as_json=False):
        os.environ["FLOW8_QUEUES"] = ",".join(queue or ["default"])
        os.environ["FLOW8_LOG_LEVEL"] = log_level.upper()
        import worker as door

        arguments = ["worker", "--pool=prefork", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        if processes is not None:
            arguments.append(f"--concurrency={processes}")
        door.app.worker_main([*arguments, f"--loglevel={log_level.upper()}"])
