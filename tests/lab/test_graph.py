"""Graph: who am I, and events with transactionId; requests and replies against Microsoft's own schema."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from flow8_lab.graph_event import PROPERTIES
from tests import contracts
from tests.counterparts.lab import Lab
from tests.lab.conftest import Answer, Http, MicrosoftApp

EVENT: dict[str, Any] = {
    "subject": "flow8 Demo",
    "start": {"dateTime": "2026-04-05T10:00:00", "timeZone": "UTC"},
    "end": {"dateTime": "2026-04-05T11:00:00", "timeZone": "UTC"},
    "attendees": [{"emailAddress": {"address": "user@company.com"}, "type": "required"}],
    "transactionId": "6a204bd8-0000-4000-8000-000000000001",
}
FULL = EVENT | {
    "body": {"contentType": "html", "content": "<p>Hello</p>"},
    "location": {"displayName": "Room 1"},
    "isOnlineMeeting": True,
    "onlineMeetingProvider": "teamsForBusiness",
    "reminderMinutesBeforeStart": 30,
    "isReminderOn": True,
    "allowNewTimeProposals": False,
    "hideAttendees": True,
    "importance": "high",
    "showAs": "tentative",
    "categories": ["Red"],
}


def conforms(event: dict[str, Any]) -> None:
    """Fails where an event is not as Microsoft's schema says."""
    jsonschema.Draft202012Validator(contracts.graph_schema("microsoft.graph.event")).validate(event)


def token(lab: Lab, *scopes: str) -> str:
    return str(lab.grant("microsoft", scopes=list(scopes))["access_token"])


def create(microsoft: MicrosoftApp, body: object, *, access_token: str, **headers: str) -> Answer:
    return microsoft.http.post(f"{microsoft.graph}me/events", body, token=access_token, headers=headers)


def error_of(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["error"]["code"]


def test_the_schema_itself_refuses_what_is_foreign() -> None:
    with pytest.raises(jsonschema.ValidationError):
        conforms({"subject": "x", "colour": "red"})


def test_what_a_client_may_set_is_part_of_the_type() -> None:
    known = set(contracts.graph_schema("microsoft.graph.event")["$defs"]["microsoft.graph.event"]["properties"])

    assert set(PROPERTIES) - known == {"singleValueExtendedProperties"}


@pytest.mark.parametrize("asked", [EVENT, FULL], ids=["seed", "full"])
def test_a_created_event_conforms_to_microsofts_schema(
    lab: Lab, microsoft: MicrosoftApp, asked: dict[str, Any]
) -> None:
    conforms(asked)

    answer = create(microsoft, asked, access_token=token(lab, "Calendars.ReadWrite"))

    assert answer.status == 201
    conforms(answer.json)
    assert {name: answer.json[name] for name in ("subject", "transactionId")} == {
        name: asked[name] for name in ("subject", "transactionId")
    }
    assert bool(answer.json["onlineMeeting"]) == bool(asked.get("isOnlineMeeting"))


def test_a_repeated_transaction_answers_with_the_same_event_and_one_invitation(
    lab: Lab, microsoft: MicrosoftApp
) -> None:
    access_token = token(lab, "Calendars.ReadWrite")

    first, second = (create(microsoft, EVENT, access_token=access_token) for _ in range(2))

    assert (first.status, second.status) == (201, 201)
    assert first.json["id"] == second.json["id"]
    assert lab.effects("microsoft")["keys"] == {EVENT["transactionId"]: 1}


def test_a_repeated_transaction_can_be_made_a_conflict(lab: Lab, microsoft: MicrosoftApp) -> None:
    lab.configure("microsoft", duplicate_event="conflict")
    access_token = token(lab, "Calendars.ReadWrite")
    create(microsoft, EVENT, access_token=access_token)

    assert error_of(create(microsoft, EVENT, access_token=access_token)) == (409, "ErrorIrresolvableConflict")


def test_without_a_transaction_every_post_makes_an_event(lab: Lab, microsoft: MicrosoftApp) -> None:
    access_token = token(lab, "Calendars.ReadWrite")
    unkeyed = {name: value for name, value in EVENT.items() if name != "transactionId"}

    ids = {create(microsoft, unkeyed, access_token=access_token).json["id"] for _ in range(2)}

    assert len(ids) == 2
    assert lab.effects("microsoft")["count"] == 2


def test_an_event_is_found_again_by_its_owner_alone(lab: Lab, microsoft: MicrosoftApp, http: Http) -> None:
    owner = token(lab, "Calendars.ReadWrite")
    event = create(microsoft, EVENT, access_token=owner).json
    other = str(lab.grant("microsoft", account="other@company.com", scopes=["Calendars.Read"])["access_token"])

    found = http.get(f"{microsoft.graph}me/events/{event['id']}", token=owner)
    listed = http.get(f"{microsoft.graph}me/events", token=owner)

    assert found.json == event
    assert [item["id"] for item in listed.json["value"]] == [event["id"]]
    assert error_of(http.get(f"{microsoft.graph}me/events/{event['id']}", token=other)) == (404, "ErrorItemNotFound")


def test_times_are_shown_in_the_zone_that_the_client_prefers(lab: Lab, microsoft: MicrosoftApp) -> None:
    berlin = {"dateTime": "2026-07-05T10:00:00", "timeZone": "W. Europe Standard Time"}
    asked = EVENT | {"start": berlin, "end": berlin}
    access_token = token(lab, "Calendars.ReadWrite")

    in_utc = create(microsoft, asked, access_token=access_token).json
    headers = {"Prefer": 'outlook.timezone="America/New_York"'}
    in_new_york = create(microsoft, asked, access_token=access_token, **headers).json

    assert in_utc["start"] == {"dateTime": "2026-07-05T08:00:00.0000000", "timeZone": "UTC"}
    assert in_new_york["start"] == {"dateTime": "2026-07-05T04:00:00.0000000", "timeZone": "America/New_York"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"colour": "red"}, "RequestBodyRead"),
        ({"subject": 7}, "RequestBodyRead"),
        ({"isAllDay": "yes"}, "RequestBodyRead"),
        ({"reminderMinutesBeforeStart": True}, "RequestBodyRead"),
        ({"attendees": {"emailAddress": {}}}, "RequestBodyRead"),
        ({"attendees": [{"emailAddress": {"address": "a@b.example"}, "type": "maybe"}]}, "RequestBodyRead"),
        ({"attendees": [{"emailAddress": {"address": "nobody"}}]}, "ErrorInvalidRecipients"),
        ({"attendees": [{}]}, "ErrorInvalidRecipients"),
        ({"attendees": [{"emailAddress": {"address": "a@b.example"}}] * 501}, "ErrorInvalidRequest"),
        ({"start": None}, "ErrorPropertyValidationFailure"),
        ({"start": {"dateTime": "2026-04-05T12:00:00", "timeZone": "UTC"}}, "ErrorPropertyValidationFailure"),
        ({"start": {"dateTime": "2026-04-05T10:00:00Z", "timeZone": "UTC"}}, "ErrorInvalidParameter"),
        ({"start": {"dateTime": "2026-02-30T10:00:00", "timeZone": "UTC"}}, "ErrorInvalidParameter"),
        ({"start": {"dateTime": "2026-04-05T10:00:00", "timeZone": "Moon"}}, "TimeZoneNotSupportedException"),
        ({"start": {"dateTime": "2026-04-05T10:00:00", "timeZone": "../UTC"}}, "TimeZoneNotSupportedException"),
        ({"start": "2026-04-05T10:00:00"}, "RequestBodyRead"),
    ],
)
def test_a_malformed_event_is_refused_and_nobody_is_invited(
    lab: Lab, microsoft: MicrosoftApp, changes: dict[str, Any], code: str
) -> None:
    answer = create(microsoft, EVENT | changes, access_token=token(lab, "Calendars.ReadWrite"))

    assert error_of(answer) == (400, code)
    assert lab.effects("microsoft")["count"] == 0


