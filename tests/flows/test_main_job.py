"""The main job, end to end: a flow of four modules through real workers, on both stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from bson import ObjectId

from tests.flows.deployment import Deployment
from tests.processes import until

FIXTURES = Path(__file__).parents[2] / "fixtures"
INVOICE = yaml.safe_load((FIXTURES / "flows" / "invoice.yaml").read_text())
SEED = json.loads((FIXTURES / "seed" / "steps.json").read_text())


def _args(deployment: Deployment) -> dict[str, Any]:
    services = deployment.lab.services
    return {"billing_url": services["web"]["base_url"], "invoice": "001", "bucket": services["s3"]["bucket"]}


def _counts(deployment: Deployment) -> dict[str, int]:
    return {service: deployment.lab.effects(service)["count"] for service in ("s3", "slack", "microsoft")}


def test_a_flow_of_four_modules_lands_once_at_each_vendor_with_one_refresh_on_the_way(deployment: Deployment) -> None:
    deployment.connect("slack", "microsoft", microsoft=61)
    deployment.add_s3()
    deployment.start_worker()

    play = deployment.wait(deployment.submit(INVOICE, _args(deployment)))

    assert play["status"] == "DONE", play
    assert [step["status"] for step in play["steps"]] == ["done"] * 4
    assert _counts(deployment) == {"s3": 1, "slack": 1, "microsoft": 1}


def test_the_seeds_steps_run_as_they_stand_with_real_ids_and_the_file_in_the_workspace(
    served: Deployment, tmp_path: Path
) -> None:
    links = served.connect("slack", "microsoft")
    served.add_s3()
    steps = [dict(step, input_mapping=dict(step["input_mapping"])) for step in SEED.values()]
    for step in steps:
        service = {"slack-message": "slack", "microsoft-calendar": "microsoft"}.get(step["module_ref"])
        if service:
            step["input_mapping"]["link_id"] = links[service]
        if step["module_ref"] == "http-request":
            step["input_mapping"]["url"] = f"{served.lab.services['web']['base_url']}/echo"
    flow = tmp_path / "seed.json"
    flow.write_text(json.dumps({"name": "seed", "steps": steps}))
    invoice = tmp_path / "invoice.pdf"
    invoice.write_bytes(b"%PDF-1.7 an invoice")

    play = served.flow8("run", str(flow), "--file", f"/tmp/invoice.pdf={invoice}", "--json")

    assert play["status"] == "DONE", play
    assert _counts(served) == {"s3": 1, "slack": 1, "microsoft": 1}


def test_a_step_without_a_link_says_which_service_to_connect(served: Deployment) -> None:
    step = {
        "name": "notify",
        "module_ref": "slack-message",
        "input_mapping": {"channel": "#notifications", "message": "x"},
    }

    play = served.wait(served.submit({"name": "one", "steps": [step]}))

    error = play["steps"][0]["error"]
    assert (play["status"], error["code"]) == ("FAIL", "access_denied")
    assert "slack" in error["message"].lower()


def test_a_link_of_another_company_looks_like_one_that_is_not_there(served: Deployment) -> None:
    links = served.connect("slack")
    mapping = {"channel": "#notifications", "message": "x"}

    def run(link_id: str) -> dict[str, Any]:
        step = {"name": "notify", "module_ref": "slack-message", "input_mapping": {**mapping, "link_id": link_id}}
        play_id = served.door.submit({"name": "one", "steps": [step]}, company_id=ObjectId(), user_id=served.user_id)
        stranger = served.platform.ledger.origin(play_id)["company_id"]
        play = served.door.wait(play_id, company_id=stranger, timeout=20)
        return dict(play["steps"][0]["error"])

    assert run(links["slack"]) == run(str(ObjectId()))
    assert served.lab.requests("slack")["count"] == 0


def test_a_429_parks_the_step_and_it_is_done_afterwards(served: Deployment) -> None:
    served.connect("slack")
    served.lab.fault("slack", "rate_limited", "chat.postMessage", retry_after=1)
    step = {
        "name": "notify",
        "module_ref": "slack-message",
        "input_mapping": {"channel": "#notifications", "message": "x"},
    }

    play = served.wait(served.submit({"name": "one", "steps": [step]}))

    assert (play["status"], play["steps"][0]["attempts"]) == ("DONE", 2)
    assert served.lab.effects("slack")["count"] == 1


def test_a_lost_answer_of_a_once_step_is_outcome_unknown_and_not_repeated(served: Deployment) -> None:
    served.connect("slack")
    served.lab.fault("slack", "drop_answer", "chat.postMessage")
    step = {
        "name": "notify",
        "module_ref": "slack-message",
        "input_mapping": {"channel": "#notifications", "message": "x"},
        "retry": {"max_retries": 3, "initial_delay_ms": 10},
    }

    play = served.wait(served.submit({"name": "one", "steps": [step]}))

    assert (play["status"], play["steps"][0]["status"]) == ("FAIL", "outcome_unknown")
    assert served.lab.effects("slack")["count"] == 1


def test_a_lost_answer_of_a_keyed_step_is_repeated_with_the_same_key(served: Deployment) -> None:
    served.connect("microsoft")
    served.lab.fault("microsoft", "drop_answer", "events.create")
    step = {**SEED["send-meeting-invite"], "retry": {"max_retries": 3, "initial_delay_ms": 10}}
    step["input_mapping"] = {key: value for key, value in step["input_mapping"].items() if key != "link_id"}

    play = served.wait(served.submit({"name": "one", "steps": [step]}))

    seen = served.lab.effects("microsoft")
    assert play["status"] == "DONE", play
    assert (seen["count"], len(seen["keys"])) == (1, 1)


def test_a_step_whose_link_needs_reconnecting_waits_and_goes_on_after_the_reconnection(served: Deployment) -> None:
    served.connect("slack", slack=61)
    served.lab.control("/revoke", {"service": "slack"})
    step = {
        "name": "notify",
        "module_ref": "slack-message",
        "input_mapping": {"channel": "#notifications", "message": "x"},
    }
    play_id = served.submit({"name": "one", "steps": [step]})
    until(lambda: _waits_for_a_link(served, play_id), "a step that waits for its link")

    served.connect("slack")
    play = served.wait(play_id)

    assert play["status"] == "DONE", play


def _waits_for_a_link(deployment: Deployment, play_id: ObjectId) -> bool:
    step = deployment.platform.ledger.get(play_id, company_id=deployment.company_id)["steps"]["notify"]
    return step["status"] == "parked" and str(step.get("waiting_for", "")).startswith("link:")
