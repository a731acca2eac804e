"""Named queues, as real workers serve them: each its own steps, at its own wake-up, and nobody else's.

No sweep helps here: it comes once a minute, and what a wake-up misses is not done in time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from bson import ObjectId

from flow8_lab.client import Lab
from tests.flows.deployment import Deployment, Worker, deploy
from tests.processes import until

REPORTS, EXPORT = "reports", "export"
WITHIN_S = 15.0  # on a busy machine; the sweep would take 60
LONGER_MS = 500  # than a drainer lingers


@dataclass
class Served:
    """A deployment with a worker for the usual queue, and one for reports; each has one process with one thread."""

    deployment: Deployment
    usual: Worker
    reporting: Worker

    def step(self, name: str, queue: str | None = None, order: int = 1) -> dict[str, Any]:
        """A step for this queue."""
        url = f"{self.deployment.lab.services['web']['base_url']}/echo"
        queued = {} if queue is None else {"queue": queue}
        return {"name": name, "module_ref": "http-request", "order": order, "input_mapping": {"url": url}, **queued}

    def submit(self, *steps: dict[str, Any]) -> ObjectId:
        """A play of these steps."""
        return self.deployment.submit({"name": "test", "steps": list(steps)})

    def takers(self, play_id: ObjectId) -> dict[str, int]:
        """The pool process that ran each step, by step."""
        rows = self.deployment.platform.ledger.attempts(play_id, company_id=self.deployment.company_id)
        return {row["step"]: int(row["owner"].split(":")[1]) for row in rows}

    def done_in_time(self, plays: Sequence[ObjectId]) -> None:
        """All of them are done without a sweep."""
        began = time.monotonic()
        assert {self.deployment.wait(play_id)["status"] for play_id in plays} == {"DONE"}
        assert time.monotonic() - began < WITHIN_S


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, lab_process: Lab, standing_redis: str) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("queues")
    store = f"sqlite:///{folder / 'flow8.db'}"
    deployment = deploy(folder, lab_process, store=store, broker=standing_redis, worker={"sweep_s": 60})
    usual = deployment.start_worker(threads=1)
    reporting = deployment.start_worker(threads=1, queues=[REPORTS])
    until(lambda: deployment.platform.store.count("workers", {}) == 2, "two processes at work")
    yield Served(deployment, usual, reporting)
    deployment.close()


@pytest.fixture
def served(both: Served, lab: Lab) -> Served:
    both.deployment.move_in()
    return both


def test_a_worker_takes_the_steps_of_its_queue_alone_and_each_is_woken_by_its_own_wake_up(served: Served) -> None:
    plays = {served.submit(served.step("get", queue)): queue for _ in range(20) for queue in (None, REPORTS)}

    served.done_in_time([*plays])

    for queue, worker in ((None, served.usual), (REPORTS, served.reporting)):
        ran = {served.takers(play_id)["get"] for play_id, wanted in plays.items() if wanted == queue}
        assert ran == set(worker.children())


def test_a_play_goes_from_worker_to_worker_as_its_steps_name_their_queues(served: Served, lab: Lab) -> None:
    lab.fault("web", "delay", times=None, answer_delay_ms=LONGER_MS)
    queues = (None, REPORTS, None, REPORTS)

    play_id = served.submit(*(served.step(f"s{n}", queue, n) for n, queue in enumerate(queues)))

    served.done_in_time([play_id])
    (one,), (other,) = served.usual.children(), served.reporting.children()
    assert served.takers(play_id) == {"s0": one, "s1": other, "s2": one, "s3": other}


def test_a_step_beside_one_for_another_queue_is_taken_though_that_one_had_to_wait(served: Served, lab: Lab) -> None:
    lab.fault("web", "delay", answer_delay_ms=LONGER_MS)
    slow = served.submit(served.step("get"))
    until(lambda: lab.requests("web")["count"] == 1, "a worker that is busy")

    play_id = served.submit(served.step("here"), served.step("there", REPORTS))

    served.done_in_time([slow, play_id])
    (one,), (other,) = served.usual.children(), served.reporting.children()
    assert served.takers(play_id) == {"here": one, "there": other}


def test_a_step_of_a_queue_that_nobody_works_waits_and_is_taken_when_such_a_worker_starts(served: Served) -> None:
    deployment = served.deployment
    waiting = served.submit(served.step("get", EXPORT))
    served.done_in_time([served.submit(served.step("get")), served.submit(served.step("get", REPORTS))])
    (state,) = deployment.door.wait(waiting, company_id=deployment.company_id, timeout=0)["steps"]
    assert (state["status"], state["attempts"]) == ("queued", 0)

    exporting = deployment.start_worker(queues=[REPORTS, EXPORT])
    served.done_in_time([waiting])

    assert served.takers(waiting)["get"] in exporting.children()
    exporting.kill()
