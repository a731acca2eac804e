"""`flow8 worker`: says what keeps it from starting, and looks after the bundled broker that others have left."""

from __future__ import annotations

import json

import pytest

from tests.cli.kit import Home
from tests.flows.deployment import Deployment


def test_bad_settings_are_told_before_anything_starts(home: Home) -> None:
    home.settings(worker={"processes": 0, "budget": 1})

    done = home.run("worker")

    assert (done.code, done.stdout) == (2, "")
    assert "worker.processes" in done.stderr
    assert "worker.budget" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_keys_than_the_stores_keep_it_from_starting(home: Home) -> None:
    home.flow8("keys", "check")
    home.environ |= home.flow8("keys", "generate", "--json").document

    done = home.run("worker", "--processes", "1")

    assert done.code != 0
    assert "ENC_KEY_SECRET" in done.stderr


@pytest.mark.proof
def test_when_the_worker_that_started_the_broker_is_killed_one_that_is_left_brings_it_back(
    deployment: Deployment,
) -> None:
    url = deployment.lab.services["web"]["base_url"]
    step = {"name": "a", "module_ref": "http-request", "input_mapping": {"url": f"{url}/echo"}}
    first = deployment.start_worker()
    deployment.start_worker()
    address = deployment.folder / "home" / "broker.json"
    before = json.loads(address.read_text())

    first.kill()
    play = deployment.wait(deployment.submit({"name": "f", "steps": [step]}))

    assert play["status"] == "DONE"
    assert json.loads(address.read_text()) == before
