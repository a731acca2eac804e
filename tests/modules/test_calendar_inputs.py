"""What `microsoft-calendar` takes, checked before any call."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flow8_core.errors import ValidationFailed
from flow8_modules import Effect, Fault, Link
from flow8_modules.integrations.microsoft.calendar import _event, microsoft_calendar
from flow8_modules.integrations.microsoft.times import in_utc, read_zone

BASE = {
    "event_title": "flow8 Demo",
    "attendees": ["user@company.com"],
    "start_time": "2026-04-05T10:00:00Z",
    "end_time": "2026-04-05T11:00:00Z",
}


def event(**changes: Any) -> dict[str, Any]:
    return _event(microsoft_calendar.parse({**BASE, **changes}), transaction_id="t")


def problem(**changes: Any) -> tuple[str, str]:
    with pytest.raises(ValidationFailed) as caught:
        microsoft_calendar.parse({**BASE, **changes})
    [only] = caught.value.problems
    return only[0].removeprefix("input_mapping."), only[1]


def test_the_seeds_example_runs_as_it_stands() -> None:
    assert event() == {
        "subject": "flow8 Demo",
        "start": {"dateTime": "2026-04-05T10:00:00", "timeZone": "UTC"},
        "end": {"dateTime": "2026-04-05T11:00:00", "timeZone": "UTC"},
        "attendees": [{"emailAddress": {"address": "user@company.com"}, "type": "required"}],
        "transactionId": "t",
    }


@pytest.mark.parametrize(
    ("text", "zone", "utc"),
    [
        ("2026-04-05T10:00:00Z", None, (2026, 4, 5, 10, 0)),
        ("2026-04-05t10:00z", None, (2026, 4, 5, 10, 0)),
        ("2026-04-05 10:00", "UTC", (2026, 4, 5, 10, 0)),
        ("2026-04-05T10:00:00+02:00", None, (2026, 4, 5, 8, 0)),
        ("2026-04-05T10:00:00-0930", None, (2026, 4, 5, 19, 30)),
        ("2026-04-05T10:00:00.123456789Z", None, (2026, 4, 5, 10, 0)),
        ("2026-04-05T10:00:00", "Europe/Zurich", (2026, 4, 5, 8, 0)),
        ("2026-01-05T10:00:00", "Europe/Zurich", (2026, 1, 5, 9, 0)),
        ("2026-04-05T10:00:00", "Asia/Kolkata", (2026, 4, 5, 4, 30)),
        ("2026-04-05T10:00:00", "America/Argentina/Buenos_Aires", (2026, 4, 5, 13, 0)),
        ("2026-04-05T10:00:00+02:00", "America/New_York", (2026, 4, 5, 8, 0)),
        ("2026-12-31T23:30:00", "America/New_York", (2027, 1, 1, 4, 30)),
        ("2028-02-29T10:00:00Z", None, (2028, 2, 29, 10, 0)),
    ],
)
def test_times_are_read_with_their_zones(text: str, zone: str | None, utc: tuple[int, ...]) -> None:
    moment = in_utc(text, zone, field="start_time").replace(second=0, microsecond=0)

    assert moment == datetime(*utc, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "zone", "words"),
    [
        ("2026-03-29T02:30:00", "Europe/Zurich", "does not exist"),
        ("2026-03-08T02:00:00", "America/New_York", "does not exist"),
        ("2026-10-25T02:30:00", "Europe/Zurich", "exists twice"),
        ("2026-11-01T01:59:59", "America/New_York", "exists twice"),
        ("2026-04-05T10:00:00", None, "has no offset"),
    ],
)
def test_times_that_a_zone_skips_or_shows_twice_are_refused(start: str, zone: str | None, words: str) -> None:
    field, message = problem(start_time=start, end_time="2027-01-01T00:00:00Z", **({"time_zone": zone} if zone else {}))

    assert field == "start_time"
    assert words in message


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2026-04-05", "10:00", "2026-04-05T24:00:00Z", "2026-04-05T23:59:60Z", "2026-02-29T10:00:00Z"),
        *("2026-13-01T00:00:00Z", "2026-04-05T10:00:00 Europe/Zurich", "2026-W14-7T10:00:00Z", "20260405T100000Z"),
        *("9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "1969-12-31T00:00:00Z", "2101-01-01T00:00:00Z"),
        *("1775383200", "2026-04-05T10:00:00+25:00", "2026-04-05T10:00:00Z\n", "２026-04-05T10:00:00Z", "x" * 100_000),
        *("2026-04-05T10:00:00Z; DROP", "{{ $prev.x.start }}"),
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    assert problem(start_time=text)[0] == "start_time"


@pytest.mark.parametrize(
    "zone",
    [
        *(
            "",
            "Mars/Olympus",
            "europe/zurich/",
            "../../etc/passwd",
            "/etc/localtime",
            "Europe",
            "W. Europe Standard Time",
        ),
        *("UTC\x00", "+02:00", "Europe/Zurich\n", "a" * 1000, "posix/../UTC"),
    ],
)
def test_an_unknown_zone_is_refused(zone: str) -> None:
    assert problem(time_zone=zone)[0] == "time_zone"


def test_zones_are_named_as_iana_does() -> None:
    assert read_zone("Etc/GMT+5").key == "Etc/GMT+5"
    with pytest.raises(Fault, match="Europe/Zurich"):
        read_zone("CEST")


@pytest.mark.parametrize("end", ["2026-04-05T10:00:00Z", "2026-04-05T09:59:59Z", "2026-04-05T11:30:00+02:00"])
def test_an_end_that_is_not_after_the_begin_is_refused(end: str) -> None:
    assert problem(end_time=end) == ("end_time", "should lie after start_time")


def test_ends_are_compared_as_moments_not_as_texts() -> None:
    made = event(start_time="2026-04-05T10:00:00+02:00", end_time="2026-04-05T09:00:00Z")

    assert made["end"]["dateTime"] == "2026-04-05T09:00:00"


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        (["a@x.ch", "b@y.ch"], ["a@x.ch", "b@y.ch"]),
        ("a@x.ch", ["a@x.ch"]),
        ("a@x.ch, b@y.ch;c@z.ch", ["a@x.ch", "b@y.ch", "c@z.ch"]),
        ([{"address": "a@x.ch", "name": "Ada"}], ["a@x.ch"]),
        ([], []),
        (None, []),
        (["a@x.ch", "A@X.ch"], ["a@x.ch"]),
    ],
)
def test_attendees_are_written_in_several_ways(given: Any, addresses: list[str]) -> None:
    assert [each["emailAddress"]["address"] for each in event(attendees=given)["attendees"]] == addresses


def test_who_is_required_is_not_optional_too() -> None:
    people = event(attendees=["a@x.ch"], optional_attendees=["b@x.ch", "A@x.ch"])["attendees"]

    assert [(each["emailAddress"]["address"], each["type"]) for each in people] == [
        ("a@x.ch", "required"),
        ("b@x.ch", "optional"),
    ]


@pytest.mark.parametrize(
    "address",
    [
        *(
            "",
            "a",
            "a@",
            "@x.ch",
            "a@x.ch\r\nBcc: b@y.ch",
            "a b@x.ch",
            "Ada <a@x.ch>",
            "a@x..ch",
            "a..b@x.ch",
            "a@-x.ch",
        ),
        *("a@x.ch.", "a@x.ch,b@y.ch", "ä@x.ch", "a@x.ch\x00", "x" * 250 + "@x.ch", "a@[127.0.0.1]"),
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    assert problem(attendees=[address])[0].startswith("attendees[0]")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"event_title": ""}, "event_title"),
        ({"event_title": "   "}, "event_title"),
        ({"event_title": "a\r\nX-Evil: 1"}, "event_title"),
        ({"event_title": "x" * 256}, "event_title"),
        ({"location": "a\nb"}, "location"),
        ({"attendees": [f"a{n}@x.ch" for n in range(501)]}, "attendees"),
        ({"attendees": [f"a{n}@x.ch" for n in range(500)], "optional_attendees": ["b@x.ch"]}, "attendees"),
        ({"attendees": {"a": 1}}, "attendees"),
        ({"attendees": [{"address": "a@x.ch", "type": "required"}]}, "attendees[0].type"),
        ({"reminder_minutes": -1}, "reminder_minutes"),
        ({"reminder_minutes": 40_321}, "reminder_minutes"),
        ({"reminder_minutes": 15, "reminder": False}, "reminder_minutes"),
        ({"body_type": "markdown"}, "body_type"),
        ({"online_meeting": "maybe"}, "online_meeting"),
    ],
)
def test_limits_are_checked_before_the_call(changes: dict[str, Any], field: str) -> None:
    assert problem(**changes)[0] == field


def test_everything_may_be_said_at_once() -> None:
    full = event(
        event_title="Größe\u00a0& Co",
        body="<b>Agenda</b>",
        body_type="html",
        location="Room 1",
        online_meeting="true",
        reminder_minutes="15",
    )

    assert full["body"] == {"contentType": "html", "content": "<b>Agenda</b>"}
    assert full["location"] == {"displayName": "Room 1"}
    assert (full["isOnlineMeeting"], full["onlineMeetingProvider"]) == (True, "teamsForBusiness")
    assert (full["isReminderOn"], full["reminderMinutesBeforeStart"]) == (True, 15)


def test_a_reminder_may_be_switched_off() -> None:
    assert event(reminder=False)["isReminderOn"] is False


def test_the_vendor_recognises_a_repeated_call() -> None:
    inputs = microsoft_calendar.parse(BASE)

    assert microsoft_calendar.effect_of(inputs) == Effect.KEYED
    assert microsoft_calendar.needs_of(inputs) == (Link("microsoft", scopes={"Calendars.ReadWrite"}),)
