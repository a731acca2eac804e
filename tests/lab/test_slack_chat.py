"""chat.postMessage: who may post where, what is refused, what lands."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flow8_lab.slack_chat import ARGUMENTS
from tests import contracts
from tests.counterparts.lab import Lab
from tests.lab.conftest import Http, SlackApp
from tests.lab.test_slack_oauth import known_errors

TEXT = {"channel": "#notifications", "text": "Hello"}
SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "Invoice"}}


def post(slack: SlackApp, body: dict[str, Any], *, scope: str = "chat:write") -> dict[str, Any]:
    return slack.call("chat.postMessage", body, token=slack.lab.grant("slack", scopes=scope.split(","))["access_token"])


def test_every_argument_is_one_that_slack_documents() -> None:
    documented = set(contracts.load("slack/web_api.trimmed.json")["methods"]["chat.postMessage"]["args"])

    assert ARGUMENTS - {"token"} <= documented
    assert documented - ARGUMENTS == {"current_draft_last_updated_ts"}


def test_the_reply_has_the_documented_shape(slack: SlackApp) -> None:
    reply = post(slack, TEXT)

    example = contracts.load("slack/web_api.trimmed.json")["methods"]["chat.postMessage"]["response_examples"][0]
    assert set(reply) == set(example)
    assert reply["channel"] == "C0NOTIFY01"
    assert reply["message"]["ts"] == reply["ts"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"text": "no channel"}, "invalid_arguments"),
        ({"channel": "#nowhere", "text": "x"}, "channel_not_found"),
        ({"channel": "G0PRIVATE1", "text": "x"}, "channel_not_found"),
        ({"channel": "#general", "text": "x"}, "not_in_channel"),
        ({"channel": "#archived", "text": "x"}, "is_archived"),
        ({"channel": "#announcements", "text": "x"}, "restricted_action_read_only_channel"),
        ({"channel": "#notifications"}, "no_text"),
        (TEXT | {"markdown_text": "x"}, "markdown_text_conflict"),
        ({"channel": "#notifications", "markdown_text": "x" * 12_001}, "msg_too_long"),
        (TEXT | {"attachments": [{}] * 101}, "too_many_attachments"),
        (TEXT | {"blocks": [SECTION] * 51}, "invalid_blocks"),
        (TEXT | {"blocks": [{"type": "poem"}]}, "invalid_blocks"),
        (TEXT | {"blocks": [{"type": "section"}]}, "invalid_blocks"),
        (TEXT | {"blocks": [{"type": "section", "text": "bare"}]}, "invalid_blocks"),
        (TEXT | {"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}]}, "invalid_blocks"),
        (TEXT | {"blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]}, "invalid_blocks"),
        (TEXT | {"blocks": [{"type": "section", "fields": [SECTION["text"]] * 11}]}, "invalid_blocks"),
        (TEXT | {"blocks": [{"type": "context", "elements": []}]}, "invalid_blocks"),
        (TEXT | {"blocks": [{"type": "image", "alt_text": "x"}]}, "invalid_blocks"),
        (TEXT | {"blocks": [SECTION | {"block_id": "x" * 256}]}, "invalid_blocks"),
        (TEXT | {"blocks": [SECTION | {"text": {"type": "mrkdwn", "text": "x" * 2999}}] * 5}, "msg_blocks_too_long"),
        (TEXT | {"blocks": "[{"}, "invalid_blocks_format"),
        (TEXT | {"blocks": {"type": "section"}}, "invalid_blocks_format"),
        (TEXT | {"metadata": "{"}, "invalid_metadata_format"),
        (TEXT | {"metadata": {"event_payload": {}}}, "invalid_metadata_format"),
        (TEXT | {"metadata": {"event_type": "x", "event_payload": []}}, "invalid_metadata_schema"),
        (TEXT | {"metadata": {"event_type": "x", "event_payload": {"k": "x" * 8000}}}, "metadata_too_large"),
        (TEXT | {"thread_ts": "1.000001"}, "cannot_reply_to_message"),
    ],
)
def test_what_slack_refuses_is_refused_by_its_documented_name(
    lab: Lab, slack: SlackApp, body: dict[str, Any], error: str
) -> None:
    reply = post(slack, body)

    assert (reply["ok"], reply["error"]) == (False, error)
    assert error in known_errors("chat.postMessage")
    assert lab.effects("slack")["count"] == 0


@pytest.mark.parametrize(
    ("scope", "body", "needed"),
    [
        ("files:write", TEXT, "chat:write"),
        ("chat:write", TEXT | {"username": "Robot"}, "chat:write.customize"),
        ("chat:write", TEXT | {"icon_emoji": ":tea:"}, "chat:write.customize"),
    ],
)
def test_a_missing_scope_is_named(slack: SlackApp, scope: str, body: dict[str, Any], needed: str) -> None:
    assert post(slack, body, scope=scope) == {
        "ok": False,
        "error": "missing_scope",
        "needed": needed,
        "provided": scope,
    }


def test_the_wider_scopes_open_what_they_are_for(slack: SlackApp) -> None:
    assert post(slack, {"channel": "#general", "text": "x"}, scope="chat:write,chat:write.public")["ok"]
    named = post(slack, TEXT | {"username": "Robot"}, scope="chat:write,chat:write.customize")
    assert named["message"]["username"] == "Robot"


def test_a_channel_is_found_by_id_by_name_and_with_the_sign(slack: SlackApp) -> None:
    wanted = ("C0NOTIFY01", "notifications", "#notifications")

    assert {post(slack, {"channel": name, "text": "x"})["channel"] for name in wanted} == {"C0NOTIFY01"}
    assert post(slack, {"channel": "U0LABUSER1", "text": "x"})["channel"].startswith("D")


def test_a_channel_may_be_added(lab: Lab, slack: SlackApp) -> None:
    lab.configure("slack", channels=[{"id": "C0EXTRA001", "name": "extra"}])

    assert post(slack, {"channel": "#extra", "text": "x"})["channel"] == "C0EXTRA001"


def test_a_text_of_more_than_40_000_characters_is_cut_without_a_word(slack: SlackApp) -> None:
    reply = post(slack, TEXT | {"text": "x" * 40_001})

    assert len(reply["message"]["text"]) == 40_000


def test_a_form_carries_structures_as_json_text(slack: SlackApp, http: Http, lab: Lab) -> None:
    token = lab.grant("slack")["access_token"]
    fields = {"token": token, **TEXT, "blocks": json.dumps([SECTION])}

    reply = http.form(f"{slack.urls['base_url']}chat.postMessage", fields).json

    assert reply["message"]["blocks"] == [SECTION]


def test_a_reply_goes_into_its_thread(slack: SlackApp) -> None:
    parent = post(slack, TEXT)["ts"]

    assert post(slack, TEXT | {"thread_ts": parent})["message"]["thread_ts"] == parent


def test_messages_are_counted_by_the_key_in_their_metadata(lab: Lab, slack: SlackApp) -> None:
    once, twice = ({"event_type": "t", "event_payload": {"idempotency_key": key}} for key in ("once", "twice"))

    for metadata in (once, twice, twice):
        assert post(slack, TEXT | {"metadata": metadata, "client_msg_id": "ignored"})["ok"]

    effects = lab.effects("slack")
    assert effects["keys"] == {"once": 1, "twice": 2}
    assert effects["repeated"] == {"twice": 2}
    assert effects["items"][0]["ignored"] == ["client_msg_id"]
    assert effects["items"][0]["channel"] == "C0NOTIFY01"


def test_json_without_a_charset_is_taken_with_a_warning(slack: SlackApp, http: Http, lab: Lab) -> None:
    token = lab.grant("slack")["access_token"]

    plain = {"Content-Type": "application/json"}
    reply = http.post(f"{slack.urls['base_url']}chat.postMessage", TEXT, token=token, headers=plain).json

    assert (reply["ok"], reply["warning"]) == (True, "missing_charset")


def test_a_method_that_slack_does_not_have_is_unknown(slack: SlackApp) -> None:
    assert slack.call("chat.whisper", token="any") == {
        "ok": False,
        "error": "unknown_method",
        "req_method": "chat.whisper",
    }
