"""Steps that wait for a link: released by a reconnection of the same account, at once; ended by what is for good."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import redis
from bson import ObjectId

from credentials.links import Link
from flow8_core import crashpoints
from flow8_core.errors import Conflict
from flow8_lab.client import Lab
from flow8_runtime import connecting
from flow8_runtime.app import make_app
from flow8_runtime.broker import Broker
from flow8_runtime.platform import Foundation, Platform
from flow8_runtime.process import WorkerProcess
from flow8_runtime.queues import DEFAULT_QUEUE, DRAIN_QUEUE, bell_channel
from tests.flows.deployment import SCOPES, Deployment, deploy
from tests.forkserver import CONTEXT
from tests.processes import until

RARELY = {"sweep_s": 60.0, "beat_s": 0.5, "linger_s": 0}
STEPS = {
    "slack": {"module_ref": "slack-message", "input_mapping": {"channel": "#notifications", "message": "x"}},
    "microsoft": {
        "module_ref": "microsoft-calendar",
        "input_mapping": {
            "event_title": "x",
            "start_time": "2030-01-01T10:00:00Z",
            "end_time": "2030-01-01T11:00:00Z",
        },
    },
}


@pytest.fixture
def home(tmp_path: Path, lab: Lab, redis_url: str) -> Iterator[Deployment]:
    """A deployment that sweeps once a minute, and whose drainers do not linger: whatever happens at once, neither has
    done it."""
    deployment = deploy(tmp_path, lab, store=f"sqlite:///{tmp_path / 'flow8.db'}", broker=redis_url, worker=RARELY)
    yield deployment
    deployment.close()


@pytest.fixture
def process(home: Deployment, redis_url: str) -> Iterator[WorkerProcess]:
    """A worker process in this one, which drains when it is told to."""
    process = WorkerProcess(home.platform.foundation, Broker(redis_url), make_app(redis_url))
    yield process
    process.close()


def parked(home: Deployment, process: WorkerProcess, *services: str) -> tuple[ObjectId, dict[str, str]]:
    """A play of one group with a step for each service, all of which wait for their links: its id, and the links'."""
    links = home.connect(*services, **dict.fromkeys(services, 61))
    for service in services:
        home.lab.control("/revoke", {"service": service})
    steps = [{"name": service, "order": 1, **STEPS[service]} for service in services]
    play_id = home.submit({"name": "waits", "steps": steps})
    comes_to(home, process, play_id, dict.fromkeys(services, "parked"))
    return play_id, links


def comes_to(home: Deployment, process: WorkerProcess, play_id: ObjectId, wanted: dict[str, str]) -> None:
    """Drain until the play's steps stand so: calls go on in threads of their own."""

    def so() -> bool:
        process.drain()
        return states(home, play_id) == wanted

    until(so, f"{wanted}")


def states(home: Deployment, play_id: ObjectId) -> dict[str, str]:
    play = home.platform.ledger.get(play_id, company_id=home.company_id)
    return {name: state["status"] for name, state in play["steps"].items()}


def way_back(home: Deployment, service: str, *, link_id: str | None = None) -> str:
    """The address with which a browser comes back after agreeing."""
    begun = home.platform.connect.begin(
        service, company_id=home.company_id, user_id=home.user_id, scopes=SCOPES[service], link_id=link_id
    )
    return home.lab.visit(begun.authorize_url)


def reconnect(home: Deployment, service: str, **options: Any) -> Link:
    back = way_back(home, service, **options)
    return connecting.complete(home.platform, parse_qsl(urlsplit(back).query), service=service).link


def woken(redis_url: str) -> int:
    """How many wake-ups lie in the broker."""
    with redis.Redis.from_url(redis_url) as client:
        return int(client.llen(DRAIN_QUEUE))


