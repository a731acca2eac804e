"""A worker that is told to stop finishes what it has begun, and begins nothing new."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from bson import ObjectId

from flow8_lab.client import Lab
from flow8_runtime.documents import PLAYS
from flow8_runtime.owners import COLLECTION
from tests.flows.deployment import Deployment, deploy
from tests.processes import until

SLACK = {
    "name": "notify",
    "module_ref": "slack-message",
    "input_mapping": {"channel": "#notifications", "message": "Invoice INV-001 is processed"},
}
FLOW = {"name": "test", "steps": [SLACK]}


def statuses(deployment: Deployment, plays: list[ObjectId]) -> list[str]:
    found = [deployment.platform.ledger.get(play_id, company_id=deployment.company_id) for play_id in plays]
    return [play["steps"]["notify"]["status"] for play in found]


def calls(deployment: Deployment) -> int:
    count: int = deployment.lab.effects("slack")["count"]
    return count


@pytest.mark.parametrize("deployment", ["embedded", pytest.param("shared", marks=pytest.mark.proof)], indirect=True)
def test_a_call_that_lasts_is_finished_and_what_has_not_begun_is_left_to_the_next_worker(
    deployment: Deployment,
) -> None:
    deployment.connect("slack")
    deployment.lab.fault("slack", "delay", "chat.postMessage", answer_delay_ms=1500)
    worker = deployment.start_worker(threads=1)
    plays = [deployment.submit(FLOW) for _ in range(5)]
    until(lambda: calls(deployment) == 1, "a call in flight")

    asked_at = time.monotonic()
    exit_code = worker.stop()
    took_s = time.monotonic() - asked_at

    assert exit_code == 0
    assert 1.0 < took_s < 10.0
    assert sorted(statuses(deployment, plays)) == ["done"] + ["queued"] * 4
    assert deployment.platform.store.count(PLAYS, {"until": {"$ne": None}}) == 0  # nothing claimed, nothing calling
    assert deployment.platform.store.count(COLLECTION, {}) == 0
    assert calls(deployment) == 1

    deployment.start_worker()
    ended = [deployment.wait(play_id) for play_id in plays]

    assert [(play["status"], play["steps"][0]["attempts"]) for play in ended] == [("DONE", 1)] * 5
    assert calls(deployment) == 5


@pytest.mark.proof
def test_a_lease_is_renewed_while_the_vendor_takes_its_time(tmp_path: Path, lab: Lab, redis_url: str) -> None:
    """Both while a step is only claimed (its token is refreshed) and while it is calling."""
    worker = {"lease_s": 1, "sweep_s": 0.2, "beat_s": 2}
    deployment = deploy(tmp_path, lab, store=f"sqlite:///{tmp_path / 'flow8.db'}", broker=redis_url, worker=worker)
    try:
        deployment.make_due(deployment.connect("slack")["slack"])
        lab.fault("slack", "delay", "token", answer_delay_ms=1700)
        lab.fault("slack", "delay", "chat.postMessage", answer_delay_ms=1700)
        deployment.start_workers(2)

        play = deployment.wait(deployment.submit(FLOW))

        assert (play["status"], play["steps"][0]["attempts"]) == ("DONE", 1)
        assert play["seconds"] > 3.4
        assert (calls(deployment), lab.requests("slack", "chat.postMessage")["count"]) == (1, 1)
        assert lab.requests("slack")["operations"]["token.refresh"] == 1
    finally:
        deployment.close()
