"""One company's ten thousand steps on a slow vendor, or on one that says 429, as other companies feel them: hardly.

The vendor says when a call arrived, and how many it has in hand; workers run as by default.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from flow8_lab.client import Lab
from tests.environment import rounds
from tests.flows.deployment import Deployment, Worker, deploy
from tests.processes import until

log = logging.getLogger("tests")  # shown by --log-cli-level=INFO

MANY = rounds(10_000, short=2_000)  # steps that one company hands in
NEWCOMERS = rounds(20, short=4)
STARTS_WITHIN_S = 1.0
PROCESSES, THREADS = 2, 64
ALONE = THREADS - THREADS // 8  # steps that one process has in hand of a company that is alone: an eighth is left free
SLOW, NEVER = "/echo?slow", "/echo?never"
WATCHED_S = 2.5
FULL_WITHIN_S = 45.0  # on a busy machine, where a message may take long; less than a second on an idle one
IDLE_SHARE, FULL_SHARE = 0.1, 0.25  # of one core, for two processes; 0.01 and 0.02 are usual on SQLite


def deployed(folder: Path, lab: Lab, store: str, broker: str, **worker: Any) -> Iterator[Deployment]:
    """A worker with two processes, and a vendor two of whose answers take their time."""
    deployment = deploy(folder, lab, store=store, broker=broker, worker=worker)
    deployment.start_worker(processes_=PROCESSES, threads=THREADS)
    lab.fault("web", "delay", match=SLOW, times=None, answer_delay_ms=2_000)
    lab.fault("web", "delay", match=NEVER, times=None, answer_delay_ms=600_000)
    yield deployment
    deployment.close()


@pytest.fixture
def unswept(tmp_path: Path, lab: Lab, redis_url: str) -> Iterator[Deployment]:
    """No sweep wakes anybody in time."""
    yield from deployed(tmp_path, lab, f"sqlite:///{tmp_path / 'flow8.db'}", redis_url, sweep_s=60)


@pytest.fixture(params=["sqlite", "mongo"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path, lab: Lab, redis_url: str) -> Iterator[Deployment]:
    """On each store, as by default."""
    store = f"sqlite:///{tmp_path / 'flow8.db'}" if request.param == "sqlite" else request.getfixturevalue("mongo_uri")
    yield from deployed(tmp_path, lab, store, redis_url)


def get(deployment: Deployment, path: str) -> dict[str, Any]:
    """A flow of one call."""
    url = f"{deployment.lab.services['web']['base_url']}{path}"
    return {"name": "test", "steps": [{"name": "get", "module_ref": "http-request", "input_mapping": {"url": url}}]}


def submit_many(deployment: Deployment, flow: dict[str, Any], count: int) -> None:
    company, user = deployment.company_id, deployment.user_id
    deployment.door.submit_many(flow, [{}] * count, company_id=company, user_id=user)


def arrived(lab: Lab, service: str, operation: str) -> int:
    """How many calls of an operation have arrived at a vendor."""
    return int(lab.control(f"/requests?service={service}&operation={operation}&items=0")["count"])


def used(worker: Worker) -> float:
    """The share of a core that a worker takes; what it does not do has no moment that one could wait for."""
    before = worker.cpu_s()
    time.sleep(WATCHED_S)
    return (worker.cpu_s() - before) / WATCHED_S


def test_a_process_that_holds_all_that_it_may_wakes_another_for_the_rest(unswept: Deployment, lab: Lab) -> None:
    submit_many(unswept, get(unswept, NEVER), 200)

    until(
        lambda: arrived(lab, "web", "echo") == PROCESSES * ALONE,
        "both processes with all that they may hold",
        timeout=FULL_WITHIN_S,
    )


@pytest.mark.proof
def test_a_newcomers_step_starts_within_a_second_though_ten_thousand_of_another_wait_for_a_slow_vendor(
    deployment: Deployment, lab: Lab
) -> None:
    submit_many(deployment, get(deployment, SLOW), MANY)
    until(lambda: arrived(lab, "web", "echo") >= PROCESSES * ALONE, "all slots in use that one company may hold")

    took: list[float] = []
    for number in range(NEWCOMERS):
        deployment.move_in()
        handed_in = time.time()
        deployment.submit(get(deployment, f"/invoices/{number}"))
        until(lambda number=number: arrived(lab, "web", "invoices.get") > number, f"the step of newcomer {number}")
        took.append(lab.requests("web", "invoices.get")["items"][-1]["at"] - handed_in)

    log.info("%d newcomers behind %d: %.3f s, at most %.3f s", len(took), MANY, median(took), max(took))
    assert max(took) < STARTS_WITHIN_S
    assert arrived(lab, "web", "echo") < MANY  # others of them are still waiting


@pytest.mark.proof
def test_a_credential_that_was_told_429_takes_no_slot_at_all(deployment: Deployment, lab: Lab) -> None:
    lab.fault("slack", "rate_limited", "chat.postMessage", times=None, retry_after=600)
    link = deployment.connect("slack")["slack"]
    mapping = {"link_id": link, "channel": "#notifications", "message": "x"}
    post = {"name": "post", "module_ref": "slack-message", "input_mapping": mapping}
    store, (worker,) = deployment.platform.store, deployment.workers

    submit_many(deployment, {"name": "test", "steps": [post]}, MANY)
    until(lambda: arrived(lab, "slack", "chat.postMessage") > 0, "the vendor's refusal")
    until(lambda: store.count("plays", {"until": {"$gt": store.now()}}) == 0, "nothing in hand")
    asked, waiting = arrived(lab, "slack", "chat.postMessage"), used(worker)

    deployment.move_in()
    submit_many(deployment, get(deployment, NEVER), 3 * PROCESSES * ALONE)
    until(lambda: arrived(lab, "web", "echo") == PROCESSES * ALONE, "another company with all that one alone may hold")
    full = used(worker)

    log.info("%d of %d refused; %.3f of a core while they wait, %.3f when all is in use", asked, MANY, waiting, full)
    assert asked <= PROCESSES * ALONE
    assert waiting < IDLE_SHARE
    assert full < FULL_SHARE
    counts = arrived(lab, "slack", "chat.postMessage"), arrived(lab, "web", "echo")
    assert counts == (asked, PROCESSES * ALONE)
