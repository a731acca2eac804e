"""Messages from another language: written by hand into Redis lists, and answered in others."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from bson import ObjectId

from flow8_lab.client import Lab
from flow8_runtime import attempt, engine, messages
from flow8_runtime.documents import PLAYS
from tests.flows.deployment import Deployment, deploy, standing
from tests.flows.raw import Queues
from tests.processes import until

KEY = "a message key of this deployment"
SLACK_STEP = {
    "name": "notify",
    "module_ref": "slack-message",
    "input_mapping": {
        "channel": "#notifications",
        "message": "Invoice {{ $prev.fetch.number }} for {{ $prev.args.who }}",
    },
}


@pytest.fixture(scope="module")
def served_by_mongo(
    tmp_path_factory: pytest.TempPathFactory, lab_process: Lab, standing_redis: str, mongo_server: str
) -> Iterator[Deployment]:
    """One worker for all tests of this file that leave it alive."""
    store = f"{mongo_server}/flow8_test_{ObjectId()}"
    folder = tmp_path_factory.mktemp("standing")
    with standing(folder, lab_process, store=store, broker=standing_redis, worker={"sweep_s": 0.3}) as deployment:
        yield deployment


@pytest.fixture
def here(served_by_mongo: Deployment, lab: Lab) -> Deployment:
    """The standing deployment, seen from a new company with a Slack link."""
    served_by_mongo.move_in()
    served_by_mongo.connect("slack")
    return served_by_mongo


@pytest.fixture
def queues(standing_redis: str) -> Queues:
    return Queues(standing_redis)


def execute(deployment: Deployment, **changes: Any) -> dict[str, Any]:
    """The kwargs of a `flow8.execute`, with a queue of its own for the answer."""
    return {
        "version": 1,
        "company_id": str(deployment.company_id),
        "user_id": str(deployment.user_id),
        "play_id": f"go-{uuid.uuid4()}",
        "args": {"who": "Example"},
        "previous": {"fetch": {"number": "INV-001"}},
        "step": SLACK_STEP,
        "reply_to": f"answers.{uuid.uuid4()}",
        **changes,
    }


def plays_of(deployment: Deployment) -> int:
    return deployment.platform.store.count(PLAYS, {"company_id": deployment.company_id})


def test_a_whole_step_is_executed_and_its_outcome_sent_to_the_named_queue(here: Deployment, queues: Queues) -> None:
    message = execute(here)

    queues.send("flow8.execute", message)
    answer = queues.take(message["reply_to"])

    posted = here.lab.effects("slack")["items"][0]["message"]
    assert posted["text"] == "Invoice INV-001 for Example"
    assert answer == {
        "task": "flow8.step_done",
        "version": 1,
        "company_id": message["company_id"],
        "play_id": message["play_id"],
        "step_run_id": f"{messages.Execute.model_validate(message).ledger_id}:notify",
        "step": "notify",
        "status": "done",
        "output": answer["output"],
        "error": None,
    }
    assert answer["output"]["ts"] == posted["ts"]


def test_a_step_that_is_sent_twice_happens_once_and_is_answered_twice(here: Deployment, queues: Queues) -> None:
    message = execute(here)
    queues.send("flow8.execute", message)
    first = queues.take(message["reply_to"])

    queues.send("flow8.execute", message)
    second = queues.take(message["reply_to"])

    assert first == second
    assert here.lab.effects("slack")["count"] == 1


def test_a_step_that_cannot_be_taken_up_is_answered_at_once(here: Deployment, queues: Queues) -> None:
    message = execute(here, step={**SLACK_STEP, "timeout": "soon"})

    queues.send("flow8.execute", message)
    answer = queues.take(message["reply_to"])

    assert (answer["status"], answer["error"]["code"]) == ("failed", "validation_error")
    assert plays_of(here) == 0


def test_a_step_that_had_to_wait_is_answered_when_it_is_over(here: Deployment, queues: Queues) -> None:
    here.lab.fault("slack", "rate_limited", "chat.postMessage", retry_after=1)
    message = execute(here)

    queues.send("flow8.execute", message)
    answer = queues.take(message["reply_to"])

    assert answer["status"] == "done"
    assert here.lab.requests("slack", "chat.postMessage")["count"] == 2


@pytest.mark.parametrize(
    ("point", "status"),
    # a step that waits for nothing is marked together with its claim: from then on only the vendor knows
    [pytest.param(engine.CLAIMED, "outcome_unknown", marks=pytest.mark.proof), (attempt.AFTER_CALL, "outcome_unknown")],
)
def test_what_a_killed_worker_had_taken_is_answered_by_another(
    embedded: Deployment, redis_url: str, point: str, status: str
) -> None:
    queues = Queues(redis_url)
    embedded.connect("slack")
    doomed = embedded.start_worker(crash_at=f"{point}:1:stop")
    message = execute(embedded)
    queues.send("flow8.execute", message)
    until(doomed.stopped, f"a worker at {point}")
    doomed.kill()

    embedded.start_worker()
    answer = queues.take(message["reply_to"])

    assert answer["status"] == status
    assert embedded.lab.effects("slack")["count"] == (point == attempt.AFTER_CALL)


def test_a_deferred_step_is_made_due_by_a_message(here: Deployment, queues: Queues) -> None:
    step = {**SLACK_STEP, "input_mapping": {"channel": "#notifications", "message": "x"}, "defer_after_ms": 3_600_000}
    play_id = here.submit({"name": "later", "steps": [step]})
    waiting = here.door.wait(play_id, company_id=here.company_id, timeout=0.5)

    queues.send("flow8.run_step", {"version": 1, "step_run_id": f"{play_id}:notify"})
    play = here.wait(play_id)

    assert waiting["steps"][0]["status"] == "queued"
    assert play["status"] == "DONE"


def test_a_hundred_wake_ups_and_a_few_sweeps_make_nothing_happen_twice(here: Deployment, queues: Queues) -> None:
    for _ in range(100):
        queues.send("flow8.drain", {}, queue="flow8.drain")
    for _ in range(5):
        queues.send("flow8.sweep", {}, queue="flow8.upkeep")
    step = {**SLACK_STEP, "input_mapping": {"channel": "#notifications", "message": "x"}}

    plays = [here.wait(here.submit({"name": "one", "steps": [step]})) for _ in range(3)]
    until(lambda: queues.length("flow8.drain") == queues.length("flow8.upkeep") == 0, "empty queues")

    assert [play["status"] for play in plays] == ["DONE"] * 3
    assert here.lab.effects("slack")["count"] == 3


def test_a_link_is_refreshed_by_a_message_of_its_own_company_alone(here: Deployment, queues: Queues) -> None:
    link = here.platform.links(here.company_id).list()[0]
    names = {"version": 1, "link_id": str(link.id)}

    queues.send("flow8.refresh_link", {**names, "company_id": str(ObjectId())}, queue="flow8.upkeep")
    queues.send("flow8.refresh_link", {**names, "company_id": str(here.company_id)}, queue="flow8.upkeep")
    until(lambda: here.platform.links(here.company_id).get(link.id).generation == link.generation + 1, "a refresh")

    assert here.lab.requests("slack")["operations"] == {"token.refresh": 1}


# ---- foreign ids


def test_nobody_reaches_another_companys_link_by_any_combination_of_ids(here: Deployment, queues: Queues) -> None:
    ours = {"company_id": str(here.company_id), "user_id": str(here.user_id)}
    our_link = str(here.platform.links(here.company_id).list()[0].id)
    here.move_in()
    here.connect("slack")
    theirs = {"company_id": str(here.company_id), "user_id": str(here.user_id)}
    their_link = str(here.platform.links(here.company_id).list()[0].id)
    nobody = str(ObjectId())
    table = [
        ({**ours}, their_link),
        ({**theirs}, our_link),
        ({**ours, "user_id": theirs["user_id"]}, our_link),
        ({**ours, "user_id": theirs["user_id"]}, their_link),
        ({**theirs, "user_id": ours["user_id"]}, our_link),
        ({"company_id": nobody, "user_id": ours["user_id"]}, our_link),
        ({**ours, "user_id": nobody}, our_link),
        ({**ours}, nobody),
    ]

    errors = []
    for ids, link_id in table:
        step = {**SLACK_STEP, "input_mapping": {**SLACK_STEP["input_mapping"], "link_id": link_id}}
        message = execute(here, **ids, step=step)
        queues.send("flow8.execute", message)
        answer = queues.take(message["reply_to"])
        assert answer["status"] == "failed"
        errors.append(answer["error"])

    assert errors == [errors[0]] * len(table)  # not yours and not there look alike
    assert errors[0]["code"] == "access_denied"
    assert here.lab.requests("slack")["count"] == 0


def test_a_user_of_another_company_gets_no_link_by_default_either(here: Deployment, queues: Queues) -> None:
    message = execute(here, user_id=str(ObjectId()))

    queues.send("flow8.execute", message)

    assert queues.take(message["reply_to"])["error"]["code"] == "access_denied"
    assert here.lab.requests("slack")["count"] == 0


def test_a_step_of_another_company_cannot_be_read_by_sending_its_play_again(here: Deployment, queues: Queues) -> None:
    message = execute(here)
    queues.send("flow8.execute", message)
    queues.take(message["reply_to"])

    foreign = {**message, "company_id": str(ObjectId()), "reply_to": f"answers.{uuid.uuid4()}"}
    queues.send("flow8.execute", foreign)
    answer = queues.take(foreign["reply_to"])

    assert (answer["status"], answer["output"]) == ("failed", None)
    assert here.lab.effects("slack")["count"] == 1


# ---- signatures


@pytest.fixture
def keyed(tmp_path_factory: pytest.TempPathFactory, lab: Lab, standing_redis: str) -> Iterator[Deployment]:
    """A deployment with a message key and queues of its own."""
    folder = tmp_path_factory.mktemp("keyed")
    broker = standing_redis.removesuffix("/5") + "/6"
    Queues(broker).redis.flushdb()
    store = f"sqlite:///{folder / 'flow8.db'}"
    deployment = deploy(folder, lab, store=store, broker=broker, environ={messages.MESSAGE_KEY: KEY})
    deployment.connect("slack")
    deployment.start_worker()
    yield deployment
    deployment.close()


def test_where_there_is_a_key_only_what_is_signed_with_it_is_believed(keyed: Deployment, standing_redis: str) -> None:
    queues = Queues(standing_redis.removesuffix("/5") + "/6")
    plain, altered, good = execute(keyed), execute(keyed), execute(keyed, args={"who": "Exämple", "n": [1.5, 10**15]})
    deferred = keyed.submit({"name": "later", "steps": [{**SLACK_STEP, "input_mapping": {}, "defer_after_ms": 10**6}]})
    signature = messages.sign(altered, KEY)

    queues.send("flow8.execute", plain)
    queues.send("flow8.execute", {**plain, "signature": ""})
    queues.send("flow8.execute", {**plain, "signature": None})
    queues.send("flow8.execute", {**plain, "signature": messages.sign(plain, "another key")})
    queues.send("flow8.execute", {**altered, "play_id": "another", "signature": signature})
    queues.send("flow8.execute", {**altered, "args": {}, "signature": signature.upper()})
    queues.send("flow8.run_step", {"version": 1, "step_run_id": f"{deferred}:notify"})
    queues.send("flow8.execute", {**good, "signature": messages.sign(good, KEY)})
    answer = queues.take(good["reply_to"])  # one queue, one process: what came before it has been looked at

    assert answer["status"] == "done"
    assert keyed.lab.effects("slack")["count"] == 1
    assert plays_of(keyed) == 2
    assert keyed.door.wait(deferred, company_id=keyed.company_id, timeout=0)["steps"][0]["status"] == "queued"
    assert queues.length(plain["reply_to"]) == queues.length(altered["reply_to"]) == 0
    assert KEY not in keyed.workers[0].log.read_text()