@contextmanager
def the_bell_rings(redis_url: str) -> Iterator[None]:
    """Workers are woken within: a drainer that lingers needs no message, and hears this."""
    database = int(urlsplit(redis_url).path.strip("/") or 0)
    with closing(redis.Redis.from_url(redis_url)) as client, client.pubsub() as listener:
        listener.subscribe(bell_channel(DEFAULT_QUEUE, database=database))
        until(lambda: bool(listener.get_message(timeout=1)), "the subscription")
        yield
        until(lambda: bool(listener.get_message(timeout=1)), "the bell")


def test_each_of_two_links_releases_its_own_step_at_once(
    home: Deployment, process: WorkerProcess, redis_url: str
) -> None:
    play_id, links = parked(home, process, "slack", "microsoft")

    for service, left in (("slack", {"microsoft": "parked"}), ("microsoft", {})):
        with the_bell_rings(redis_url):
            reconnect(home, service, link_id=links[service])
        comes_to(home, process, play_id, {"slack": "done", "microsoft": "done"} | left)


def test_it_is_told_who_waits_for_what(home: Deployment, process: WorkerProcess) -> None:
    play_id, links = parked(home, process, "slack", "microsoft")

    shown = home.flow8("link", "show", links["slack"], "--json")
    play = home.flow8("plays", str(play_id), "--json")
    (listed,) = [play for play in home.flow8("plays", "--json")["plays"] if play["play_id"] == str(play_id)]
    words = home.said("plays")

    assert shown["waiting"]["plays"] == 1
    (waiting,) = shown["waiting"]["steps"]
    assert (waiting["play_id"], waiting["flow"], waiting["step"]) == (str(play_id), "waits", "slack")
    for each in (play, listed):
        assert {step["name"]: step["waiting_for"] for step in each["steps"]} == {
            service: f"link:{link}" for service, link in links.items()
        }
    assert f"slack (waits for link {links['slack']})" in words
    reconnect(home, "slack", link_id=links["slack"])
    assert home.flow8("link", "show", links["slack"], "--json")["waiting"] == {"plays": 0, "steps": []}


def test_a_connection_of_the_same_account_without_a_links_id_releases_too(
    home: Deployment, process: WorkerProcess
) -> None:
    play_id, _ = parked(home, process, "microsoft")

    reconnect(home, "microsoft")
    comes_to(home, process, play_id, {"microsoft": "done"})


def test_another_account_neither_takes_the_link_nor_releases_its_steps(
    home: Deployment, process: WorkerProcess
) -> None:
    play_id, links = parked(home, process, "microsoft")
    home.lab.configure("microsoft", account="somebody.else@company.com")

    with pytest.raises(Conflict, match="another Microsoft 365 account"):
        reconnect(home, "microsoft", link_id=links["microsoft"])
    process.sweep()

    assert not home.platform.ledger.due()
    assert states(home, play_id) == {"microsoft": "parked"}
    assert home.platform.links(home.company_id).get(links["microsoft"]).status == "needs_reconnect"


def test_a_step_does_not_go_on_as_another_account_that_was_connected_meanwhile(
    home: Deployment, process: WorkerProcess
) -> None:
    play_id, links = parked(home, process, "microsoft")
    home.lab.configure("microsoft", account="somebody.else@company.com")

    other = reconnect(home, "microsoft")
    platform = home.platform
    platform.ledger.make_due(f"{play_id}:microsoft", company_id=home.company_id)

    def looked_again() -> bool:
        process.drain()
        step = platform.ledger.get(play_id, company_id=home.company_id)["steps"]["microsoft"]
        return bool(step["n"] == 2 and step["status"] not in ("claimed", "calling"))

    until(looked_again, "a second look")
    assert (str(other.id) != links["microsoft"], other.status) == (True, "active")
    assert states(home, play_id) == {"microsoft": "parked"}
    home.lab.configure("microsoft", account="user@company.com")
    reconnect(home, "microsoft", link_id=links["microsoft"])
    comes_to(home, process, play_id, {"microsoft": "done"})


