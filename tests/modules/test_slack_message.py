"""`slack-message` against the laboratory's Slack."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from slack_sdk.errors import SlackRequestError

from flow8_core import errors
from flow8_core.egress import Egress
from flow8_lab.client import Lab
from flow8_modules import Context
from flow8_modules.integrations.slack.client import slack
from flow8_modules.integrations.slack.message import slack_message
from flow8_modules.testing import Noted, context

Linked = Callable[..., Context]
POST = "chat.postMessage"


def post(ctx: Context, **inputs: Any) -> Any:
    return slack_message(slack_message.parse({"channel": "#notifications", "message": "Hello", **inputs}), ctx)


def failure(ctx: Context, **inputs: Any) -> errors.Flow8Error:
    with pytest.raises(errors.Flow8Error) as caught:
        post(ctx, **inputs)
    return caught.value


def landed(lab: Lab) -> list[dict[str, Any]]:
    return [item["message"] for item in lab.effects("slack")["items"]]


@pytest.fixture
def ctx(linked: Linked) -> Context:
    return linked("slack", scopes=["chat:write"], key="play:step")


def test_a_message_lands_and_says_where(ctx: Context, lab: Lab) -> None:
    posted = post(ctx)

    assert posted.channel == "C0NOTIFY01"
    [message] = landed(lab)
    assert (message["text"], message["ts"]) == ("Hello", posted.ts)
    assert lab.effects("slack")["items"][0]["ignored"] == []


def test_the_key_travels_with_the_message(ctx: Context, lab: Lab) -> None:
    post(ctx)

    assert lab.effects("slack")["keys"] == {"play:step": 1}


def test_everything_may_be_said_at_once(linked: Linked, lab: Lab) -> None:
    ctx = linked("slack", scopes=["chat:write", "chat:write.customize"])
    first = post(ctx)

    post(
        ctx,
        message='Größe <https://example.com|here> & "more"',
        blocks=[{"type": "section", "text": {"type": "mrkdwn", "text": "Invoice Processed"}}],
        thread_ts=first.ts,
        reply_broadcast=True,
        unfurl_links=False,
        unfurl_media=False,
        username="Invoices",
        icon_emoji=":receipt:",
    )

    reply = landed(lab)[1]
    assert reply["text"] == 'Größe <https://example.com|here> & "more"'
    assert reply["thread_ts"] == first.ts
    assert reply["username"] == "Invoices"
    assert lab.effects("slack")["items"][1]["ignored"] == []


def test_blocks_alone_bring_a_text_for_notifications_and_no_warning(ctx: Context, lab: Lab) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        post(ctx, message="", blocks=[{"type": "header", "text": {"type": "plain_text", "text": "Done"}}])

    assert landed(lab)[0]["text"] == "Done"


@pytest.mark.parametrize(
    ("channel", "error", "field"),
    [
        ("#nowhere", errors.ProviderRejected, "channel"),
        ("#private", errors.ProviderRejected, "channel"),
        ("#archived", errors.ProviderRejected, "channel"),
        ("#general", errors.AccessDenied, "channel"),
        ("#announcements", errors.AccessDenied, None),
    ],
)
def test_channels_that_do_not_take_it_are_told_apart(
    ctx: Context, lab: Lab, channel: str, error: type[errors.Flow8Error], field: str | None
) -> None:
    failed = failure(ctx, channel=channel)

    assert type(failed) is error
    assert failed.path == (field and f"input_mapping.{field}")
    assert not failed.ambiguous
    assert landed(lab) == []


def test_a_missing_scope_is_named(linked: Linked, lab: Lab) -> None:
    failed = failure(linked("slack", scopes=["files:write"]))

    assert isinstance(failed, errors.InsufficientScope)
    assert "chat:write" in failed.message
    assert landed(lab) == []


def test_a_wrong_token_is_a_revoked_one(linked: Linked) -> None:
    failed = failure(linked("slack", scopes=["chat:write"], token="xoxb-not-a-token"))

    assert isinstance(failed, errors.TokenRevoked)
    assert "xoxb" not in failed.message


def test_a_token_that_is_over_asks_for_a_fresh_one(ctx: Context, lab: Lab) -> None:
    lab.fault("slack", "error", POST, error="token_expired")

    assert isinstance(failure(ctx), errors.TokenExpired)


def test_a_limit_says_how_long_to_wait_and_nothing_was_posted(ctx: Context, lab: Lab) -> None:
    lab.fault("slack", "rate_limited", POST, retry_after=30)

    failed = failure(ctx)

    assert (failed.code, failed.retry_after, failed.ambiguous) == ("rate_limit_exceeded", 30.0, False)
    assert lab.requests("slack", POST)["count"] == 1


DOUBTFUL: list[tuple[dict[str, Any], str, int]] = [
    ({"kind": "drop_answer"}, "provider_unavailable", 1),
    ({"kind": "drop_request"}, "provider_unavailable", 0),
    ({"kind": "truncate"}, "vendor_bad_response", 1),
    ({"kind": "error", "error": "internal_error"}, "provider_unavailable", 0),
    ({"kind": "error", "error": "fatal_error"}, "provider_unavailable", 0),
    ({"kind": "html", "status": 502}, "provider_unavailable", 0),
    ({"kind": "reply", "status": 200, "body": "<html>"}, "vendor_bad_response", 0),
    ({"kind": "reply", "status": 200, "body": [1]}, "vendor_bad_response", 0),
    ({"kind": "reply", "status": 200, "body": {"ok": True}}, "vendor_bad_response", 0),
]


@pytest.mark.parametrize(("fault", "code", "count"), DOUBTFUL)
def test_a_lost_answer_is_doubtful_and_nothing_is_sent_twice(
    ctx: Context, lab: Lab, fault: dict[str, Any], code: str, count: int
) -> None:
    lab.fault("slack", operation=POST, times=None, **fault)

    failed = failure(ctx)

    assert (failed.code, failed.ambiguous) == (code, True)
    assert lab.requests("slack", POST)["count"] == 1
    assert lab.effects("slack")["count"] == count


def test_a_slow_answer_ends_with_the_deadline(linked: Linked, lab: Lab) -> None:
    ctx = linked("slack", scopes=["chat:write"], timeout_s=0.3)
    lab.fault("slack", "delay", POST, answer_delay_ms=5_000)

    failed = failure(ctx)

    assert (failed.code, failed.ambiguous) == ("execution_timeout", True)


def test_the_token_goes_to_no_host_but_slacks(ctx: Context, lab: Lab, egress: Egress, tmp_path: Any) -> None:
    astray = replace(ctx.link, base_url=lab.services["web"]["base_url"] + "/echo/")  # type: ignore[type-var]

    with pytest.raises(errors.EgressDenied):
        post(context(tmp_path, egress=egress, link=astray))
    assert lab.requests("web")["count"] == 0


def test_connections_are_kept_and_each_call_is_one_request(ctx: Context, lab: Lab) -> None:
    before = lab.requests("slack")["connections"]
    for _ in range(20):
        post(ctx)

    seen = lab.requests("slack", POST)
    assert seen["count"] == 20
    assert seen["connections"] - before <= 1


def test_what_is_asked_with_a_form_goes_through_the_same_door(ctx: Context, lab: Lab) -> None:
    said = slack(ctx).chat_postMessage(channel="#notifications", text="Hello")
    asked = slack(ctx).api_call("auth.test", params={"team_id": None})

    assert (said["ok"], asked["ok"], asked.status_code) == (True, True, 200)
    assert lab.requests("slack", POST)["count"] == 1
    with pytest.raises(errors.ProviderRejected):
        slack(ctx).api_call(POST, params={"channel": "C000000000", "text": "Hello"})


def test_a_token_of_the_callers_own_is_not_sent_along(ctx: Context, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    send, sent = Egress.send, []

    def noting(egress: Egress, *args: Any, **asked: Any) -> Any:
        sent.append(asked["body"])
        return send(egress, *args, **asked)

    monkeypatch.setattr(Egress, "send", noting)
    slack(ctx).chat_postMessage(channel="#notifications", text="Hello", token="xoxb-of-somebody-else")

    (body,) = sent
    assert b"Hello" in body
    assert b"somebody" not in body
    assert len(landed(lab)) == 1


def test_what_the_sdk_refuses_is_refused(ctx: Context) -> None:
    with pytest.raises(SlackRequestError):
        slack(ctx).api_call(POST, http_verb="GET", json={"channel": "#notifications", "text": "Hello"})


def test_the_environment_changes_nothing(ctx: Context, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")

    post(ctx)

    assert slack(ctx).proxy is None
    assert slack(ctx).retry_handlers == []
    assert len(landed(lab)) == 1


def test_no_secret_is_logged_at_any_level(ctx: Context, lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    token = ctx.link.access_token.reveal()
    with caplog.at_level(logging.DEBUG):
        post(ctx)
        lab.fault("slack", "html", POST)
        failed = failure(ctx)

    assert token not in caplog.text
    assert token not in failed.message
    assert "slack_sdk" not in {record.name for record in caplog.records}


def test_a_long_message_is_posted_with_a_word_in_the_log(ctx: Context, noted: Noted, lab: Lab) -> None:
    post(ctx, message="x" * 4_001)

    assert [event for _, event, _ in noted.events] == ["slack may split a long message"]
    assert len(landed(lab)) == 1


def test_threads_do_not_mix_their_calls(ctx: Context, make: Linked, lab: Lab) -> None:
    contexts = [make(link=ctx.link, key=f"key-{number}") for number in range(8)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda ctx: [post(ctx) for _ in range(5)], contexts))

    assert lab.effects("slack")["keys"] == {f"key-{number}": 5 for number in range(8)}
