"""Faults on demand: what the client sees, and what happened all the same."""

from __future__ import annotations

import json
import threading
from contextlib import nullcontext
from typing import Any

import pytest
import urllib3

from flow8_lab.faults import Fault, Faults
from tests.counterparts.lab import Lab
from tests.lab.conftest import Http, MicrosoftApp, SlackApp
from tests.processes import until

MESSAGE = {"channel": "#notifications", "text": "Hello"}


@pytest.fixture
def token(lab: Lab) -> str:
    return str(lab.grant("slack")["access_token"])


def answers_of(slack: SlackApp, token: str, answers: list[Any]) -> None:
    """Post a message, and put the answer, or how it failed, into `answers`."""
    try:
        answers.append(slack.call("chat.postMessage", MESSAGE, token=token))
    except urllib3.exceptions.HTTPError as error:
        answers.append(error)


def posted(lab: Lab) -> int:
    return int(lab.effects("slack")["count"])


def test_rate_limiting_is_slacks_own_and_ends(lab: Lab, slack: SlackApp, http: Http, token: str) -> None:
    lab.fault("slack", "rate_limited", "chat.postMessage", times=2, retry_after=7)
    url = f"{slack.urls['base_url']}chat.postMessage"

    answers = [http.post(url, MESSAGE, token=token) for _ in range(3)]

    assert [answer.status for answer in answers] == [429, 429, 200]
    assert (answers[0].headers["Retry-After"], answers[0].json) == ("7", {"ok": False, "error": "ratelimited"})
    assert posted(lab) == 1


def test_an_error_is_worded_as_the_vendor_does(lab: Lab, slack: SlackApp, microsoft: MicrosoftApp, http: Http) -> None:
    lab.fault("slack", "error", "auth.test", error="fatal_error")
    lab.fault("microsoft", "error", "token", error="7000222")
    lab.fault("microsoft", "error", "me", error="ErrorServerBusy")
    lab.fault("microsoft", "rate_limited", "userinfo", retry_after=10)

    token_answer = microsoft.refresh("any")
    graph_answer = http.get(f"{microsoft.graph}me", token="any")
    limited = http.get(microsoft.graph.replace("/v1.0/", "/oidc/userinfo"), token="any")

    assert slack.call("auth.test", token="any") == {"ok": False, "error": "fatal_error"}
    assert (token_answer.status, token_answer.json["error"], token_answer.json["error_codes"]) == (
        401,
        "invalid_client",
        [7000222],
    )
    assert (graph_answer.status, graph_answer.json["error"]["code"]) == (503, "ErrorServerBusy")
    assert (limited.status, limited.json["error"]["code"], limited.headers["Retry-After"]) == (
        429,
        "ApplicationThrottled",
        "10",
    )