@pytest.mark.parametrize(
    ("end", "code"), [("revoked", "access_denied"), ("removed", "access_denied"), ("another's", "access_denied")]
)
def test_steps_of_a_link_that_will_not_come_back_fail_with_the_next_sweep(
    home: Deployment, process: WorkerProcess, end: str, code: str
) -> None:
    play_id, links = parked(home, process, "slack")
    platform, link_id = home.platform, ObjectId(links["slack"])
    named = {"_id": link_id, "company_id": home.company_id}
    if end == "revoked":
        platform.unlink(home.company_id).link(link_id)
    elif end == "removed":
        assert platform.store.delete("db_links", named) is not None
    else:
        assert platform.store.update("db_links", named, {"$set": {"company_id": ObjectId()}}) is not None

    process.sweep()
    comes_to(home, process, play_id, {"slack": "failed"})

    (step,) = platform.ledger.describe(platform.ledger.get(play_id, company_id=home.company_id))["steps"]
    assert step["error"]["code"] == code


# ---- the window between the stored link and the woken worker

POINTS = (connecting.RELEASED,)


def arrival(home: Deployment, service: str, link_id: str, crash_at: str) -> ForkServerProcess:
    """A process of the API that a browser comes back to, and that fails at a point."""
    query = parse_qsl(urlsplit(way_back(home, service, link_id=link_id)).query)
    process = CONTEXT.Process(target=_complete, args=(home.environ, home.folder, query, service, crash_at))
    process.start()
    return process


def _complete(environ: dict[str, str], folder: Path, query: list[tuple[str, str]], service: str, crash_at: str) -> None:
    crashpoints.arm(crash_at)
    with closing(Platform(Foundation.lay(environ, folder))) as platform:
        connecting.complete(platform, query, service=service)


@pytest.mark.parametrize("point", POINTS)
def test_an_api_killed_before_it_has_woken_anybody_loses_no_play(
    home: Deployment, process: WorkerProcess, point: str, redis_url: str
) -> None:
    play_id, links = parked(home, process, "slack")
    before = woken(redis_url)

    killed = arrival(home, "slack", links["slack"], f"{point}:kill")
    killed.join(60)

    assert (killed.exitcode, woken(redis_url)) == (-signal.SIGKILL, before)
    assert states(home, play_id) == {"slack": "queued"}
    assert process.sweep().due == {"default"}
    comes_to(home, process, play_id, {"slack": "done"})


@pytest.mark.parametrize("point", POINTS)
def test_an_api_stopped_before_it_has_woken_anybody_does_no_harm_later(
    home: Deployment, process: WorkerProcess, point: str
) -> None:
    play_id, links = parked(home, process, "slack")

    stopped = arrival(home, "slack", links["slack"], f"{point}:stop")
    until(lambda: states(home, play_id) == {"slack": "queued"}, "a play that was released")
    process.sweep()
    comes_to(home, process, play_id, {"slack": "done"})
    until(lambda: is_stopped(stopped.pid or 0), "the stop")
    os.kill(stopped.pid or 0, signal.SIGCONT)
    stopped.join(60)
    process.sweep()
    process.drain()

    assert stopped.exitcode == 0
    assert states(home, play_id) == {"slack": "done"}
    assert home.lab.effects("slack")["count"] == 1


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("point", POINTS)
def test_a_failure_before_anybody_was_woken_leaves_the_link_and_its_play_to_the_sweep(
    home: Deployment, process: WorkerProcess, point: str
) -> None:
    play_id, links = parked(home, process, "slack")
    back = way_back(home, "slack", link_id=links["slack"])

    crashpoints.arm(f"{point}:raise")
    try:
        with pytest.raises(crashpoints.CrashPointReached):
            connecting.complete(home.platform, parse_qsl(urlsplit(back).query), service="slack")
    finally:
        crashpoints.arm("")
    process.sweep()
    comes_to(home, process, play_id, {"slack": "done"})

    assert home.platform.links(home.company_id).get(links["slack"]).status == "active"
