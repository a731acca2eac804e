"""Testing a link asks its vendor once, and says what it said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from bson import ObjectId

from credentials.link_import import LinkImport
from flow8_core.errors import NotFound
from flow8_lab.client import Lab
from flow8_runtime.connectivity import check_link
from tests.flows.deployment import SCOPES, Deployment, deploy

GRANTED = {
    **SCOPES,
    "google": ["openid", "https://www.googleapis.com/auth/drive.file"],
    "clio": [],
    "quickbooks": ["com.intuit.quickbooks.accounting"],
    "bexio": ["openid", "offline_access", "contact_show"],
}
every_service = pytest.mark.parametrize("service", list(GRANTED))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, lab_process: Lab) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("connectivity")
    broker = "redis://127.0.0.1:1/0"
    services = {name: lab_process.services[name] for name in GRANTED}
    store = f"sqlite:///{folder / 'flow8.db'}"
    yield (
        deployment := deploy(
            folder, lab_process, store=store, broker=broker, services=services, oauth2=lab_process.oauth2
        )
    )
    deployment.close()


@pytest.fixture
def deployment(served: Deployment, lab: Lab) -> Deployment:
    served.company_id, served.user_id = ObjectId(), ObjectId()
    return served


def link_of(deployment: Deployment, service: str, **more: Any) -> str:
    platform = deployment.platform
    who = {"company_id": deployment.company_id, "user_id": deployment.user_id}
    line = deployment.lab.grant(service, scopes=GRANTED[service], **more)
    return str(LinkImport(platform.store, platform.vault, platform.providers, **who).run([json.dumps(line)])[0]["id"])


def ask(deployment: Deployment, link_id: str) -> dict[str, Any]:
    return check_link(deployment.platform, company_id=deployment.company_id, link_id=link_id)


@every_service
def test_a_link_that_works_is_answered_as_the_seed_does(deployment: Deployment, service: str) -> None:
    answer = ask(deployment, link_of(deployment, service))

    assert set(answer) == {"status", "service", "latency_ms", "token_valid", "scopes_granted", "user"}
    assert (answer["status"], answer["service"], answer["token_valid"]) == ("ok", service, True)
    assert isinstance(answer["latency_ms"], int)
    assert answer["user"]
    assert set(GRANTED[service]) <= set(answer["scopes_granted"])
    assert deployment.lab.effects(service)["count"] == 0


# Microsoft's access tokens work on until they are over; its refresh tokens do not.
@pytest.mark.parametrize(("service", "lifetime_s"), [("slack", 40_000), ("slack", 30), ("microsoft", 30)])
def test_a_grant_that_was_taken_back_is_not_valid(deployment: Deployment, service: str, lifetime_s: int) -> None:
    link_id = link_of(deployment, service, expires_in=lifetime_s)
    deployment.lab.control("/revoke", {"service": service})

    answer = ask(deployment, link_id)

    assert (answer["status"], answer["token_valid"]) == ("failed", False)
    assert answer["error"]["code"] in ("token_revoked", "invalid_grant")
    assert "message" in answer["error"]


@every_service
def test_a_refresh_that_is_due_happens_first(deployment: Deployment, service: str) -> None:
    link_id = link_of(deployment, service, expires_in=30)

    answer = ask(deployment, link_id)

    assert answer["status"] == "ok"
    assert deployment.lab.requests(service, "token.refresh")["count"] == 1
    assert ask(deployment, link_id)["status"] == "ok"
    assert deployment.lab.requests(service, "token.refresh")["count"] == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "reply", "status": 503, "body": {}}, "provider_unavailable"),
        ({"kind": "html", "status": 502}, "provider_unavailable"),
        ({"kind": "rate_limited"}, "rate_limit_exceeded"),
        ({"kind": "drop_answer"}, "provider_unavailable"),
        ({"kind": "reply", "status": 200, "body": "no JSON"}, "vendor_bad_response"),
    ],
    ids=lambda fault: fault["kind"] if isinstance(fault, dict) else "",
)
@every_service
def test_a_vendor_in_trouble_leaves_the_question_open(
    deployment: Deployment, service: str, fault: dict[str, Any], code: str
) -> None:
    link_id = link_of(deployment, service)
    ask(deployment, link_id)  # what a server says of itself is known from now on: the fault is the question's
    deployment.lab.fault(service, **fault)

    answer = ask(deployment, link_id)

    assert (answer["status"], answer["token_valid"]) == ("failed", None)
    assert answer["error"]["code"] == code


def test_a_link_that_was_revoked_here_is_not_asked_about(deployment: Deployment) -> None:
    link_id = link_of(deployment, "slack")
    deployment.platform.unlink(deployment.company_id).link(link_id)

    answer = ask(deployment, link_id)

    assert (answer["status"], answer["token_valid"], answer["error"]["code"]) == ("failed", False, "access_denied")
    assert answer["error"]["link_id"] == link_id
    assert deployment.lab.requests("slack")["count"] == 0


def test_a_link_of_another_company_is_not_there(deployment: Deployment) -> None:
    link_id = link_of(deployment, "slack")

    with pytest.raises(NotFound):
        check_link(deployment.platform, company_id=ObjectId(), link_id=link_id)
    assert deployment.lab.requests("slack")["count"] == 0


def test_no_answer_holds_a_token(deployment: Deployment) -> None:
    link_id = link_of(deployment, "slack")
    good = ask(deployment, link_id)
    deployment.lab.control("/revoke", {"service": "slack"})

    said = json.dumps([good, ask(deployment, link_id)], default=str)

    assert not any(secret in said for secret in deployment.lab.secrets())
