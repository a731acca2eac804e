"""What `slack-message` takes, checked before any call."""

from __future__ import annotations

from typing import Any

import pytest

from flow8_core.errors import ValidationFailed
from flow8_modules import Effect, Link
from flow8_modules.integrations.slack.blocks import fallback_text
from flow8_modules.integrations.slack.message import slack_message

BASE = {"channel": "#notifications", "message": "Hello"}
SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "Invoice Processed"}}


def problem(**changes: Any) -> tuple[str, str]:
    with pytest.raises(ValidationFailed) as caught:
        slack_message.parse({**BASE, **changes})
    [only] = caught.value.problems
    return only[0].removeprefix("input_mapping."), only[1]


@pytest.mark.parametrize(
    "channel", ["#notifications", "#a", "#größe-1_x", "C024BE91L", "G012AB3CD", "D1234ABCD", "U123ABC456", "C0NOTIFY01"]
)
def test_channels_are_ids_and_names(channel: str) -> None:
    assert channel == slack_message.parse({**BASE, "channel": channel}).channel


@pytest.mark.parametrize(
    "channel",
    [
        *(
            "",
            "#",
            "notifications",
            "@here",
            "@channel",
            "#here there",
            "#Big",
            "##a",
            "<!channel>",
            "<#C024BE91L>",
            "c024be91l",
        ),
        *("C1", "X024BE91L", "#a\n", "#" + "x" * 81, "C024BE91L,C024BE91M", "#a,#b", "#<!here>", "https://slack.com"),
    ],
)
def test_what_is_no_channel_is_refused(channel: str) -> None:
    assert problem(channel=channel)[0] == "channel"


def section(**changes: Any) -> list[dict[str, Any]]:
    return [{**SECTION, **changes}]


def text(length: int) -> dict[str, str]:
    return {"type": "mrkdwn", "text": "x" * length}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"message": ""}, "message", "is required where there are no blocks"),
        ({"message": "  \n", "blocks": []}, "message", "is required"),
        ({"message": "x" * 40_001}, "message", "at most 40000"),
        ({"blocks": [SECTION] * 51}, "blocks", "at most 50 blocks"),
        ({"blocks": "{"}, "blocks", "JSON"),
        ({"blocks": '{"type": "section"}'}, "blocks", "list of blocks"),
        ({"blocks": "[NaN]"}, "blocks", "JSON"),
        ({"blocks": {"type": "section"}}, "blocks", "list"),
        ({"blocks": [{"text": "x"}]}, "blocks", "block 0 has no type"),
        ({"blocks": section(text=text(3001))}, "blocks", "at most 3,000"),
        ({"blocks": section(fields=[text(1)] * 11)}, "blocks", "at most 10 items"),
        ({"blocks": section(fields=[text(2001)])}, "blocks", "at most 2,000"),
        ({"blocks": section(fields="x")}, "blocks", "should be a list"),
        ({"blocks": section(block_id="x" * 256)}, "blocks", "at most 255"),
        ({"blocks": [{"type": "section"}]}, "blocks", "text or fields"),
        ({"blocks": [{"type": "header", "text": text(151)}]}, "blocks", "at most 150"),
        ({"blocks": [{"type": "context", "elements": [text(1)] * 11}]}, "blocks", "at most 10 items"),
        ({"blocks": [{"type": "actions", "elements": [{}] * 26}]}, "blocks", "at most 25 items"),
        ({"blocks": [{"type": "image", "image_url": "x" * 3001}]}, "blocks", "at most 3,000"),
        ({"blocks": [{"type": "markdown", "text": "x" * 7000}] * 2}, "blocks", "together"),
        ({"thread_ts": "1712230000"}, "thread_ts", "pattern"),
        ({"thread_ts": 1712230000.0001}, "thread_ts", "pattern"),
        ({"reply_broadcast": True}, "reply_broadcast", "needs thread_ts"),
        ({"icon_emoji": "smile"}, "icon_emoji", "pattern"),
        ({"icon_url": "ftp://x"}, "icon_url", "pattern"),
        ({"icon_emoji": ":a:", "icon_url": "https://x/y"}, "icon_url", "beside"),
        ({"username": ""}, "username", "at least 1"),
        ({"message": "<!channel> look"}, "message", "notify everybody"),
        ({"message": "<!HERE|here>"}, "message", "notify everybody"),
        ({"blocks": section(text={"type": "mrkdwn", "text": "<!everyone>"})}, "blocks", "notify everybody"),
        ({"blocks": [{"type": "rich_text", "elements": [{"type": "broadcast", "range": "here"}]}]}, "blocks", "notify"),
    ],
)
def test_limits_are_checked_before_the_call(changes: dict[str, Any], field: str, words: str) -> None:
    found, message = problem(**changes)

    assert field == found
    assert words in message


@pytest.mark.parametrize(
    "changes",
    [
        {"message": "x" * 40_000},
        {"blocks": [SECTION] * 50},
        {"blocks": '[{"type": "divider"}]'},
        {"blocks": None},
        {"blocks": ""},
        {"message": "", "blocks": [SECTION]},
        {"message": 42},
        {"message": "see <https://example.com|here>, <@U123ABC456>, #general, @here & <b>"},
        {"message": "<!here>", "allow_broadcast": True},
        {"thread_ts": "1712230000.000100", "reply_broadcast": "true"},
        {"blocks": [{"type": "something_new", "elements": "?"}]},
    ],
)
def test_what_slack_takes_passes(changes: dict[str, Any]) -> None:
    slack_message.parse({**BASE, **changes})


def test_the_seeds_example_runs_as_it_stands() -> None:
    inputs = slack_message.parse(
        {
            "channel": "#notifications",
            "message": "Invoice #001 processed successfully",
            "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "Invoice Processed"}}],
        }
    )

    assert inputs.message == "Invoice #001 processed successfully"


@pytest.mark.parametrize(
    "face", [{}, {"username": "Bot"}, {"icon_emoji": ":receipt:"}, {"icon_url": "https://x.example/i"}]
)
def test_a_face_of_its_own_needs_another_scope(face: dict[str, str]) -> None:
    scopes = {"chat:write", "chat:write.customize"} if face else {"chat:write"}

    assert (Link("slack", scopes=scopes),) == slack_message.needs_of(slack_message.parse({**BASE, **face}))


def test_a_post_happens_twice() -> None:
    assert slack_message.effect_of(slack_message.parse(BASE)) == Effect.ONCE


@pytest.mark.parametrize(
    ("blocks", "shown"),
    [
        ([SECTION], "Invoice Processed"),
        ([{"type": "image", "image_url": "https://x/y.png", "alt_text": "A chart"}], "A chart"),
        ([{"type": "divider"}], "New message"),
        ([{"type": "section", "text": text(1000)}], "x" * 300),
    ],
)
def test_a_notification_shows_the_first_text_of_the_blocks(blocks: list[dict[str, Any]], shown: str) -> None:
    assert shown == fallback_text(blocks)
