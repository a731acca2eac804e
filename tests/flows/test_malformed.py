"""Whatever somebody writes into the queues: the worker lives on, with the same processes, and executes none of it."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from bson import ObjectId

from flow8_lab.client import Lab
from flow8_runtime.app import TASKS
from flow8_runtime.documents import PLAYS
from tests.flows.deployment import Deployment, deploy
from tests.flows.raw import Queues, body, envelope
from tests.processes import until

OURS = ("flow8", "flow8.drain", "flow8.upkeep")
SEED, MUTANTS = 8, 400

DEEP = "[" * 100_000 + "]" * 100_000
JUNK: list[Any] = [
    None, True, 0, -1, 1e308, 2**63, "", "x", "\x00", "\ud800", "x" * 10_000, [], [[]], {}, {"$gt": ""},
    {"__type__": "uuid", "__value__": "no"}, {"__type__": "datetime", "__value__": 5}, ["a", {"b": [None]}],
    "2026-13-45T99:99:99", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "../../etc/passwd", "__import__",
]  # fmt: skip


@dataclass
class Target:
    """A worker, and messages that it would obey if they were in order."""

    deployment: Deployment
    queues: Queues
    processes: list[int]

    def good(self, name: str = "step", **changes: Any) -> dict[str, Any]:
        """What would call a vendor: the kwargs of a `flow8.execute`."""
        url = f"{self.deployment.lab.services['web']['base_url']}/echo"
        step = {"name": name, "module_ref": "http-request", "input_mapping": {"url": url}}
        ids = {"company_id": str(self.deployment.company_id), "user_id": str(self.deployment.user_id)}
        return {"version": 1, **ids, "play_id": "p", "step": step, "reply_to": f"answers.{name}", **changes}

    def message(self, **changes: Any) -> dict[str, Any]:
        """The same as a whole message."""
        return envelope("flow8.execute", self.good(**changes))

    def obeys(self, name: str) -> None:
        """All that was sent is taken out, nobody dies of it, and a message in order is executed after it."""
        until(lambda: not any(self.queues.length(queue) for queue in OURS), "empty queues")
        self.queues.send("flow8.execute", self.good(name))
        assert self.queues.take(f"answers.{name}", timeout=15)["status"] == "done"
        worker = self.deployment.workers[0]
        assert worker.children() == self.processes, worker.log.read_text()[-3000:]
        assert self.deployment.lab.requests("web")["count"] == 1
        assert self.deployment.platform.store.count(PLAYS, {"company_id": self.deployment.company_id}) == 1


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, lab_process: Lab, standing_redis: str) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("malformed")
    store = f"sqlite:///{folder / 'flow8.db'}"
    deployment = deploy(folder, lab_process, store=store, broker=standing_redis)
    worker = deployment.start_worker()
    yield Target(deployment, Queues(standing_redis), worker.children())
    deployment.close()


@pytest.fixture
def target(standing: Target, lab: Lab) -> Target:
    standing.deployment.move_in()
    return standing


def without(message: dict[str, Any], *path: str) -> dict[str, Any]:
    """The message without one of its members."""
    inner = message
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return message


def table(target: Target) -> Iterator[str | bytes]:
    """One fault each."""
    yield from (b"", b"junk", b"\xff\xfe\x00", b"{", b"[]", b"null", b"5", b'"text"', DEEP, "NaN", b"\x80\x04N.")
    yield from (json.dumps({"body": json.loads("[" * 900 + "]" * 900)}), '{"headers":' + DEEP + "}")
    good = target.message
    for path in (("body",), ("headers",), ("content-type",), ("headers", "task")):
        yield json.dumps(without(good(), *path))
    for name, values in {
        "body": ("***", "AAAA", base64.b64encode(b"\xff\xff").decode(), "x" * 5000, body(DEEP), 5, None, [1]),
        "content-type": ("application/x-python-serialize", "application/x-yaml", "text/plain", "", None, 7),
        "content-encoding": ("utf-16", "binary", "gzip", 3),
        "headers": ([], "task", {"task": "os.system"}, {"task": "celery.backend_cleanup"}, {"task": ["flow8.execute"]}),
        "properties": ([], "x", {"body_encoding": "rot13"}, {"body_encoding": 5}, {}),
    }.items():
        yield from (json.dumps({**good(), name: value}) for value in values)
    for value in ([], [[], {}], [["positional"], target.good(), {}], [[], [], {}], {"args": []}, 5, "args", None):
        yield json.dumps({**good(), "body": body(value)})
    yield json.dumps({**good(), "body": base64.b64encode(DEEP.encode()).decode()})
    yield json.dumps({**good(), "body": base64.b64encode(pickle.dumps(target.good())).decode()})
    packed = base64.b64encode(gzip.compress(json.dumps([[], target.good(), {}]).encode())).decode()
    headers = {**good()["headers"], "compression": "application/x-gzip"}
    yield json.dumps({**good(), "headers": headers, "body": packed})
    yield json.dumps({**good(), "headers": {**headers, "compression": None, "eta": 5}})
    yield json.dumps({**good(), "headers": {**headers, "compression": None, "expires": "2001-01-01T00:00:00"}})
    yield from (json.dumps(envelope(task, {"surprise": 1})) for task in sorted(TASKS))
    yield from (json.dumps(envelope(task, {})) for task in sorted(TASKS))
    for name in ("version", "company_id", "user_id", "play_id", "step"):
        yield json.dumps(envelope("flow8.execute", without(target.good(), name)))
        harmless = {"play_id": (str,), "version": (bool,)}.get(name, ())  # any short text is an id, and true is 1
        junk = [value for value in JUNK if not isinstance(value, harmless)]
        yield from (json.dumps(target.message(**{name: value})) for value in [*junk, "", "x" * 129])
    yield from (json.dumps(target.message(reply_to=name)) for name in ("a b", "x\n", "x" * 129, "", 5, "\ud800"))
    yield from (json.dumps(target.message(**{name: junk})) for name in ("args", "previous") for junk in (1, [], "x"))
    nested = json.loads("[" * 800 + "]" * 800)
    yield json.dumps(target.message(args={"a": nested}, reply_to=None))


def mutants(target: Target) -> Iterator[str]:
    """Messages with one to three places changed at random, none of which may be executed: of version 2."""
    rng = random.Random(SEED)
    for _ in range(MUTANTS):
        kwargs = target.good(version=2)
        message = envelope(rng.choice([*TASKS, "flow8.execute"]), kwargs)
        for _ in range(rng.randint(1, 3)):
            spoil(rng, message if rng.random() < 0.6 else kwargs)
            if rng.random() < 0.5:
                message["body"] = body([[], {**kwargs, "version": 2}, rng.choice(JUNK)])
        yield json.dumps(message)


def spoil(rng: random.Random, value: dict[str, Any]) -> None:
    """Change, drop or add a member somewhere in it."""
    while True:
        name = rng.choice([*value, "extra", "timelimit", "eta", "expires"])
        if isinstance(value.get(name), dict) and value[name] and rng.random() < 0.7:
            value = value[name]
            continue
        if rng.random() < 0.3:
            value.pop(name, None)
        else:
            value[name] = rng.choice(JUNK)
        return


def test_a_message_with_any_one_fault_is_dropped(target: Target) -> None:
    for text in table(target):
        target.queues.put(text)

    target.obeys("after-the-table")


@pytest.mark.parametrize("queue", OURS)
def test_messages_that_were_changed_at_random_execute_nothing(target: Target, queue: str) -> None:
    for text in mutants(target):
        target.queues.put(text, queue=queue)

    target.obeys(f"after-{queue.replace('.', '-')}")


def test_headers_that_celery_would_obey_are_not_read(target: Target) -> None:
    message = target.message(name="plain")
    message["headers"] |= {"timelimit": [0.001, 0.001], "retries": 99, "group": "g", "shadow": "x", "stamps": {"a": 1}}
    link = {"task": "flow8.execute", "args": [], "kwargs": target.good("linked"), "options": {"queue": "flow8"}}
    message["body"] = body([[], target.good("plain"), {"callbacks": [link], "chain": [link], "chord": link}])

    target.queues.put(json.dumps(message))

    assert target.queues.take("answers.plain")["status"] == "done"
    assert target.queues.length("answers.linked") == 0
    assert target.deployment.lab.requests("web")["count"] == 1


def test_no_content_of_a_dropped_message_is_logged(target: Target) -> None:
    canary = f"canary-{ObjectId()}"
    for message in (
        canary,
        json.dumps({"body": canary, "headers": {"task": canary}}),
        json.dumps(target.message(version=canary)),
    ):
        target.queues.put(message)

    target.obeys("after-the-canary")

    assert canary not in target.deployment.workers[0].log.read_text()
