"""kill -9 at random moments under a load that never ends, two hundred times: nothing is lost, nothing is done twice.

A play has two steps whose vendor tells repetitions by their key, and between them one that may happen once. What the
ledger says in the end is compared with what the vendors have counted, key by key.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import pytest
from bson import ObjectId

from flow8_core.errors import StoreUnavailable
from flow8_lab.client import Lab
from flow8_runtime import documents
from tests.environment import rounds
from tests.flows.deployment import Deployment, Worker, deploy
from tests.processes import alive, until

pytestmark = pytest.mark.proof

KILLS = rounds(200, short=5)
SEED = 20261
PROCESSES = 2
PAUSE_S = 0.04  # between two plays that are handed in
CALL_MS = 30
WANTED_S = 2.0  # from the restart until all is done; longer at times, where others keep the machine busy
PATIENCE_S = 60.0

T = TypeVar("T")

log = logging.getLogger("tests")  # shown by --log-cli-level=INFO


def steps_on(lab: Lab) -> list[dict[str, Any]]:
    """Twice a call that the vendor knows again by its key, and a message in between that must not come twice."""
    url = f"{lab.services['web']['base_url']}/charges"
    charge = {"url": url, "method": "POST", "body": {"n": "{{ $prev.args.n }}"}}
    message = {"channel": "#notifications", "message": "{{ $prev.args.n }}"}
    return [
        {"name": "charge", "module_ref": "http-request", "order": 1, "input_mapping": charge},
        {"name": "notify", "module_ref": "slack-message", "order": 2, "input_mapping": message, "on_error": "continue"},
        {"name": "book", "module_ref": "http-request", "order": 3, "input_mapping": charge},
    ]


def patiently(ask: Callable[[], T]) -> T:
    """Ask a store until it answers: it shares the machine with all that is killed and started here."""
    while True:
        try:
            return ask()
        except StoreUnavailable:
            time.sleep(0.1)


@dataclass
class Load:
    """A thread that hands in plays, one after the other, while it is asked to."""

    deployment: Deployment
    steps: list[dict[str, Any]]
    plays: list[ObjectId] = field(default_factory=list)
    _on: threading.Event = field(default_factory=threading.Event)
    _over: threading.Event = field(default_factory=threading.Event)
    _between: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._on.set()
        self._thread.join()

    def begin(self) -> None:
        self._on.set()

    def end(self) -> list[ObjectId]:
        """No play is handed in any more; those that were since the last time."""
        self._on.clear()
        with self._between:
            plays, self.plays = self.plays, []
        return plays

    def _live(self) -> None:
        number = 0
        while self._on.wait() and not self._over.wait(PAUSE_S):
            with self._between:
                if self._on.is_set():
                    number += 1
                    self.plays.append(ObjectId())
                    patiently(lambda play_id=self.plays[-1], n=number: self._submit(play_id, n))

    def _submit(self, play_id: ObjectId, number: int) -> None:
        """Hand in a play; a second time, where the answer was lost, is harmless."""
        who = {"company_id": self.deployment.company_id, "user_id": self.deployment.user_id}
        flow = {"name": "load", "steps": self.steps}
        self.deployment.door.submit(flow, {"n": number}, play_id=play_id, **who)


@dataclass
class Tally:
    """What has come of it so far: by idempotency key what the ledger says of the step; how long each round took."""

    said: dict[str, str] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)

    def add(self, plays: list[dict[str, Any]]) -> None:
        """Plays that are over."""
        for play in plays:
            for name, state in play["steps"].items():
                self.said[documents.idempotency_key(play["_id"], name)] = state["status"]

    def compare(self, keyed: Counter[str], once: Counter[str]) -> dict[str, int]:
        """Against the vendors' counts by key: what is wrong, and what had to be told as unknown."""
        done = Counter(key for key, status in self.said.items() if status == "done")
        return {
            "lost": len(done - keyed - once) + sum(s not in ("done", "outcome_unknown") for s in self.said.values()),
            "doubled": sum(count > 1 for count in (keyed + once).values()),
            "with another key": len((keyed + once).keys() - self.said.keys()),
            "told as unknown": sum(status == "outcome_unknown" for status in self.said.values()),
        }


