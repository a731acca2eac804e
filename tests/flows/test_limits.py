"""A module that does not end, grows, or seizes the interpreter costs its thread, then its process, and no neighbour."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flow8_lab.client import Lab
from tests.flows.deployment import Deployment, deploy
from tests.processes import alive, until

ROOT = Path(__file__).parents[2]
WORKER = {"sweep_s": 0.3, "beat_s": 0.5, "hangs_after_s": 3, "memory_mb": 300}


@pytest.fixture
def deployment(tmp_path: Path, lab: Lab, redis_url: str) -> Iterator[Deployment]:
    deployment = deploy(
        tmp_path, lab, store=f"sqlite:///{tmp_path / 'flow8.db'}", broker=redis_url, worker=WORKER,
        modules={"packages": ["tests.modules.stuck"]}, environ={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    yield deployment
    deployment.close()


def flow(module_ref: str, **more: Any) -> dict[str, Any]:
    return {"name": module_ref, "steps": [{"name": "one", "module_ref": module_ref, **more}]}


def slow_get(deployment: Deployment) -> dict[str, Any]:
    return flow("http-request", input_mapping={"url": f"{deployment.lab.services['web']['base_url']}/echo"})


@pytest.mark.parametrize("module_ref", ["stuck-block", pytest.param("stuck-spin", marks=pytest.mark.proof)])
def test_what_does_not_end_is_reported_and_its_process_replaced_when_its_neighbours_have_finished(
    deployment: Deployment, module_ref: str
) -> None:
    deployment.lab.fault("web", "delay", answer_delay_ms=9_000)
    worker = deployment.start_worker()
    (child,) = worker.children()
    stuck = deployment.submit(flow(module_ref, timeout=1))
    neighbour = deployment.submit(slow_get(deployment))

    reported = deployment.wait(stuck)["steps"][0]
    still_there = alive(child)
    finished = deployment.wait(neighbour)["steps"][0]

    assert (reported["status"], reported["error"]["code"]) == ("failed", "execution_timeout")
    assert still_there
    assert (finished["status"], finished["attempts"]) == ("done", 1)
    until(lambda: not alive(child), "the end of the process that hangs")
    following = deployment.wait(deployment.submit(slow_get(deployment)))
    assert following["status"] == "DONE"
    assert worker.process.poll() is None


@pytest.mark.proof
def test_a_process_that_has_grown_too_large_is_replaced_and_loses_nothing(deployment: Deployment) -> None:
    worker = deployment.start_worker()
    (child,) = worker.children()

    grown = deployment.wait(deployment.submit(flow("stuck-grow", input_mapping={"megabytes": 400})))
    until(lambda: not alive(child), "the end of the large process")
    following = deployment.wait(deployment.submit(slow_get(deployment)))

    assert (grown["status"], following["status"]) == ("DONE", "DONE")


@pytest.mark.proof
def test_a_process_whose_interpreter_is_seized_is_killed_and_its_steps_are_taken_back(deployment: Deployment) -> None:
    worker = deployment.start_worker()
    (child,) = worker.children()

    seized = deployment.submit(flow("stuck-seize", timeout=600))
    until(lambda: not alive(child), "the end of the process that does not move")

    ended = deployment.wait(seized, timeout=60)["steps"][0]
    assert (ended["status"], ended["attempts"]) == ("dead_letter", 3)
    assert deployment.wait(deployment.submit(slow_get(deployment)))["status"] == "DONE"
