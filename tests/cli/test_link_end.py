"""`flow8 link expiring` and `flow8 link revoke`: what ends, and ending it at the laboratory's vendors."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from bson import ObjectId

from flow8_lab.client import Lab
from tests.cli.kit import Home
from tests.flows.deployment import Deployment

NOTIFY = {"name": "notify-slack", "module_ref": "slack-message"}


def flow(name: str, **mapping: str) -> dict[str, object]:
    return {
        "name": name,
        "steps": [{**NOTIFY, "order": 1, "input_mapping": {"channel": "#general", "message": "hi", **mapping}}],
    }


@pytest.fixture
def started(deployment: Deployment, connected: dict[str, str]) -> dict[str, str]:
    """Two flows that were started: one names its link, one takes whichever there is. And one of another service."""
    deployment.submit(flow("invoices", link_id=connected["slack"]))
    deployment.submit(flow("reports"))
    other = {"channel": "#general", "message": "hi", "link_id": str(ObjectId())}
    deployment.submit(flow("strangers", **other))
    return connected


def test_a_link_is_revoked_here_and_at_the_vendor(office: Home, lab: Lab, connected: dict[str, str]) -> None:
    done = office.flow8("link", "revoke", connected["slack"], "--json")

    assert done.code == 0, done.said
    (link,) = done.document["links"]
    assert (link["id"], link["status"], link["status_reason"]) == (connected["slack"], "revoked", "unlinked")
    assert (link["vendor"], done.document["dry_run"]) == ("revoked", False)
    assert lab.requests("slack", "auth.revoke")["count"] >= 1
    tested = office.flow8("link", "test", connected["slack"], "--json")
    assert (tested.code, tested.document["error"]["code"]) == (1, "access_denied")


def test_a_dry_run_lists_links_and_flows_and_changes_nothing(office: Home, lab: Lab, started: dict[str, str]) -> None:
    done = office.flow8("link", "revoke", "--service", "slack", "--dry-run", "--json")

    assert done.code == 0, done.said
    assert done.document["flows"] == [
        {"name": "invoices", "steps": ["notify-slack"]},
        {"name": "reports", "steps": ["notify-slack"]},
    ]
    assert [(link["id"], link["status"], link["vendor"]) for link in done.document["links"]] == [
        (started["slack"], "active", None)
    ]
    shown = office.flow8("link", "revoke", started["slack"], "--dry-run")
    assert "invoices" in shown.stdout
    assert "Nothing was revoked." in shown.stderr
    assert lab.requests("slack", "auth.revoke")["count"] == 0
    assert office.flow8("link", "show", started["slack"], "--json").document["status"] == "active"


def test_all_links_of_a_service_want_a_yes(office: Home, started: dict[str, str]) -> None:
    asked = office.flow8("link", "revoke", "--service", "slack", "--json")
    assert (asked.code, asked.document["error"]["path"]) == (2, "--yes")

    done = office.flow8("link", "revoke", "--service", "slack", "--yes")

    assert done.code == 0, done.said
    assert "Flows that break now" in done.stdout
    statuses = {link["service"]: link["status"] for link in office.flow8("link", "list", "--json").document["links"]}
    assert statuses == {"slack": "revoked", "microsoft": "active"}
    assert office.flow8("link", "revoke", "--service", "slack", "--yes", "--json").document["links"] == []


def test_a_vendor_that_is_away_leaves_the_revocation_to_the_workers(
    office: Home, lab: Lab, connected: dict[str, str]
) -> None:
    lab.fault("slack", "html", "auth.revoke")

    done = office.flow8("link", "revoke", connected["slack"])
    again = office.flow8("link", "revoke", connected["slack"], "--json")

    assert (done.code, again.code) == (0, 0), done.said
    assert "pending" in done.stdout
    assert "next worker" in done.stderr
    assert again.document["links"][0]["status"] == "revoked"


@pytest.mark.parametrize("words", [(), ("6923f0c2a7d1e84b5c0f9a12", "--service", "slack")])
def test_what_is_meant_must_be_said_in_one_way(office: Home, words: tuple[str, ...]) -> None:
    done = office.flow8("link", "revoke", *words, "--json")

    assert (done.code, done.document["error"]["path"]) == (2, "ID")


def test_a_service_that_nobody_knows_and_a_link_that_is_not_there_are_told(office: Home) -> None:
    unknown = office.flow8("link", "revoke", "--service", "slcak", "--yes", "--json")
    missing = office.flow8("link", "revoke", str(ObjectId()), "--json")

    assert (unknown.code, unknown.document["error"]["code"]) == (2, "validation_error")
    assert "slack" in unknown.document["error"]["message"]
    assert (missing.code, missing.document["error"]["code"]) == (1, "not_found")


def test_links_that_end_soon_are_listed_with_why_and_what_to_do(
    office: Home, deployment: Deployment, connected: dict[str, str]
) -> None:
    store = deployment.platform.store
    end = store.now() + timedelta(days=3)
    named = {"_id": ObjectId(connected["microsoft"]), "company_id": deployment.company_id}
    assert store.update("db_links", named, {"$set": {"grant_expires_at": end}}) is not None

    done = office.flow8("link", "expiring", "--json")
    shown = office.flow8("link", "expiring", "--days", "2")

    (link,) = done.document["links"]
    assert link["id"] == connected["microsoft"]
    assert set(link["forecast"]) == {"at", "rule", "renews", "message"}
    assert (link["forecast"]["rule"], link["forecast"]["renews"]) == ("grant", False)
    assert f"--reconnect {connected['microsoft']}" in link["forecast"]["message"]
    assert connected["microsoft"] not in shown.stdout
    every = office.flow8("link", "expiring", "--all", "--json").document["links"]
    assert {(each["service"], each["forecast"]["rule"]) for each in every} >= {
        ("slack", "token"), ("microsoft", "token"), ("microsoft", "grant"),
    }  # fmt: skip
    assert not any(secret in done.said + shown.said + json.dumps(every) for secret in deployment.lab.secrets())
