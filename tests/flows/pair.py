"""Two workers on one deployment, for kills: B lives on and is held still while A runs into a crash point."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from bson import ObjectId

from credentials import refresh, refresh_replies
from flow8_runtime import attempt, engine
from tests.flows.deployment import Deployment, Worker
from tests.processes import alive, until

INVOICE: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "fixtures" / "flows" / "invoice.yaml").read_text()
)
STEPS = FETCH, UPLOAD, SLACK, CALENDAR = tuple(step["name"] for step in INVOICE["steps"])  # as A, alone, runs them

STEP_POINTS = (engine.CLAIMED, attempt.BEFORE_CALL, attempt.AFTER_CALL, engine.BEFORE_LANDING, engine.LANDED)
REFRESH_POINTS = (
    refresh.CLAIMED,
    refresh.SENT,
    refresh.RECEIVED,
    refresh_replies.SPOOLED,
    refresh_replies.KEPT,
    refresh_replies.STORED,
)

# `calling`, with no outcome in the ledger: a step that waits for nothing is marked together with its claim
_MARKED = {engine.CLAIMED, attempt.BEFORE_CALL, attempt.AFTER_CALL, engine.BEFORE_LANDING}
_UNHEARD = {attempt.AFTER_CALL, engine.BEFORE_LANDING}  # and the vendor has done it


@dataclass(frozen=True)
class Row:
    """Where A is killed: at this point, in this step. At a point of a refresh, the step's token is due."""

    point: str
    step: str

    @property
    def visit(self) -> int:
        """Which visit of the point is this step's."""
        return 1 if self.refreshes else STEPS.index(self.step) + 1

    @property
    def refreshes(self) -> bool:
        return self.point in REFRESH_POINTS

    @property
    def doubtful(self) -> bool:
        """A ONCE step that was `calling`: nobody but the vendor knows. What is landed lets the next one be marked."""
        return (self.step == SLACK and self.point in _MARKED) or (self.step == UPLOAD and self.point == engine.LANDED)

    @property
    def happened(self) -> bool:
        """Whether a doubtful step took effect."""
        return self.point in _UNHEARD

    @property
    def called_again(self) -> bool:
        """Whether the call is made a second time, which does this module no harm."""
        return self.point in _UNHEARD and not self.doubtful

    @property
    def attempts(self) -> int:
        """How often the step was claimed."""
        return 1 if self.doubtful or self.point == engine.LANDED else 2

    def __str__(self) -> str:
        return f"{self.point}-{self.step}"


# What the four modules promise about repetition decides what each row must come to.
ALL = [Row(point, step) for point in STEP_POINTS for step in STEPS] + [
    Row(point, step) for point in REFRESH_POINTS for step in (SLACK, CALENDAR)
]


@dataclass
class Pair:
    """B lives through all rows; each row has a worker A and a company of its own."""

    deployment: Deployment
    b: Worker

    def submit_for(self, row: Row) -> ObjectId:
        """A play of the demo flow by a new company; of a refresh's row one token is due."""
        services = self.deployment.lab.services
        self.deployment.move_in()
        links = self.deployment.connect("slack", "microsoft")
        if row.refreshes:
            self.deployment.make_due(links[{SLACK: "slack", CALENDAR: "microsoft"}[row.step]])
        self.deployment.add_s3()
        args = {"billing_url": services["web"]["base_url"], "invoice": "001", "bucket": services["s3"]["bucket"]}
        return self.deployment.submit(INVOICE, args)

    def kill_a_at(self, row: Row) -> ObjectId:
        """Start A, let it run the flow up to the point, and kill its parent and children there; the play's id."""
        with self._b_held():
            a = self.deployment.start_worker(crash_at=f"{row.point}:{row.visit}:stop", threads=1)
            play_id = self.submit_for(row)
            until(a.stopped, f"worker A at {row} ({a.log})")
            a.kill()
        return play_id

    @contextmanager
    def a_loses_its_child_at(self, row: Row) -> Iterator[ObjectId]:
        """Start A, whose one pool process kills itself at the point; its parent must be there to the end."""
        with self._b_held():
            a = self.deployment.start_worker(crash_at=f"{row.point}:{row.visit}:kill", threads=1)
            (child,) = a.children()
            play_id = self.submit_for(row)
            until(lambda: not alive(child), f"the end of a process at {row} ({a.log})")
        yield play_id
        assert a.process.poll() is None, a.log.read_text()[-3000:]
        a.kill()

    @contextmanager
    def _b_held(self) -> Iterator[None]:
        """B stands still, and not with SQLite's write lock in its hand, which would hold up everybody."""
        self.b.signal_all(signal.SIGSTOP)
        while self._gate_is_held():
            self.b.signal_all(signal.SIGCONT)
            self.b.signal_all(signal.SIGSTOP)
        try:
            yield
        finally:
            self.b.signal_all(signal.SIGCONT)

    def _gate_is_held(self) -> bool:
        gate = self.deployment.folder / "flow8.db.gate"
        if not gate.exists():
            return False
        fd = os.open(gate, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False
