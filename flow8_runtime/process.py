"""One worker process: platform, engine, heartbeat and sweep, from the fork to the end."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from datetime import timedelta

from bson import ObjectId
from celery import Celery

from flow8_core.errors import Flow8Error
from flow8_core.logging import get_logger
from flow8_modules.workspace import Workspace
from flow8_runtime import app as celery_app
from flow8_runtime import broker
from flow8_runtime.broker import Broker
from flow8_runtime.engine import MISSED_BEATS, Drained, Engine
from flow8_runtime.owners import Owner, Owners
from flow8_runtime.platform import Foundation, Platform
from flow8_runtime.runner import Parts, Runner
from flow8_runtime.sweep import Sweep, SweepReport
from flow8_runtime.wakeup import DEFAULT_QUEUE, Wakeup

log = logging.getLogger("flow8.worker")

SWEEP_CURSOR = "sweep"
CURSORS = "cursors"


class WorkerProcess:
    """What a pool process holds. Made after the fork; `close` after the last task."""

    def __init__(
        self, foundation: Foundation, broker: Broker, app: Celery, *, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self.platform = Platform(foundation)
        self.settings = foundation.settings
        self._stopping = stopping
        self._flags = broker.flags()
        self.wakeup = Wakeup(self._flags, lambda queue: celery_app.publish_wakeup(app, queue))
        self.owner = Owner(self.settings.home)
        self.owners = Owners(self.platform.store, self.settings.home)
        self.engine = Engine(
            ledger=self.platform.ledger,
            runner=Runner(self._parts()),
            wakeup=self.wakeup,
            owner=self.owner,
            clock=self.platform.clock,
            budget_s=self.settings.worker.budget_s,
            stopping=stopping,
        )
        self.beat()
        self._over = threading.Event()
        self._upkeep = threading.Thread(target=self._keep_up, name="flow8-upkeep", daemon=True)
        self._upkeep.start()

    def drain(self, queue: str = DEFAULT_QUEUE) -> Drained:
        """Drain the ledger for a short budget; a worker that is stopping leaves what is due to the others."""
        return Drained() if self._stopping() else self.engine.drain(queue)

    def beat(self) -> None:
        """Say that this process lives, and renew the leases of its calls."""
        alive_s = self.settings.worker.beat_s * MISSED_BEATS
        self.owner.beat(self.platform.store, alive_s=alive_s)

    def sweep(self) -> SweepReport:
        """One sweep: take back what the dead left, release what waited, wake whoever has something due."""
        platform = self.platform
        report = Sweep(platform.ledger, platform.store, dead=self.owners.dead, link_active=self._link_active).run()
        for queue in report.due:
            self.wakeup.ring_anyway(queue)
        return report

    def close(self) -> None:
        """Stop the upkeep thread and leave; nothing is in flight here any more."""
        self._over.set()
        self._upkeep.join(timeout=5)
        self.owner.close(self.platform.store)
        self._flags.close()
        self.platform.close()

    def _parts(self) -> Parts:
        platform = self.platform
        return Parts(
            ledger=platform.ledger,
            catalogue=platform.catalogue,
            resolver=lambda: platform.resolver,
            egress=platform.egress,
            clients=platform.clients,
            workspace=lambda play_id: Workspace(self.settings.workspace_root / play_id),
            clock=platform.clock,
            rng=random.SystemRandom(),
            log=get_logger("flow8.step"),
        )

    def _link_active(self, company_id: ObjectId, link_id: str) -> bool:
        link = self.platform.links(company_id).find(link_id)
        return link is not None and link.status == "active"

    def _keep_up(self) -> None:
        """Heartbeat and sweep, whatever the broker does: a flushed or dead Redis must not stop the sweep."""
        pause = min(self.settings.worker.beat_s, self.settings.worker.sweep_s)
        while not self._over.wait(pause * random.uniform(0.8, 1.0)):  # noqa: S311  # spreads processes, guards nothing
            for work in (self.beat, self._renew, self._keep_broker, self._sweep_in_turn):
                try:
                    work()
                except Flow8Error as error:
                    log.warning("upkeep: %s", error.message)
                except Exception:
                    log.exception("upkeep failed; it goes on")

    def _keep_broker(self) -> None:
        """The bundled broker ends with the worker that started it; one of those that are left starts it again."""
        broker.find_or_start(self.settings)

    def _renew(self) -> None:
        self.engine.renew(self.platform.store, lease_s=self.settings.worker.lease_s)

    def _sweep_in_turn(self) -> None:
        """Sweep where no process of the deployment has done so within the pause."""
        store = self.platform.store
        now = store.now()
        turn = store.update(
            CURSORS,
            {"_id": SWEEP_CURSOR, "next_at": {"$lte": now}},
            {"$set": {"next_at": now + timedelta(seconds=self.settings.worker.sweep_s)}},
        )
        if turn is None and store.get(CURSORS, SWEEP_CURSOR) is None:
            turn = store.update(CURSORS, {"_id": SWEEP_CURSOR}, {"$setOnInsert": {"next_at": now}}, upsert=True)
        if turn is not None:
            self.sweep()
