"""`microsoft-calendar` against the laboratory's Graph."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from flow8_core import errors
from flow8_lab.client import Lab
from flow8_modules import Context
from flow8_modules.integrations.microsoft.calendar import SCOPE, _event, microsoft_calendar
from tests import contracts

Linked = Callable[..., Context]
CREATE = "events.create"
BASE = {
    "event_title": "flow8 Demo",
    "attendees": ["user@company.com"],
    "start_time": "2026-04-05T10:00:00Z",
    "end_time": "2026-04-05T11:00:00Z",
}


def invite(ctx: Context, **inputs: Any) -> Any:
    return microsoft_calendar(microsoft_calendar.parse({**BASE, **inputs}), ctx)


def failure(ctx: Context, **inputs: Any) -> errors.Flow8Error:
    with pytest.raises(errors.Flow8Error) as caught:
        invite(ctx, **inputs)
    return caught.value


def events(lab: Lab) -> list[dict[str, Any]]:
    return [item["event"] for item in lab.effects("microsoft")["items"]]


@pytest.fixture
def ctx(linked: Linked) -> Context:
    return linked("microsoft", scopes=[SCOPE], key="play:step")


def test_an_event_is_made_and_says_where(ctx: Context, lab: Lab) -> None:
    invited = invite(ctx)

    [event] = events(lab)
    assert (invited.event_id, invited.web_link, invited.join_url) == (event["id"], event["webLink"], None)
    assert event["subject"] == "flow8 Demo"
    assert event["attendees"][0]["emailAddress"]["address"] == "user@company.com"


def test_everything_arrives(ctx: Context, lab: Lab) -> None:
    invited = invite(
        ctx,
        start_time="2026-04-05T10:00:00",
        end_time="2026-04-05T11:00:00",
        time_zone="Europe/Zurich",
        optional_attendees=[{"address": "boss@company.com", "name": "Böss"}],
        body="<b>Agenda</b>",
        body_type="html",
        location="Room 1",
        online_meeting=True,
        reminder_minutes=30,
    )

    [event] = events(lab)
    assert event["start"]["dateTime"].startswith("2026-04-05T08:00:00")
    assert [each["type"] for each in event["attendees"]] == ["required", "optional"]
    assert (event["body"]["content"], event["location"]["displayName"]) == ("<b>Agenda</b>", "Room 1")
    assert event["reminderMinutesBeforeStart"] == 30
    assert invited.join_url == event["onlineMeeting"]["joinUrl"]


def test_what_is_sent_is_an_event_by_microsofts_own_schema() -> None:
    spec = contracts.load("microsoft/graph.v1.trimmed.openapi.json")
    inputs = microsoft_calendar.parse(
        {
            **BASE,
            "body": "x",
            "location": "y",
            "online_meeting": True,
            "reminder_minutes": 5,
            "optional_attendees": "b@c.de",
        }
    )
    sent = _event(inputs, transaction_id="t")

    schema = {"$ref": "#/components/schemas/microsoft.graph.event", "components": spec["components"]}
    jsonschema.validate(sent, schema)
    own = spec["components"]["schemas"]
    known = own["microsoft.graph.event"]["allOf"][1]["properties"]
    assert set(sent) <= set(known)


def test_a_repeated_call_makes_no_second_event(ctx: Context, lab: Lab) -> None:
    first, second = invite(ctx), invite(ctx)

    assert first == second
    assert lab.effects("microsoft")["count"] == 1
    [key] = lab.effects("microsoft")["keys"]
    assert uuid.UUID(key).version == 5


def test_a_repeated_call_that_is_told_so_finds_the_event(ctx: Context, lab: Lab) -> None:
    lab.configure("microsoft", duplicate_event="conflict")

    first, second = invite(ctx), invite(ctx)

    assert first.event_id == second.event_id
    assert lab.effects("microsoft")["count"] == 1


def test_a_conflict_without_an_event_stays_one(ctx: Context, lab: Lab) -> None:
    lab.fault("microsoft", "error", CREATE, error="ErrorIrresolvableConflict")

    assert failure(ctx).code == "conflict"


def test_another_step_makes_another_event(linked: Linked, lab: Lab) -> None:
    for key in ("play:a", "play:b"):
        invite(linked("microsoft", scopes=[SCOPE], key=key))

    assert lab.effects("microsoft")["count"] == 2


def test_a_missing_scope_is_told_from_a_refusal(linked: Linked, ctx: Context, lab: Lab) -> None:
    without = failure(linked("microsoft", scopes=["Mail.Send"]))
    lab.fault("microsoft", "error", CREATE, error="ErrorAccessDenied")
    refused = failure(ctx)

    assert isinstance(without, errors.InsufficientScope)
    assert SCOPE in without.message
    assert isinstance(refused, errors.AccessDenied)


def test_a_token_that_is_not_honoured_asks_for_a_fresh_one(linked: Linked) -> None:
    assert isinstance(failure(linked("microsoft", scopes=[SCOPE], token="EwB-not-a-token")), errors.TokenExpired)


def test_a_limit_says_how_long_to_wait(ctx: Context, lab: Lab) -> None:
    lab.fault("microsoft", "rate_limited", CREATE, retry_after=10)

    failed = failure(ctx)

    assert (failed.code, failed.retry_after, failed.ambiguous) == ("rate_limit_exceeded", 10.0, False)


@pytest.mark.parametrize(
    ("kind", "details", "code"),
    [
        ("drop_answer", {}, "provider_unavailable"),
        ("drop_request", {}, "provider_unavailable"),
        ("truncate", {}, "vendor_bad_response"),
        ("html", {"status": 504}, "provider_unavailable"),
        ("reply", {"status": 201, "body": "<html>"}, "vendor_bad_response"),
        ("reply", {"status": 201, "body": ""}, "vendor_bad_response"),
        ("reply", {"status": 201, "body": {"id": 5}}, "vendor_bad_response"),
        ("reply", {"status": 201, "body": []}, "vendor_bad_response"),
    ],
)
def test_a_lost_answer_is_doubtful_and_the_next_call_settles_it(
    ctx: Context, lab: Lab, kind: str, details: dict[str, Any], code: str
) -> None:
    lab.fault("microsoft", kind, CREATE, **details)

    failed = failure(ctx)
    again = invite(ctx)

    assert (failed.code, failed.ambiguous) == (code, True)
    assert [event["id"] for event in events(lab)] == [again.event_id]


def test_a_service_that_is_busy_has_done_nothing(ctx: Context, lab: Lab) -> None:
    lab.fault("microsoft", "error", CREATE, error="ErrorServerBusy")

    failed = failure(ctx)

    assert (failed.code, failed.ambiguous) == ("provider_unavailable", False)


def test_each_call_is_one_request_and_carries_an_id_for_support(ctx: Context, lab: Lab) -> None:
    invite(ctx)

    [seen] = lab.requests("microsoft", CREATE)["items"]
    assert len(seen["headers"]["client-request-id"]) == 32
    assert seen["headers"]["prefer"] == 'IdType="ImmutableId", outlook.timezone="UTC"'
