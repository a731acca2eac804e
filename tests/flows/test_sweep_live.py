"""Many workers at once, all of them sweeping: harmless when there is work, and quiet when there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flow8_lab.client import Lab
from flow8_runtime.owners import COLLECTION
from tests.flows.deployment import Deployment, deploy
from tests.processes import until

STEPS = [
    {
        "name": name,
        "module_ref": "slack-message",
        "order": order,
        "input_mapping": {"channel": "#notifications", "message": f"{name} {{{{ $prev.args.n }}}}"},
    }
    for order, name in enumerate(("first", "second", "third"))
]
PLAYS = 30
IDLE_SHARE = 0.04  # of one core, for a worker with two processes; 0.006 is usual
WATCHED_S = 2.5
STOPPED_WITHIN_S = 10.0  # 2 are usual: Celery's pool looks for its processes now and then


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.proof)])
def crowd(request: pytest.FixtureRequest, tmp_path: Path, lab: Lab, redis_url: str) -> Iterator[Deployment]:
    """Two workers with two processes each, which sweep twenty times a second."""
    store = f"sqlite:///{tmp_path / 'flow8.db'}" if request.param == "sqlite" else request.getfixturevalue("mongo_uri")
    deployment = deploy(tmp_path, lab, store=store, broker=redis_url, worker={"sweep_s": 0.05, "beat_s": 0.1})
    deployment.connect("slack")
    deployment.start_workers(2, processes_=2)
    yield deployment
    deployment.close()


def test_workers_that_all_sweep_at_once_do_every_step_once(crowd: Deployment) -> None:
    plays = [crowd.submit({"name": "three", "steps": STEPS}, {"n": n}) for n in range(PLAYS)]

    ended = [crowd.wait(play_id) for play_id in plays]

    assert {play["status"] for play in ended} == {"DONE"}
    assert {step["attempts"] for play in ended for step in play["steps"]} == {1}
    texts = [item["message"]["text"] for item in crowd.lab.effects("slack")["items"]]
    assert sorted(texts) == sorted(f"{step['name']} {n}" for step in STEPS for n in range(PLAYS))


def test_an_idle_worker_leaves_the_machine_alone_and_stops_when_it_is_told_to(
    tmp_path: Path, lab: Lab, redis_url: str
) -> None:
    deployment = deploy(tmp_path, lab, store=f"sqlite:///{tmp_path / 'flow8.db'}", broker=redis_url)
    try:
        worker = deployment.start_worker(processes_=2)
        until(lambda: deployment.platform.store.count(COLLECTION, {}) == 2, "both processes at work")

        before = worker.cpu_s()
        time.sleep(WATCHED_S)
        used = worker.cpu_s() - before
        asked_at = time.monotonic()
        exit_code = worker.stop()

        assert used < IDLE_SHARE * WATCHED_S
        assert exit_code == 0
        assert time.monotonic() - asked_at < STOPPED_WITHIN_S
    finally:
        deployment.close()
