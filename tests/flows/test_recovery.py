"""Workers, broker and store go away in the midst of the work; everything is done once they are back, and once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from bson import ObjectId

from flow8_lab.client import Lab
from tests.counterparts.chaos import ChaosProxy
from tests.counterparts.redis import RedisServer
from tests.environment import rounds
from tests.flows.deployment import BUSY, Deployment, deploy
from tests.processes import until

WITHIN_S = 20.0  # by default settings and on a busy machine: 2 are usual on an idle one, and leases would take 300
SLACK = {
    "name": "notify",
    "module_ref": "slack-message",
    "input_mapping": {"channel": "#notifications", "message": "Invoice INV-001 is processed"},
}


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.proof)])
def unhurried(request: pytest.FixtureRequest, tmp_path: Path, lab: Lab, redis_url: str) -> Iterator[Deployment]:
    """A deployment whose workers sweep and beat as by default."""
    store = f"sqlite:///{tmp_path / 'flow8.db'}" if request.param == "sqlite" else request.getfixturevalue("mongo_uri")
    deployment = deploy(tmp_path, lab, store=store, broker=redis_url)
    yield deployment
    deployment.close()


def get(deployment: Deployment, **more: Any) -> dict[str, Any]:
    """A step that may be repeated."""
    url = f"{deployment.lab.services['web']['base_url']}/echo"
    return {"name": "get", "module_ref": "http-request", "input_mapping": {"url": url}, **more}


def flow(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"name": "test", "steps": list(steps)}


def caller(deployment: Deployment, play_id: ObjectId) -> int:
    """The process that has the play's step."""
    (owner,) = deployment.platform.ledger.get(play_id, company_id=deployment.company_id)["owners"]
    return int(owner.split(":")[1])


# ---- workers


def test_what_a_killed_worker_had_in_flight_is_done_by_another_within_seconds(unhurried: Deployment) -> None:
    unhurried.lab.fault("web", "delay", times=3, answer_delay_ms=60_000)
    doomed = unhurried.start_worker(processes_=2)
    plays = [unhurried.submit(flow(get(unhurried))) for _ in range(3)]
    until(lambda: unhurried.lab.requests("web")["count"] == 3, "three calls in flight")

    doomed.kill()
    killed_at = time.monotonic()
    unhurried.start_worker(processes_=2)
    ended = [unhurried.wait(play_id) for play_id in plays]

    assert [play["status"] for play in ended] == ["DONE"] * 3
    assert [play["steps"][0]["attempts"] for play in ended] == [2, 2, 2]
    assert time.monotonic() - killed_at < WITHIN_S


def test_a_worker_that_starts_takes_back_at_once_what_a_killed_one_left(
    tmp_path: Path, lab: Lab, redis_url: str
) -> None:
    deployment = deploy(
        tmp_path, lab, store=f"sqlite:///{tmp_path / 'flow8.db'}", broker=redis_url, worker={"sweep_s": 60}
    )
    try:
        lab.fault("web", "delay", answer_delay_ms=60_000)
        doomed = deployment.start_worker()
        play_id = deployment.submit(flow(get(deployment)))
        until(lambda: lab.requests("web")["count"] == 1, "a call in flight")

        doomed.kill()
        deployment.start_worker()
        play = deployment.wait(play_id)  # half as long as a sweep's pause

        assert (play["status"], play["steps"][0]["attempts"]) == ("DONE", 2)
    finally:
        deployment.close()


@pytest.mark.proof
def test_a_pool_process_that_dies_alone_costs_its_step_an_attempt_and_the_worker_nothing(embedded: Deployment) -> None:
    embedded.lab.fault("web", "delay", answer_delay_ms=60_000)
    worker = embedded.start_worker(processes_=2)
    play_id = embedded.submit(flow(get(embedded)))
    until(lambda: embedded.lab.requests("web")["count"] == 1, "a call in flight")

    worker.signal_one(caller(embedded, play_id), signal.SIGKILL)
    play = embedded.wait(play_id)

    assert (play["status"], play["steps"][0]["attempts"]) == ("DONE", 2)
    assert worker.process.poll() is None


@pytest.mark.proof
def test_a_step_that_ends_its_worker_each_time_is_given_up_at_the_third(embedded: Deployment) -> None:
    worker = embedded.start_worker(crash_at="engine.claimed:1:kill")

    play = embedded.wait(embedded.submit(flow(get(embedded))))

    step = play["steps"][0]
    assert (step["status"], step["error"]["code"], step["attempts"]) == ("dead_letter", "dead_letter", 3)
    assert embedded.lab.requests("web")["count"] == 0
    assert worker.process.poll() is None


# ---- broker


