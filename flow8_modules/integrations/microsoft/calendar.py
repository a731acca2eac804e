"""`microsoft-calendar`."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import BeforeValidator, ConfigDict, field_validator, model_validator

from flow8_modules import Context, Effect, Fault, Field, Input, Link, Output, errors, module
from flow8_modules.integrations.microsoft.client import graph, nonsense
from flow8_modules.integrations.microsoft.times import in_utc, read_time, read_zone

SCOPE = "Calendars.ReadWrite"
PREFER = ('IdType="ImmutableId"', 'outlook.timezone="UTC"')
MAX_ATTENDEES = 500
MAX_REMINDER_MIN = 40_320  # four weeks
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TRANSACTION = uuid.UUID(
    "5f8b3c1e-6a0e-5d6b-9d0c-1f2c7a9e4b11"
)  # our namespace: the same key gives the same id for ever


class Attendee(Input):
    """Somebody to invite."""

    address: str = Field(max_length=254, description="E-mail address.", examples=["user@company.com"])
    name: str | None = Field(None, max_length=255, description="Name to show.", examples=["Ada Lovelace"])

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        if not _ADDRESS.fullmatch(address) or ".." in address:
            raise Fault("is not an e-mail address")
        return address


def _attendees(value: Any) -> Any:
    """Addresses as text, one or several, beside `{address, name}`."""
    if value is None:
        return []
    if isinstance(value, str):
        value = [part.strip() for part in re.split(r"[,;]", value) if part.strip()]
    if not isinstance(value, list | tuple):
        return value
    return [{"address": each} if isinstance(each, str) else each for each in value]


Attendees = Annotated[list[Attendee], BeforeValidator(_attendees, json_schema_input_type=list[str | Attendee] | str)]


class Meeting(Input):
    """What to put into the calendar, and whom to invite."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "event_title": "flow8 Demo",
                    "attendees": ["user@company.com"],
                    "start_time": "2026-04-05T10:00:00Z",
                    "end_time": "2026-04-05T11:00:00Z",
                }
            ]
        }
    )

    event_title: str = Field(min_length=1, max_length=255, description="Subject of the event.", examples=["flow8 Demo"])
    start_time: str = Field(
        description="Begin, ISO 8601: with an offset or Z, or without one and with time_zone.",
        examples=["2026-04-05T10:00:00Z"],
    )
    end_time: str = Field(description="End, written as the begin is.", examples=["2026-04-05T11:00:00Z"])
    time_zone: str | None = Field(None, description="IANA zone of times without an offset.", examples=["Europe/Zurich"])
    attendees: Attendees = Field(
        default_factory=list,  # a `default` would be copied deeply for each call
        json_schema_extra={"default": []},
        description="Required attendees: addresses, or {address, name}. Invitations go out at once.",
        examples=[["user@company.com"]],
    )
    optional_attendees: Attendees = Field(
        default_factory=list,
        json_schema_extra={"default": []},
        description="Optional attendees, written as the required ones.",
        examples=[["boss@company.com"]],
    )
    body: str | None = Field(
        None, max_length=1_000_000, description="Text of the invitation.", examples=["Agenda: ..."]
    )
    body_type: Literal["text", "html"] = Field("text", description="How the text is written.", examples=["text"])
    location: str | None = Field(None, max_length=255, description="Where it takes place.", examples=["Room 1"])
    online_meeting: bool = Field(False, description="Make it a Teams meeting as well.", examples=[True])
    reminder_minutes: int | None = Field(
        None,
        ge=0,
        le=MAX_REMINDER_MIN,
        description="Remind so many minutes before; otherwise as the calendar does by itself.",
        examples=[15],
    )
    reminder: bool | None = Field(None, description="False: no reminder at all.", examples=[True])

    @field_validator("event_title", "location")
    @classmethod
    def _is_one_line(cls, text: str | None) -> str | None:
        if text is not None and (_CONTROL.search(text) or not text.strip()):
            raise Fault("should be one line of text")
        return text

    @field_validator("start_time", "end_time")
    @classmethod
    def _is_a_time(cls, text: str) -> str:
        read_time(text)
        return text

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, name: str | None) -> str | None:
        if name is not None:
            read_zone(name)
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> Meeting:
        if len(self.attendees) + len(self.optional_attendees) > MAX_ATTENDEES:
            raise Fault(f"should be at most {MAX_ATTENDEES} people in all", field="attendees")
        if self.reminder is False and self.reminder_minutes is not None:
            raise Fault("cannot stand beside reminder: false", field="reminder_minutes")
        if self.end <= self.start:
            raise Fault("should lie after start_time", field="end_time")
        return self

    @property
    def start(self) -> datetime:
        """The begin, in UTC."""
        return in_utc(self.start_time, self.time_zone, field="start_time")

    @property
    def end(self) -> datetime:
        """The end, in UTC."""
        return in_utc(self.end_time, self.time_zone, field="end_time")


