"""Celery's pool of worker processes: how one of them starts, and what the parent does for them."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Collection
from typing import Any

from billiard import pool
from celery import Celery, signals

from flow8_runtime.broker import Broker
from flow8_runtime.foundation import Foundation
from flow8_runtime.process import WorkerProcess
from flow8_runtime.wakeup import Wakeup
from flow8_runtime.watchdog import Pulse, Watchdog

log = logging.getLogger("flow8.worker")

# How often, at pauses of 0.1 s, a pool process that ends looks whether its parent has read its results. Where the stop
# came in between it never does, and ours say nothing; billiard's own 300 would make an idle worker take 30 s to stop.
RESULT_LOOKS = 10

# Celery misses the end of one killed process in twenty, and looks for such every five seconds: until then its steps are
# nobody's, and so is a message that it was given.
COUNTED_EVERY_S = 0.5

YOUNG_OBJECTS = 20_000  # before Python looks for garbage: a step makes thousands, hardly any of them in cycles


def size(app: Celery, processes: int | None) -> None:
    """Have so many pool processes, one a core unless said. `app.conf.worker_concurrency` tells how many there are in
    the end, for Celery's own `--concurrency` goes before."""
    app.conf.worker_concurrency = processes or os.cpu_count()

    def counted(instance: Any, **_: Any) -> None:
        app.conf.worker_concurrency = instance.concurrency

    signals.celeryd_after_setup.connect(counted, weak=False)


def start_or_end(
    foundation: Foundation, broker: Broker, app: Celery, *, queues: Collection[str], pulse: Pulse
) -> WorkerProcess:
    """A started process; one that cannot start ends, and Celery forks another: a pool process without its parts would
    take messages and lose them."""
    gc.freeze()  # what was imported is never garbage: collections pass it over, and its pages stay shared
    gc.set_threshold(YOUNG_OBJECTS)
    gc.enable()
    pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = RESULT_LOOKS
    try:
        return WorkerProcess(foundation, broker, app, queues=queues, stopping=pulse.stopping, alive=pulse.beat)
    except Exception:  # whatever it is, it is told, and this process is no use
        log.exception("a pool process cannot start; another one tries in a second")
        time.sleep(1)
        os._exit(1)


def look_after(foundation: Foundation, broker: Broker, consumer: Any, *, queues: Collection[str], pulse: Pulse) -> None:
    """In the parent process: watch over its children, replace those that are gone, and ring without looking at the
    flags, for a killed worker may have left them up with nobody to hear."""
    gc.enable()
    if hasattr(consumer.pool, "maintain_pool"):  # prefork's
        consumer.hub.call_repeatedly(COUNTED_EVERY_S, consumer.pool.maintain_pool)
    Watchdog(pulse, after_s=foundation.settings.worker.hangs_after_s).start()
    with broker.flags() as flags:
        for queue in queues:
            Wakeup(flags).ring_anyway(queue)
