"""The door by which work comes in: Celery's app and its tasks. Run it with `flow8 worker` or `celery -A worker worker`.

What must exist before the fork is laid here once (settings, keys, the stop flag); what must not is made in each child.
"""

# ruff: noqa: E402  # the keys are derived on another core while Celery is imported
from __future__ import annotations

import os
from typing import Any

from flow8_core import logging as flow8_logging
from flow8_runtime.background import begun
from flow8_runtime.foundation import Foundation

flow8_logging.configure(level=os.environ.get("FLOW8_LOG_LEVEL") or "INFO")
laid = begun(Foundation.lay(os.environ).with_keys)

from celery import Task, signals

from flow8_runtime import app as names
from flow8_runtime import pool, tasks
from flow8_runtime.app import make_app
from flow8_runtime.broker import find_or_start
from flow8_runtime.process import WorkerProcess
from flow8_runtime.queues import DRAIN, step_queue
from flow8_runtime.watchdog import Pulse

foundation = laid().verified()
broker = find_or_start(foundation.settings)
queues = tuple(filter(None, os.environ.get("FLOW8_QUEUES", "default").split(",")))
app = make_app(broker.url, queues=queues)
pool.size(app, foundation.settings.worker.processes)

_pulse = Pulse()
_process: list[WorkerProcess] = []


@signals.setup_logging.connect
def keep_our_logging(**_: Any) -> None:
    """Celery's own handlers do not redact; a receiver keeps it from adding any."""


@signals.worker_process_init.connect
def start(**_: Any) -> None:
    """In each child, after the fork."""
    _process[:] = [pool.start_or_end(foundation, broker, app, queues=queues, pulse=_pulse)]


@signals.worker_ready.connect
def ready(sender: Any, **_: Any) -> None:
    """In the parent, once its children have started."""
    pool.look_after(foundation, broker, sender, queues=queues, pulse=_pulse)


@signals.worker_shutting_down.connect
def stop(**_: Any) -> None:
    """In the parent, at SIGTERM: what is in flight finishes, nothing new begins."""
    _pulse.stop()


@signals.worker_process_shutdown.connect
def end(**_: Any) -> None:
    """In each child, after its last task."""
    _pulse.end()
    while _process:
        _process.pop().close()


@app.task(name=DRAIN, bind=True)
def drain(self: Task, **_: Any) -> None:
    """The wake-up: something is due."""
    _process[0].drain(step_queue(self.request.delivery_info.get("routing_key")))


@app.task(name=names.RUN_STEP)
def run_step(message: str) -> None:
    """Make one step due now."""
    tasks.run_step(_process[0], message)


# The one message that carries work: it is acknowledged when the ledger has it, and comes back if its worker dies or the
# store is away before that.
@app.task(name=names.EXECUTE, acks_late=True, reject_on_worker_lost=True)
def execute(message: str) -> None:
    """A whole step from an engine with records of its own."""
    tasks.execute(_process[0], message)


@app.task(name=names.REFRESH_LINK)
def refresh_link(message: str) -> None:
    """Refresh one link now."""
    tasks.refresh_link(_process[0], message)


@app.task(name=names.SWEEP)
def sweep(**_: Any) -> None:
    """Sweep now, out of turn."""
    _process[0].sweep()