class Invited(Output):
    """The event as the calendar knows it."""

    event_id: str = Field(description="Immutable id of the event.", examples=["AAMkAGI2TG93AAA="])
    web_link: str | None = Field(
        description="Page of the event in Outlook.",
        examples=["https://outlook.office365.com/owa/?itemid=AAMkAGI2TG93AAA%3D"],
    )
    join_url: str | None = Field(
        description="Address of the online meeting, where there is one.",
        examples=["https://teams.microsoft.com/l/meetup-join/19%3ameeting"],
    )


@module("microsoft-calendar", needs=Link("microsoft", scopes={SCOPE}), effect=Effect.KEYED)
def microsoft_calendar(inputs: Meeting, ctx: Context) -> Invited:
    """Create an event in the connected user's calendar and invite the attendees.

    A repeated call makes no second event: Microsoft recognises it by the transaction id, which follows from the step's
    idempotency key.
    """
    transaction_id = str(uuid.uuid5(_TRANSACTION, ctx.idempotency_key))
    try:
        event = graph(
            ctx, "POST", "me/events", scope=SCOPE, json=_event(inputs, transaction_id=transaction_id), prefer=PREFER
        )
    except errors.Conflict:
        known = _made_before(ctx, inputs, transaction_id)
        if known is None:
            raise
        event = known
    if not isinstance(event.get("id"), str):
        raise nonsense(ambiguous=True)
    meeting = event.get("onlineMeeting")
    join_url = meeting.get("joinUrl") if isinstance(meeting, dict) else None
    return Invited(event_id=event["id"], web_link=event.get("webLink"), join_url=join_url)


def _made_before(ctx: Context, inputs: Meeting, transaction_id: str) -> dict[str, Any] | None:
    """The event that an earlier attempt made. Whether Graph answers a repeated transaction with the event or with 409
    is not documented; it is found by its begin, for transaction ids cannot be searched for."""
    begin = _moment(inputs.start)["dateTime"]
    query = {
        "$filter": f"start/dateTime ge '{begin}' and start/dateTime le '{begin}'",
        "$select": "id,webLink,onlineMeeting,transactionId",
        "$top": "100",
    }
    found = graph(ctx, "GET", f"me/events?{urlencode(query)}", scope=SCOPE, prefer=PREFER).get("value")
    events = found if isinstance(found, list) else []
    return next(
        (each for each in events if isinstance(each, dict) and each.get("transactionId") == transaction_id), None
    )


def _event(inputs: Meeting, *, transaction_id: str) -> dict[str, Any]:
    """Graph's event (https://learn.microsoft.com/graph/api/resources/event), with nothing that the step leaves out."""
    event: dict[str, Any] = {
        "subject": inputs.event_title,
        "start": _moment(inputs.start),
        "end": _moment(inputs.end),
        "attendees": _people(inputs),
        "transactionId": transaction_id,
    }
    if inputs.body is not None:
        event["body"] = {"contentType": inputs.body_type, "content": inputs.body}
    if inputs.location is not None:
        event["location"] = {"displayName": inputs.location}
    if inputs.online_meeting:
        event |= {"isOnlineMeeting": True, "onlineMeetingProvider": "teamsForBusiness"}
    if inputs.reminder is not None or inputs.reminder_minutes is not None:
        event["isReminderOn"] = inputs.reminder is not False
    if inputs.reminder_minutes is not None:
        event["reminderMinutesBeforeStart"] = inputs.reminder_minutes
    return event


def _people(inputs: Meeting) -> list[dict[str, Any]]:
    """Everybody once: who is required is not optional too."""
    people: dict[str, dict[str, Any]] = {}
    for kind, attendees in (("required", inputs.attendees), ("optional", inputs.optional_attendees)):
        for each in attendees:
            address = {"address": each.address} | ({"name": each.name} if each.name else {})
            people.setdefault(each.address.lower(), {"emailAddress": address, "type": kind})
    return list(people.values())


def _moment(moment: datetime) -> dict[str, str]:
    return {"dateTime": moment.strftime("%Y-%m-%dT%H:%M:%S"), "timeZone": "UTC"}
