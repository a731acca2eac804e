"""A step whose process fails at a crash point, without dying of it: the next process brings the play to its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from credentials.kdf import generate
from flow8_core import crashpoints
from flow8_lab.client import Lab
from flow8_runtime import attempt, engine
from flow8_runtime.app import make_app
from flow8_runtime.broker import Broker
from flow8_runtime.definition import Flow
from flow8_runtime.platform import Foundation
from flow8_runtime.process import WorkerProcess
from tests.processes import until

POINTS = (engine.CLAIMED, attempt.BEFORE_CALL, attempt.AFTER_CALL, engine.BEFORE_LANDING, engine.LANDED)


def started(folder: Path, lab: Lab, redis_url: str) -> WorkerProcess:
    """A worker process in this one; each has the same folder and keys."""
    settings = {"home": str(folder / "home"), "egress": lab.egress}
    (folder / "flow8.yaml").write_text(json.dumps(settings))
    keys = folder / "keys.json"
    if not keys.exists():
        keys.write_text(json.dumps(dict(zip(("ENC_KEY_SECRET", "ENV_KEY_SALT"), generate(), strict=True))))
    foundation = Foundation.lay(json.loads(keys.read_text()), folder).with_keys()
    return WorkerProcess(foundation, Broker(redis_url), make_app(redis_url))


@pytest.mark.parametrize("point", POINTS)
def test_a_failure_at_a_point_of_a_step_costs_an_attempt_and_no_step(
    tmp_path: Path, lab: Lab, redis_url: str, point: str
) -> None:
    read = {"module_ref": "http-request", "input_mapping": {"url": f"{lab.services['web']['base_url']}/echo"}}
    flow = Flow.parse({"name": "two", "steps": [{"name": "one", **read}, {"name": "two", **read}]})
    failing = started(tmp_path, lab, redis_url)
    company, user = failing.platform.identity()
    play_id = failing.platform.ledger.submit(flow, {}, company_id=company, user_id=user)

    crashpoints.arm(f"{point}:raise")
    try:
        with pytest.raises(crashpoints.CrashPointReached):  # told by a drain that sees the thread's end
            until(lambda: failing.drain() or False, "the crash")
    finally:
        crashpoints.arm("")
        failing.close()
    next_one = started(tmp_path, lab, redis_url)
    next_one.sweep()

    def over() -> bool:
        next_one.drain()
        return next_one.platform.ledger.get(play_id, company_id=company)["status"] == "DONE"

    until(over, "the end of the play")
    play = next_one.platform.ledger.get(play_id, company_id=company)
    next_one.close()

    called_twice = point in (attempt.AFTER_CALL, engine.BEFORE_LANDING)
    assert {name: state["status"] for name, state in play["steps"].items()} == {"one": "done", "two": "done"}
    assert lab.requests("web", "echo")["count"] == 2 + called_twice