@pytest.mark.parametrize("body", [b"{", b"[]", b"7"])
def test_a_body_that_is_no_json_object_is_refused(lab: Lab, microsoft: MicrosoftApp, http: Http, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    access_token = token(lab, "Calendars.ReadWrite")

    answer = http.send("POST", f"{microsoft.graph}me/events", token=access_token, headers=headers, body=body)

    assert error_of(answer) == (400, "BadRequest")


def test_a_token_without_the_scope_is_denied(lab: Lab, microsoft: MicrosoftApp, http: Http) -> None:
    reader, planner = token(lab, "Calendars.Read"), token(lab, "Calendars.ReadWrite")

    created = create(microsoft, EVENT, access_token=reader)
    myself = http.get(f"{microsoft.graph}me", token=planner)

    assert error_of(created) == (403, "ErrorAccessDenied")
    assert error_of(myself) == (403, "Authorization_RequestDenied")


def test_a_dead_token_is_told_so_in_the_documented_shape(lab: Lab, microsoft: MicrosoftApp, http: Http) -> None:
    expired = token(lab, "User.Read")
    lab.control("/expire", {"service": "microsoft"})

    answers = [http.get(f"{microsoft.graph}me", token=shown) for shown in (expired, "made-up", None)]

    assert {error_of(answer) for answer in answers} == {(401, "InvalidAuthenticationToken")}
    sample = next(
        s for s in contracts.load("microsoft/errors.json")["samples"] if s["status"] == 401 and s["where"] == "graph"
    )
    assert set(sample["body"]["error"]["innerError"]) == set(answers[0].json["error"]["innerError"])
    assert 'error="invalid_token"' in answers[0].headers["WWW-Authenticate"]


def test_a_refresh_token_opens_nothing_at_graph(lab: Lab, microsoft: MicrosoftApp, http: Http) -> None:
    refresh_token = lab.grant("microsoft")["refresh_token"]

    assert error_of(http.get(f"{microsoft.graph}me", token=refresh_token))[0] == 401


def test_who_am_i_conforms_and_selects(lab: Lab, microsoft: MicrosoftApp, http: Http) -> None:
    access_token = token(lab, "User.Read")

    whole = http.get(f"{microsoft.graph}me", token=access_token).json
    chosen = http.get(f"{microsoft.graph}me?$select=id,mail", token=access_token).json

    jsonschema.Draft202012Validator(contracts.graph_schema("microsoft.graph.user")).validate(whole)
    assert set(chosen) == {"@odata.context", "id", "mail"}


def test_userinfo_stands_beside_the_api_and_has_the_documented_claims(
    lab: Lab, microsoft: MicrosoftApp, http: Http
) -> None:
    url = microsoft.graph.replace("/v1.0/", "/oidc/userinfo")

    claims = http.get(url, token=token(lab, "User.Read")).json

    assert set(contracts.load("microsoft/oauth.json")["test"]["primary"]["response"]) == set(claims)


def test_graph_gives_back_the_name_that_the_client_gave_its_request(
    lab: Lab, microsoft: MicrosoftApp, http: Http
) -> None:
    named = {"client-request-id": "ours"}

    answer = http.get(f"{microsoft.graph}me", token=token(lab, "User.Read"), headers=named)

    assert answer.headers["client-request-id"] == "ours"


def test_a_path_that_graph_does_not_have_is_not_found(microsoft: MicrosoftApp, http: Http) -> None:
    assert error_of(http.get(f"{microsoft.graph}me/secrets")) == (404, "ResourceNotFound")
