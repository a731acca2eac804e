"""`flow8 run`: what goes in, what comes out, and the worker that is there for its time alone."""

from __future__ import annotations

import json
import signal
import uuid
from typing import Any

import pytest

from flow8_runtime.owners import Owners
from tests import processes
from tests.cli.kit import Home, left_behind
from tests.flows.deployment import Deployment


def flow_of(*steps: dict[str, Any]) -> str:
    return json.dumps({"name": "test", "steps": list(steps)})


def get(url: str, **more: Any) -> dict[str, Any]:
    return {"name": "fetch", "module_ref": "http-request", "input_mapping": {"url": url}, **more}


def test_a_run_brings_its_own_worker_and_takes_it_away_again(office: Home, deployment: Deployment) -> None:
    mark = office.environ["MARK"] = uuid.uuid4().hex
    web = deployment.lab.services["web"]["base_url"]
    first = get("{{ $prev.args.web }}/invoices/{{ $prev.args.id }}", queue="reports")
    then = {**get("{{ $prev.fetch.body.document_url }}"), "name": "document"}
    flow = office.write("flow.json", flow_of(first, then))
    office.write("invoice.pdf", "%PDF")
    text = json.dumps({"web": web, "id": "001"})

    ran = office.run("run", flow, "--input", "-", "--file", "/tmp/invoice.pdf=invoice.pdf", "--json", text=text)

    assert ran.code == 0, ran.said
    assert set(ran.document) == {"play_id", "status", "seconds", "steps"}
    assert ran.document["status"] == "DONE"
    fetch = ran.document["steps"][0]
    assert set(fetch) == {"name", "module_ref", "status", "attempts", "output", "error"}
    assert fetch["output"]["body"]["number"] == "INV-001"
    workspace = office.folder / "home" / "workspace" / ran.document["play_id"]
    assert (workspace / "tmp" / "invoice.pdf").read_text() == "%PDF"
    assert left_behind(mark) == []


def test_a_worker_that_does_not_come_up_is_told_instead_of_waited_for(home: Home) -> None:
    (home.folder / ".flow8" / "valkey.log").mkdir(parents=True)  # where the worker's broker would write

    ran = home.run("run", "-", "--json", text=flow_of(get("https://example.com")), timeout=30)

    assert ran.code == 1
    message = ran.document["error"]["message"]
    assert "worker" in message
    assert ".flow8/worker.log" in message


def test_a_detached_run_prints_the_id_alone_and_starts_nothing(home: Home) -> None:
    mark = home.environ["MARK"] = uuid.uuid4().hex
    text = flow_of(get("https://example.com"))

    plain, as_json = home.run("run", "-", "--detach", text=text), home.run("run", "-", "--detach", "--json", text=text)

    assert (plain.code, as_json.code) == (0, 0)
    ids = {plain.stdout.strip(), as_json.document["play_id"]}
    assert {play["play_id"] for play in home.flow8("plays", "--json").document["plays"]} == ids
    assert left_behind(mark) == []
    assert not (home.folder / ".flow8" / "broker.json").exists()


def test_where_a_worker_is_alive_none_is_started(office: Home, deployment: Deployment) -> None:
    deployment.start_worker()
    owners = Owners(deployment.platform.store, deployment.platform.settings.home)
    processes.until(owners.any_alive, "the worker's first sign of life")
    step = {"name": "post", "module_ref": "slack-message", "input_mapping": {"channel": "#a", "message": "x"}}
    later = get(deployment.lab.services["web"]["base_url"], defer_after_ms=600_000)

    failed = office.flow8("run", "-", "--json", text=flow_of(step))
    late = office.flow8("run", "-", "--json", "--timeout", "0.5", text=flow_of(later))

    assert (failed.code, failed.document["status"]) == (1, "FAIL")
    assert set(failed.document["steps"][0]["error"]) >= {
        "code", "message", "retryable", "reconnect", "retry_after", "door", "step", "link_id",
    }  # fmt: skip
    shown = office.flow8("plays", failed.document["play_id"]).stdout
    assert "access_denied" in shown
    assert "flow8 link connect slack" in shown
    assert (late.code, late.document["status"]) == (1, "RUN")
    assert late.document["play_id"] in late.stderr
    listed = [line.split()[:2] for line in office.flow8("plays").stdout.splitlines()[1:]]
    assert listed[1] == [failed.document["play_id"], "FAIL"]
    assert not (office.folder / "home" / "worker.log").exists()


@pytest.mark.proof
def test_a_detached_play_is_done_by_a_worker_that_ctrl_c_ends_in_good_order(
    office: Home, deployment: Deployment
) -> None:
    mark = deployment.environ["MARK"] = uuid.uuid4().hex
    slow = get(f"{deployment.lab.services['web']['base_url']}/slow?bytes=10")  # one second
    play_id = office.flow8("run", "-", "--detach", text=flow_of(slow, {**slow, "name": "next"})).stdout.strip()
    worker = deployment.start_worker()

    def status(step: int) -> str:
        play = office.flow8("plays", play_id, "--json").document
        return str(play["steps"][step]["status"])

    processes.until(lambda: status(0) == "calling", "a call in flight")
    worker.signal_all(signal.SIGINT)  # as a terminal does: to the worker and its pool processes

    assert worker.process.wait(20) == 0, worker.log.read_text()
    assert (status(0), status(1)) == ("done", "queued")  # what was in flight is done, nothing new was begun
    assert left_behind(mark) == []
    assert not Owners(deployment.platform.store, deployment.platform.settings.home).any_alive()