def test_a_flushed_broker_costs_nothing_but_a_moment(unhurried: Deployment, redis_url: str) -> None:
    unhurried.connect("slack")
    unhurried.start_worker()
    plays = [unhurried.submit(flow(SLACK)) for _ in range(20)]
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    flushed_at = time.monotonic()
    plays += [unhurried.submit(flow(SLACK)) for _ in range(20)]

    ended = [unhurried.wait(play_id) for play_id in plays]

    assert {play["status"] for play in ended} == {"DONE"}
    assert unhurried.lab.effects("slack")["count"] == 40
    assert time.monotonic() - flushed_at < WITHIN_S


def test_a_broker_that_is_killed_and_comes_back_loses_no_step_and_doubles_none(
    tmp_path: Path, lab: Lab, own_redis: RedisServer
) -> None:
    deployment = deploy(tmp_path, lab, store=f"sqlite:///{tmp_path / 'flow8.db'}", broker=own_redis.url)
    try:
        deployment.connect("slack")
        worker = deployment.start_worker()
        before = [deployment.submit(flow(SLACK)) for _ in range(10)]
        own_redis.kill()

        started = time.monotonic()
        during = [deployment.submit(flow(SLACK)) for _ in range(5)]
        handed_in_s = time.monotonic() - started
        own_redis.start()
        after = [deployment.submit(flow(SLACK)) for _ in range(5)]
        ended = [deployment.wait(play_id) for play_id in before + during + after]

        assert handed_in_s < 3
        assert time.monotonic() - started < WITHIN_S
        assert {play["status"] for play in ended} == {"DONE"}
        assert lab.effects("slack")["count"] == 20
        assert worker.process.poll() is None
    finally:
        deployment.close()


@pytest.mark.proof
def test_connections_to_the_broker_that_are_cut_again_and_again_wedge_no_worker(
    tmp_path: Path, lab: Lab, redis_url: str, chaos: Callable[[str], ChaosProxy]
) -> None:
    proxy = chaos(urlsplit(redis_url).netloc)
    store = f"sqlite:///{tmp_path / 'flow8.db'}"
    deployment = deploy(tmp_path, lab, store=store, broker=f"redis://{proxy.address}/0", worker=BUSY)
    try:
        deployment.connect("slack")
        worker = deployment.start_worker(processes_=2)
        for round_ in range(rounds(20, short=5)):
            plays = [deployment.submit(flow(SLACK)) for _ in range(4)]
            proxy.cut()

            ended = [deployment.wait(play_id) for play_id in plays]

            assert {play["status"] for play in ended} == {"DONE"}
            assert lab.effects("slack")["count"] == 4 * (round_ + 1)
        assert worker.process.poll() is None
    finally:
        deployment.close()


# ---- store


@pytest.fixture
def shaky(
    tmp_path: Path, lab: Lab, redis_url: str, mongo_uri: str, chaos: Callable[[str], ChaosProxy]
) -> Iterator[tuple[Deployment, ChaosProxy]]:
    """A deployment whose workers reach the store through a proxy that can be cut."""
    place = urlsplit(mongo_uri)
    proxy = chaos(place.netloc)
    store = mongo_uri.replace(place.netloc, proxy.address)
    deployment = deploy(tmp_path, lab, store=store, broker=redis_url, worker=BUSY)
    yield deployment, proxy
    deployment.close()


def test_an_outcome_that_no_store_could_take_is_landed_when_it_is_back(shaky: tuple[Deployment, ChaosProxy]) -> None:
    deployment, store = shaky
    deployment.connect("slack")
    deployment.lab.fault("slack", "delay", "chat.postMessage", answer_delay_ms=1000)
    deployment.start_worker()
    play_id = deployment.submit(flow(SLACK | {"order": 1}, get(deployment, order=2)))
    until(lambda: deployment.lab.effects("slack")["count"] == 1, "a call in flight")

    store.refuse()
    until(lambda: "no server can be reached" in deployment.workers[0].log.read_text(), "a worker without a store")
    store.mend()
    play = deployment.wait(play_id)

    assert (play["status"], play["steps"][0]["attempts"]) == ("DONE", 1)
    assert deployment.lab.effects("slack")["count"] == 1


@pytest.mark.proof
def test_a_worker_that_starts_without_its_store_works_once_it_is_there(shaky: tuple[Deployment, ChaosProxy]) -> None:
    deployment, store = shaky
    play_id = deployment.submit(flow(get(deployment)))
    store.refuse()
    deployment.start_worker()

    until(lambda: "no server can be reached" in deployment.workers[0].log.read_text(), "a worker without a store")
    store.mend()
    play = deployment.wait(play_id)

    assert play["status"] == "DONE"
