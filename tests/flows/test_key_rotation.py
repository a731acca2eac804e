"""The key is changed under a worker that goes on: refused until it can read the new key, followed without a restart."""

from __future__ import annotations

from typing import Any

import pytest
from bson import ObjectId

from credentials.kdf import generate
from credentials.sealed import envelopes
from tests.flows.deployment import Deployment
from tests.processes import until

STEP = {"name": "notify", "module_ref": "slack-message", "input_mapping": {"channel": "#notifications", "message": "x"}}


def kids(deployment: Deployment, link_id: str) -> set[str]:
    """The keys that a link is sealed with."""
    row = deployment.platform.store.get("db_links", ObjectId(link_id)) or {}
    return {str(envelope.get("kid")) for _, envelope in envelopes(row)}


def runs(deployment: Deployment) -> Any:
    """A step that needs the link."""
    return deployment.wait(deployment.submit({"name": "one", "steps": [STEP]}))["status"]


@pytest.mark.proof
def test_a_worker_is_no_obstacle_once_it_has_the_new_key_and_follows_by_itself(embedded: Deployment) -> None:
    deployment = embedded
    link = deployment.connect("slack")["slack"]
    worker = deployment.start_worker()
    until(lambda: bool(deployment.platform.key_holders()), "a worker that tells which keys it has")
    deployment.environ["ENC_KEY_SECRET_NEXT"] = generate()[0]
    new = deployment.flow8("keys", "add", "--json")["kid"]

    refused = deployment.flow8("keys", "rotate", "--json", exit_code=1)
    worker.stop()
    deployment.start_worker()
    rotated = deployment.flow8("keys", "rotate", "--json")

    assert refused["error"]["code"] == "conflict"
    assert (rotated["kid"], rotated["unreadable"]) == (new, [])
    assert kids(deployment, link) == {new}
    assert runs(deployment) == "DONE"  # read with the new key

    def refreshed_with_the_new_key() -> bool:
        deployment.make_due(link)
        assert runs(deployment) == "DONE"
        return kids(deployment, link) == {new}

    until(refreshed_with_the_new_key, "a refresh that is sealed with the new key")
