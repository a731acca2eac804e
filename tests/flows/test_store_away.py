"""The store goes away and comes back in the middle of the work: what was sent is not lost."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bson import ObjectId

from flow8_lab.client import Lab
from tests.counterparts.chaos import ChaosProxy
from tests.flows.deployment import deploy
from tests.flows.raw import Queues
from tests.processes import until

STEP = {
    "name": "notify",
    "module_ref": "slack-message",
    "input_mapping": {"channel": "#notifications", "message": "sent while the store was away"},
}


def tried(log: str) -> bool:
    """Whether the worker says that the step came to nothing."""
    return any("flow8.execute[" in line and "received" not in line for line in log.splitlines())


def test_a_whole_step_sent_while_the_store_is_away_is_done_once_it_is_back(
    tmp_path: Path, lab: Lab, redis_url: str, mongo_server: str, chaos: Callable[[str], ChaosProxy]
) -> None:
    proxy = chaos(mongo_server.removeprefix("mongodb://"))
    store = f"mongodb://{proxy.address}/flow8_test_{ObjectId()}"
    deployment = deploy(tmp_path, lab, store=store, broker=redis_url, worker={"sweep_s": 0.3})
    queues = Queues(redis_url)
    message: dict[str, Any] = {
        "version": 1,
        "company_id": str(deployment.company_id),
        "user_id": str(deployment.user_id),
        "play_id": f"go-{uuid.uuid4()}",
        "step": STEP,
        "reply_to": f"answers.{uuid.uuid4()}",
    }
    try:
        deployment.connect("slack")
        worker = deployment.start_worker()
        proxy.refuse()

        queues.send("flow8.execute", message)
        until(lambda: tried(worker.log.read_text()), "a worker that has tried in vain")
        proxy.mend()

        assert queues.take(message["reply_to"], timeout=20.0)["status"] == "done"
        assert lab.effects("slack")["count"] == 1
    finally:
        deployment.close()
