"""Workers tell whom a link's trouble concerns and bring tokens back to their vendors, asked by nobody."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from credentials import applications
from credentials.unlink import Unlinked
from flow8_lab.client import Lab
from tests.counterparts.receiver import SECRET, Receiver
from tests.counterparts.token_server import Loopback
from tests.credentials.desk import give_up
from tests.flows.deployment import BUSY, Deployment, deploy
from tests.processes import until

STEP = {
    "name": "notify",
    "module_ref": "slack-message",
    "order": 1,
    "input_mapping": {"channel": "#notifications", "message": "hi"},
}


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.proof)])
def store_here(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'flow8.db'}"
    uri: str = request.getfixturevalue("mongo_uri")
    return uri


@pytest.fixture
def told(store_here: str, lab: Lab, redis_url: str, receiver: Receiver, loopback_tls: Loopback) -> Iterator[Deployment]:
    """A deployment of each kind that tells a receiver."""
    tmp_path = Path(tempfile.mkdtemp(dir=loopback_tls.ca_file.parent))
    roots = tmp_path / "roots.pem"
    roots.write_text(Path(lab.egress["ca_file"]).read_text() + loopback_tls.ca_file.read_text())
    egress = {"allow": [*lab.egress["allow"], receiver.place], "ca_file": str(roots)}
    events = {"url": receiver.url, "secret": SECRET}
    deployment = deploy(tmp_path, lab, store=store_here, broker=redis_url, worker=BUSY, egress=egress, events=events)
    yield deployment
    deployment.close()


def unlinked(deployment: Deployment, link_id: str) -> Unlinked:
    return deployment.platform.unlink(deployment.company_id, user_id=deployment.user_id).link(link_id)


def test_a_worker_tells_of_a_dead_link_and_of_its_recovery_and_revokes_what_is_unlinked(
    told: Deployment, receiver: Receiver, lab: Lab
) -> None:
    link_id = told.connect("slack")["slack"]
    told.start_worker()
    links = told.platform.links(told.company_id)

    give_up(told.platform.store, told.platform.vault, links.get(link_id), "token_revoked")
    until(lambda: len(receiver.received) == 1, "the first event")
    told.connect("slack")
    until(lambda: len(receiver.received) == 2, "the second event")
    done = unlinked(told, link_id)
    until(lambda: told.platform.unlink(told.company_id).vendor(done.link) == "revoked", "the revocation")

    assert receiver.types == ["link.needs_reconnect", "link.recovered"]
    assert receiver.refused == []
    assert lab.requests("slack", "auth.revoke")["count"] >= 1
    named = STEP | {"input_mapping": {"channel": "#notifications", "message": "hi", "link_id": link_id}}
    play = told.wait(told.submit({"name": "after", "steps": [named]}))
    assert play["steps"][0]["error"]["code"] == "access_denied"
    assert play["steps"][0]["attempts"] == 1
    assert SECRET not in told.workers[0].log.read_text()


@pytest.mark.proof
def test_a_worker_tells_the_operator_of_an_application_that_is_refused_and_of_its_recovery(
    told: Deployment, receiver: Receiver, lab: Lab
) -> None:
    told.connect("slack", slack=30)
    lab.configure("slack", app="secret_expired")
    told.start_worker()
    until(lambda: receiver.types == ["app.blocked"], "the alert")

    lab.configure("slack", app="good")
    store = told.platform.store
    store.update(applications.COLLECTION, {"service": "slack"}, {"$set": {"trial_at": store.now() - timedelta(1)}})
    until(lambda: len(receiver.received) == 2, "the recovery")

    assert receiver.types == ["app.blocked", "app.recovered"]
    assert receiver.refused == []


def test_a_receiver_that_hangs_delays_no_step(told: Deployment, receiver: Receiver) -> None:
    link_id = told.connect("slack")["slack"]
    microsoft = told.connect("microsoft")["microsoft"]
    links = told.platform.links(told.company_id)
    told.start_worker()
    receiver.hold.clear()
    give_up(told.platform.store, told.platform.vault, links.get(microsoft), "token_revoked")

    play = told.wait(told.submit({"name": "meanwhile", "steps": [STEP]}), timeout=8.0)

    assert play["status"] == "DONE"
    assert links.get(link_id).status == "active"
    assert receiver.received == []
    receiver.hold.set()
    until(lambda: len(receiver.received) >= 1, "the event")
