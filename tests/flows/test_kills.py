"""A worker is killed in the midst of a flow, at each crash point on a step's way: nothing is lost, nothing is doubled.

Worker A stops itself at the point, at the n-th step that comes by; then kill -9 takes its parent and all its children,
and worker B, which was held until then, has to bring the play to its end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from bson import ObjectId

from credentials import refresh_replies
from flow8_lab.client import Lab
from flow8_runtime import attempt, engine
from tests.flows.deployment import deploy
from tests.flows.pair import ALL, CALENDAR, SLACK, STEP_POINTS, STEPS, UPLOAD, Pair, Row

FAST = [
    Row(attempt.BEFORE_CALL, SLACK),
    Row(attempt.AFTER_CALL, SLACK),
    Row(engine.BEFORE_LANDING, CALENDAR),
    Row(refresh_replies.KEPT, CALENDAR),
]
ALONE = [Row(point, CALENDAR) for point in STEP_POINTS]
FAST_ALONE = [Row(attempt.AFTER_CALL, CALENDAR)]
BACK_WITHIN_S = 8.0  # with room for a busy machine; 0.4 s on an idle one


def make_pair(store: str, tmp_path_factory: pytest.TempPathFactory, lab: Lab, broker: str) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    store = store or f"sqlite:///{folder}/flow8.db"
    deployment = deploy(folder, lab, store=store, broker=broker, worker={"sweep_s": 0.3, "beat_s": 0.5})
    yield Pair(deployment, deployment.start_worker())
    deployment.close()


@pytest.fixture(scope="module")
def shared_pair(
    tmp_path_factory: pytest.TempPathFactory, lab_process: Lab, standing_redis: str, mongo_server: str
) -> Iterator[Pair]:
    """MongoDB's protocol and Redis."""
    yield from make_pair(f"{mongo_server}/flow8_test_{ObjectId()}", tmp_path_factory, lab_process, standing_redis)


@pytest.fixture(scope="module")
def embedded_pair(tmp_path_factory: pytest.TempPathFactory, lab_process: Lab, standing_redis: str) -> Iterator[Pair]:
    """SQLite and Redis."""
    yield from make_pair("", tmp_path_factory, lab_process, standing_redis)


def check(pair: Pair, lab: Lab, row: Row, play_id: ObjectId) -> None:
    """Some process was killed at the row's point: the play, the vendors and the links must come to what it says."""
    killed_at = time.monotonic()

    play = pair.deployment.wait(play_id)

    assert time.monotonic() - killed_at < BACK_WITHIN_S
    steps = {step["name"]: step for step in play["steps"]}
    ended = {name: step["status"] for name, step in steps.items()}
    assert ended == dict.fromkeys(STEPS, "done") | ({SLACK: "outcome_unknown"} if row.doubtful else {})
    assert play["status"] == ("FAIL" if row.doubtful else "DONE")
    assert steps[row.step]["attempts"] == row.attempts

    effects = {service: lab.effects(service) for service in ("s3", "slack", "microsoft")}
    assert effects["slack"]["count"] == (row.happened if row.doubtful else 1)
    assert effects["microsoft"]["count"] == len(effects["microsoft"]["keys"]) == 1
    assert len(effects["s3"]["keys"]) == 1
    assert effects["s3"]["count"] == 1 + (row.called_again and row.step == UPLOAD)
    assert lab.requests("microsoft", "events.create")["count"] == 1 + (row.called_again and row.step == CALENDAR)
    assert {link.status for link in pair.deployment.platform.links(pair.deployment.company_id).list()} == {"active"}


@pytest.mark.parametrize("row", FAST, ids=str)
def test_a_worker_killed_in_mid_flow_loses_no_effect_and_doubles_none(shared_pair: Pair, lab: Lab, row: Row) -> None:
    check(shared_pair, lab, row, shared_pair.kill_a_at(row))


@pytest.mark.proof
@pytest.mark.parametrize("row", [row for row in ALL if row not in FAST], ids=str)
def test_so_it_is_at_every_point_and_in_every_step(shared_pair: Pair, lab: Lab, row: Row) -> None:
    check(shared_pair, lab, row, shared_pair.kill_a_at(row))


@pytest.mark.proof
@pytest.mark.parametrize("row", ALL, ids=str)
def test_so_it_is_in_embedded_mode(embedded_pair: Pair, lab: Lab, row: Row) -> None:
    check(embedded_pair, lab, row, embedded_pair.kill_a_at(row))


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=str(row), marks=() if row in FAST_ALONE else pytest.mark.proof) for row in ALONE]
)
def test_so_it_is_where_a_pool_process_dies_alone(shared_pair: Pair, lab: Lab, row: Row) -> None:
    with shared_pair.a_loses_its_child_at(row) as play_id:
        check(shared_pair, lab, row, play_id)
