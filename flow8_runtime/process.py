"""One worker process: platform, engine, heartbeat and sweep, from the fork to the end."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from billiard.process import current_process
from bson import ObjectId
from celery import Celery

from credentials.keyring import KeyMismatch
from flow8_core.errors import Flow8Error, StoreUnavailable
from flow8_core.logging import get_logger
from flow8_modules.workspace import Workspace
from flow8_runtime.answers import Answers
from flow8_runtime.attempt import Parts
from flow8_runtime.broker import Broker, find_or_start
from flow8_runtime.candidates import Portion
from flow8_runtime.caretaker import Caretaker
from flow8_runtime.engine import MISSED_BEATS, Engine
from flow8_runtime.foundation import Foundation
from flow8_runtime.listener import Listener
from flow8_runtime.outgoing import send_out
from flow8_runtime.owners import Keys, Owner, Owners
from flow8_runtime.platform import Platform
from flow8_runtime.queues import DEFAULT_QUEUE
from flow8_runtime.runner import Runner
from flow8_runtime.sweep import Sweep, SweepReport
from flow8_runtime.wakeup import Wakeup

log = logging.getLogger("flow8.worker")

SWEEP_CURSOR = "sweep"
CURSORS = "cursors"
PAUSES = 0.8, 1.0  # of what is asked for, at random: processes do not act in step
TURN = 0.75  # of the pause between sweeps: whoever had the last one is not too early for the next


class WorkerProcess:
    """What a pool process holds. Made after the fork; `close` after the last task. `alive` is told at each heartbeat.

    Making one needs no store: where that is away, each wake-up and each heartbeat asks again.
    """

    def __init__(
        self,
        foundation: Foundation,
        broker: Broker,
        app: Celery,
        *,
        queues: Collection[str] = (DEFAULT_QUEUE,),
        stopping: Callable[[], bool] = lambda: False,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self.platform = Platform(foundation)
        self.settings = foundation.settings
        self._queues = tuple(queues)
        self._stopping = stopping
        self._alive = alive
        self._flags = broker.flags()
        self.wakeup = Wakeup(self._flags)
        self.answers = Answers(lambda: self.platform.ledger, app)
        self.links = Caretaker(self.platform, app)
        self.owner = Owner(self.settings.home)
        self._processes: int = app.conf.worker_concurrency or 1
        self._engine: Engine | None = None
        self._making = threading.Lock()
        self._made = threading.Event()
        self._swept = False
        self._over = threading.Event()
        worker = self.settings.worker
        # threads of their own, for a long sweep must not make this process count as dead, nor a slow receiver delay it
        self._upkeep = (
            self._every(min(worker.beat_s, worker.lease_s / 3), self.beat),
            self._every(worker.sweep_s, self._keep_broker, self.links.adopt_spooled, self._sweep_in_turn),
            self._every(worker.sweep_s, self._send_out),
        )

    @property
    def engine(self) -> Engine:
        """Made once the store answers and was sealed with our keys, after the first heartbeat: an owner without one
        counts as dead. Raises `StoreUnavailable`, `KeyMismatch`."""
        with self._making:
            if self._engine is None:
                _ = self.platform.keyring
                self._beat()
                self._engine = self._make_engine()
                self._made.set()
            return self._engine

    def drain(self, queue: str = DEFAULT_QUEUE) -> None:
        """Drain the ledger for a short budget, or wake those who serve the queue; a worker that is stopping, whose
        store is away, or whose keys are not the store's, leaves what is due to the others."""
        if self._stopping():
            return
        try:
            if queue in self._queues:
                self.engine.drain(queue)
            else:
                self.wakeup.ring(queue)
        except (StoreUnavailable, KeyMismatch) as error:
            log.warning("drain: %s", error.message)

    def drain_all(self) -> None:
        """`drain` for each queue that has something due."""
        ledger = self.platform.ledger
        for queue in sorted(ledger.candidates.due_queues(now=ledger.now())):
            self.drain(queue)

    def beat(self) -> None:
        """Say that this process lives, renew the leases of its calls, and land what is waiting for the store."""
        self._alive()
        engine = self.engine
        self._beat()
        engine.end_hung()
        if resident_mb() > self.settings.worker.memory_mb:
            engine.wear_out()
        if engine.worn_out:
            self._give_way()
        engine.renew(self.platform.store, lease_s=self.settings.worker.lease_s)
        engine.settle()
        engine.land_kept()

    def sweep(self) -> SweepReport:
        """One sweep: take back what the dead left, release what waited, wake whoever has something due."""
        platform = self.platform
        owners = Owners(platform.store, self.settings.home)
        report = Sweep(platform.ledger, platform.store, dead=owners.dead, link_settled=self._link_settled).run()
        owners.bury()
        self.answers.tell_all(report.finished)
        for queue in report.due:
            self.wakeup.ring_anyway(queue)
        self.links.send_due()
        return report

    def close(self) -> None:
        """Stop the upkeep and leave; nothing is in flight here any more."""
        self._over.set()
        self._made.set()  # whoever waits for it is to end
        if self._engine is not None:
            self._engine.close()
        for thread in self._upkeep:
            thread.join(timeout=5)
        self.links.close()
        try:
            self.engine.land_kept()
            self.owner.close(self.platform.store)
        except (StoreUnavailable, KeyMismatch) as error:
            log.warning("leaving: %s", error.message)
        self._flags.close()
        self.platform.close()

    def _beat(self) -> None:
        ring = self.platform.keyring
        keys = Keys(primary=ring.primary.kid, reads=tuple(ring.keys), spooled=self.links.spooled())
        self.owner.beat(self.platform.store, alive_s=self.settings.worker.beat_s * MISSED_BEATS, keys=keys)

    def _give_way(self) -> None:
        """End this process, from its heartbeat's thread: Celery forks another. What a message had it do comes back, as
        after any death."""
        log.warning("this process is replaced: a call hangs in it, or it has grown too large")
        with suppress(StoreUnavailable):
            self.owner.close(self.platform.store)
        os._exit(1)

    def _make_engine(self) -> Engine:
        self.platform.ledger.candidates.portion = _portion(self._processes)
        return Engine(
            ledger=self.platform.ledger,
            runner=Runner(parts_of(self.platform)),
            wakeup=self.wakeup,
            owner=self.owner,
            clock=self.platform.clock,
            budget_s=self.settings.worker.budget_s,
            threads=self.settings.worker.threads,
            queues=self._queues,
            listener=Listener(self._flags) if self.settings.worker.linger_s else None,
            linger_s=self.settings.worker.linger_s,
            stopping=self._stopping,
            on_finished=lambda play_id: self.answers.tell_all([play_id]),
        )

    def _link_settled(self, company_id: ObjectId, link_id: str) -> bool:
        """Whether what waits for a link should run: it works, or it is revoked or gone, and then they must fail."""
        link = self.platform.links(company_id).find(link_id)
        return link is None or link.status in ("active", "revoked")

    def _every(self, pause_s: float, *works: Callable[[], None]) -> threading.Thread:
        """A thread that does this again and again, whatever happens to store or broker."""

        def keep_up() -> None:
            while not self._over.is_set():
                for work in works:
                    _attempt(work)
                self._over.wait(pause_s * random.SystemRandom().uniform(*PAUSES))

        thread = threading.Thread(target=keep_up, name=f"flow8-{works[-1].__name__.strip('_')}", daemon=True)
        thread.start()
        return thread

    def _keep_broker(self) -> None:
        """The bundled broker ends with the worker that started it; one of those that are left starts it again."""
        find_or_start(self.settings)

    def _send_out(self) -> None:
        """Tell whom it concerns, and bring revocations to their vendors."""
        if self._engine is not None:  # else the store has not answered yet
            send_out(self.platform)

    def _sweep_in_turn(self) -> None:
        """Sweep where no process of the deployment has done so within the pause; at its start in any case, for this
        process may be there in place of one that was killed."""
        self._made.wait(self.settings.worker.sweep_s)
        if self._engine is None:
            return  # the store has not answered yet
        if not self._swept:
            self._swept = True
            self.sweep()
            return
        store = self.platform.store
        now = store.now()
        turn = store.update(
            CURSORS,
            {"_id": SWEEP_CURSOR, "next_at": {"$lte": now}},
            {"$set": {"next_at": now + timedelta(seconds=self.settings.worker.sweep_s * TURN)}},
        )
        if turn is None and store.get(CURSORS, SWEEP_CURSOR) is None:
            turn = store.update(CURSORS, {"_id": SWEEP_CURSOR}, {"$setOnInsert": {"next_at": now}}, upsert=True)
        if turn is not None:
            self.sweep()


def parts_of(platform: Platform) -> Parts:
    """What this process's steps run with."""
    root = platform.settings.workspace_root
    return Parts(
        ledger=platform.ledger,
        catalogue=platform.catalogue,
        resolver=lambda: platform.resolver,
        egress=platform.egress,
        clients=platform.clients,
        workspace=lambda play_id: Workspace(root / play_id),
        clock=platform.clock,
        rng=random.SystemRandom(),
        log=get_logger("flow8.step"),
    )


def resident_mb() -> float:
    """What of this process lies in memory, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _portion(processes: int) -> Portion:
    """That of this process among those of its worker; billiard numbers them, and gives a dead one's number again."""
    index: int = getattr(current_process(), "index", 0)
    return Portion(index % processes, processes)


def _attempt(work: Callable[[], None]) -> None:
    try:
        work()
    except Flow8Error as error:
        log.warning("upkeep: %s", error.message)
    except Exception:
        log.exception("upkeep failed; it goes on")