def kill(worker: Worker, what: str, rng: random.Random) -> list[int]:
    """kill -9 of a pool process, of the parent alone, or of all at once; those that are to end by themselves."""
    children = worker.children()
    if what == "child":
        os.kill(rng.choice(children), signal.SIGKILL)
        return []
    if what == "all":
        worker.kill()
        return []
    worker.process.send_signal(signal.SIGKILL)
    worker.process.wait()
    return children


@pytest.fixture(params=["sqlite", "mongo"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path, lab: Lab, redis_url: str) -> Iterator[Deployment]:
    """On each store, as by default; vendors take a moment, so that every kill meets calls under way."""
    store = f"sqlite:///{tmp_path / 'flow8.db'}" if request.param == "sqlite" else request.getfixturevalue("mongo_uri")
    deployment = deploy(tmp_path, lab, store=store, broker=redis_url)
    deployment.connect("slack")
    config = {"hosts": [lab.services["web"]["base_url"].partition("//")[2]], "honours_idempotency_key": True}
    config["auth"] = {"type": "bearer", "value": "a-key-of-the-web-service"}
    body = {"name": "web", "kind": "request", "config": config, "is_default": True}
    deployment.platform.components(deployment.company_id).add(body)
    for service, operation in (("web", "charges.create"), ("slack", "chat.postMessage")):
        lab.fault(service, "delay", operation, times=None, answer_delay_ms=CALL_MS)
    yield deployment
    deployment.close()


def one_round(deployment: Deployment, load: Load, worker: Worker, rng: random.Random, tally: Tally) -> Worker:
    """Load, a kill at some moment, a restart, and what is left of it: the worker that is alive then."""
    store = deployment.platform.store
    load.begin()
    time.sleep(rng.uniform(0.1, 0.5))
    what = rng.choice(("child", "child", "child", "child", "parent", "all"))
    left = kill(worker, what, rng)
    restarted = time.monotonic()
    if what != "child":
        worker = deployment.start_worker(processes_=PROCESSES)
        restarted = time.monotonic()
    plays = load.end()

    over = {"_id": {"$in": plays}, "status": {"$in": ["DONE", "FAIL"]}}
    all_over = lambda: patiently(lambda: store.count("plays", over)) == len(plays)  # noqa: E731
    until(all_over, f"the end of all plays after {what}", timeout=PATIENCE_S)
    tally.took.append(time.monotonic() - restarted)
    log.info("%s killed, %d plays, all done after %.2f s", what, len(plays), tally.took[-1])

    tally.add(patiently(lambda: store.find("plays", over)))
    until(lambda: not any(alive(pid) for pid in left), "the end of the processes that have lost their parent")
    until(lambda: len(worker.children()) == PROCESSES, "a worker that is whole again")
    return worker


@pytest.mark.timeout(3600)
def test_two_hundred_kills_under_load_lose_nothing_and_do_nothing_twice(deployment: Deployment, lab: Lab) -> None:
    rng, tally = random.Random(SEED), Tally()
    worker = deployment.start_worker(processes_=PROCESSES)

    with Load(deployment, steps_on(lab)) as load:
        for number in range(1, KILLS + 1):
            worker = one_round(deployment, load, worker, rng, tally)
            if number % 25 == 0 or number == KILLS:
                found = tally.compare(*(Counter(lab.effects(service)["keys"]) for service in ("web", "slack")))
                log.info("%d kills, %d steps: %s", number, len(tally.said), found)
                assert (found["lost"], found["doubled"], found["with another key"]) == (0, 0, 0)

    took = sorted(tally.took)
    soon = sum(each < WANTED_S for each in took)
    log.info("all done after %.2f s, at most %.2f s; within %.0f s: %d", median(took), took[-1], WANTED_S, soon)
    assert median(took) < WANTED_S