def test_a_page_of_html_and_any_literal_answer_can_be_had(lab: Lab, slack: SlackApp, http: Http) -> None:
    lab.fault("slack", "html", "auth.test", status=503)
    lab.fault("slack", "reply", "auth.test", status=418, headers={"X-Tea": "1"}, body={"short": "stout"})
    url = f"{slack.urls['base_url']}auth.test"

    page, literal = http.post(url, {}), http.post(url, {})

    assert (page.status, page.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert (literal.status, literal.headers["X-Tea"], literal.json) == (418, "1", {"short": "stout"})


@pytest.mark.parametrize(("kind", "happened"), [("drop_request", 0), ("drop_answer", 1), ("truncate", 1)])
def test_a_lost_answer_says_nothing_of_whether_it_happened(
    lab: Lab, slack: SlackApp, token: str, kind: str, happened: int
) -> None:
    lab.fault("slack", kind, "chat.postMessage")

    with pytest.raises(urllib3.exceptions.HTTPError):
        slack.call("chat.postMessage", MESSAGE, token=token)

    assert posted(lab) == happened
    assert slack.call("chat.postMessage", MESSAGE, token=token)["ok"]


@pytest.mark.parametrize("cut", [False, True])
def test_a_dripping_answer_comes_whole_unless_the_client_loses_patience(lab: Lab, slack: SlackApp, cut: bool) -> None:
    grant = lab.grant("slack")
    lab.fault("slack", "drip", "auth.test", pause_ms=60_000 if cut else 0.1)
    client = urllib3.PoolManager(ca_certs=lab.ca_file, retries=False, timeout=urllib3.Timeout(read=0.5 if cut else 10))
    headers = {"Authorization": f"Bearer {grant['access_token']}"}

    with pytest.raises(urllib3.exceptions.HTTPError) if cut else nullcontext():
        answer = client.request("POST", f"{slack.urls['base_url']}auth.test", headers=headers)
        assert answer.json()["ok"]
    client.clear()

    assert lab.requests("slack", "auth.test")["items"][0]["status"] == 200


def test_a_lost_refresh_answer_has_spent_the_token(lab: Lab, slack: SlackApp) -> None:
    lab.configure("slack", grace_s=0)
    token = slack.install()["refresh_token"]
    lab.fault("slack", "drop_answer", "token.refresh")

    with pytest.raises(urllib3.exceptions.HTTPError):
        slack.refresh(token)

    assert slack.refresh(token)["error"] == "invalid_refresh_token"
    assert lab.requests("slack", "token.refresh")["count"] == 2


def test_what_is_held_back_happens_though_the_client_has_left(lab: Lab, slack: SlackApp, token: str) -> None:
    lab.fault("slack", "delay", "chat.postMessage", delay_ms=200)
    impatient = urllib3.PoolManager(ca_certs=lab.ca_file, retries=False, timeout=0.05)

    with pytest.raises(urllib3.exceptions.TimeoutError):
        impatient.request(
            "POST",
            f"{slack.urls['base_url']}chat.postMessage",
            body=json.dumps(MESSAGE),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
    impatient.clear()

    until(lambda: posted(lab) == 1, "the delayed message")


def test_a_held_back_answer_comes_after_its_effect(lab: Lab, slack: SlackApp, token: str) -> None:
    lab.fault("slack", "delay", "chat.postMessage", answer_delay_ms=60_000)
    answers: list[Any] = []
    thread = threading.Thread(target=answers_of, args=(slack, token, answers))
    thread.start()
    until(lambda: posted(lab) == 1, "the message whose answer is held back")
    assert not answers

    lab.reset()
    thread.join(10)

    assert isinstance(answers[0], urllib3.exceptions.HTTPError)


def test_a_reset_takes_back_what_is_still_held(lab: Lab, slack: SlackApp, token: str) -> None:
    lab.fault("slack", "delay", "chat.postMessage", delay_ms=60_000)
    answers: list[Any] = []
    thread = threading.Thread(target=answers_of, args=(slack, token, answers))
    thread.start()
    until(lambda: lab.requests("slack", "chat.postMessage")["count"] == 1, "the delayed request")

    lab.reset()
    thread.join(10)

    assert posted(lab) == 0
    assert isinstance(answers[0], urllib3.exceptions.HTTPError)


@pytest.mark.parametrize(
    ("fault", "fired"),
    [
        (Fault("slack", "delay", times=1), [True, False, False, False]),
        (Fault("slack", "delay", times=None), [True, True, True, True]),
        (Fault("slack", "delay", skip=2), [False, False, True, False]),
        (Fault("slack", "delay", every=2, times=None), [False, True, False, True]),
        (Fault("slack", "delay", operation="chat"), [True, False, False, False]),
        (Fault("slack", "delay", operation="chat.postMessage"), [True, False, False, False]),
        (Fault("slack", "delay", operation="chat.post"), [False, False, False, False]),
        (Fault("slack", "delay", match="Hello"), [True, False, False, False]),
        (Fault("slack", "delay", match="Goodbye"), [False, False, False, False]),
        (Fault("web", "delay"), [False, False, False, False]),
    ],
)
def test_a_fault_strikes_where_and_as_often_as_it_says(fault: Fault, fired: list[bool]) -> None:
    faults = Faults()
    faults.add(fault)

    struck = [faults.take("slack", "chat.postMessage", "/api/chat.postMessage", b"Hello") is not None for _ in fired]

    assert struck == fired


def test_faults_are_listed_and_taken_back(lab: Lab, slack: SlackApp, token: str) -> None:
    lab.fault("slack", "html", times=None)
    lab.fault("web", "html")
    assert [fault["service"] for fault in lab.control("/faults")["faults"]] == ["slack", "web"]

    lab.control("/faults?service=slack", method="DELETE")

    assert slack.call("auth.test", token=token)["ok"]
    assert [fault["service"] for fault in lab.control("/faults")["faults"]] == ["web"]
