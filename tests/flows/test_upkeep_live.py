"""Workers keep links alive that no step touches, and steps wait while an application is refused."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from bson import ObjectId

from credentials import applications, refresh_replies
from flow8_lab.client import Lab
from tests.flows.deployment import BUSY, Deployment, deploy
from tests.processes import until

STEP = {"name": "post", "module_ref": "slack-message", "input_mapping": {"channel": "#notifications", "message": "x"}}
KEY = "a-key-of-the-message-bus"


@pytest.fixture
def here(tmp_path: Path, lab: Lab, redis_url: str) -> Iterator[Deployment]:
    """A deployment with a spool, whose messages must be signed."""
    deployment = deploy(
        tmp_path, lab, store=f"sqlite:///{tmp_path / 'flow8.db'}", broker=redis_url, worker=BUSY,
        refresh={"spool": str(tmp_path / "spool")}, environ={"FLOW8_MESSAGE_KEY": KEY},
    )  # fmt: skip
    yield deployment
    deployment.close()


def generation(here: Deployment, link_id: str) -> int:
    return here.platform.links(here.company_id).get(link_id).generation


def status(here: Deployment, link_id: str) -> str:
    return here.platform.links(here.company_id).get(link_id).status


def test_links_that_no_step_touches_are_refreshed_when_they_are_due(here: Deployment) -> None:
    due = here.connect("slack", "microsoft", slack=300, microsoft=300)
    here.start_worker(processes_=2)

    until(lambda: all(generation(here, link_id) == 2 for link_id in due.values()), "both refreshes")

    assert {service: here.lab.requests(service)["operations"] for service in due} == {
        "slack": {"token.refresh": 1},
        "microsoft": {"token.refresh": 1},
    }
    assert not list((here.folder / "spool").iterdir())


def test_steps_wait_while_the_application_is_refused_and_go_on_when_it_is_mended(here: Deployment) -> None:
    link_id = here.connect("slack", slack=30)["slack"]
    here.lab.configure("slack", app="secret_expired")
    worker = here.start_worker()
    play_id = here.submit({"name": "one", "steps": [STEP]})
    until(lambda: status(here, link_id) == "app_blocked", "the pause")
    until(lambda: step(here, play_id)["status"] == "parked", "the step to wait")
    assert worker.log.read_text().count("refuses our application") == 1

    here.lab.configure("slack", app="good")
    store = here.platform.store
    store.update(applications.COLLECTION, {"service": "slack"}, {"$set": {"trial_at": store.now() - timedelta(1)}})
    play = here.wait(play_id)

    assert play["status"] == "DONE"
    assert status(here, link_id) == "active"
    assert here.lab.effects("slack")["count"] == 1


def step(here: Deployment, play_id: ObjectId) -> dict[str, object]:
    return dict(here.platform.ledger.get(play_id, company_id=here.company_id)["steps"]["post"])


def test_a_worker_that_dies_with_the_only_token_in_the_spool_loses_no_link(here: Deployment) -> None:
    link_id = here.connect("slack", slack=30)["slack"]
    dying = here.start_worker(crash_at=f"{refresh_replies.SPOOLED}:kill")
    until(lambda: any((here.folder / "spool").glob("*.reply")), "a reply in the spool")
    dying.signal_all(signal.SIGKILL)
    assert generation(here, link_id) == 1

    here.start_worker()
    until(lambda: generation(here, link_id) == 2, "the adoption")

    assert status(here, link_id) == "active"
    assert here.lab.requests("slack")["operations"] == {"token.refresh": 1}
    assert here.wait(here.submit({"name": "one", "steps": [STEP]}))["status"] == "DONE"
