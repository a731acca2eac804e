"""A Graph event: what a POST may hold, what is stored, and how it is shown.

Source: Graph v1.0, "event resource type" (names), its enumerations, "dateTimeTimeZone". Graph refuses a property that
the type does not have; `dateTime` carries no offset, the zone stands beside it.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from flow8_lab.clock import Clock
from flow8_lab.http import Request

MOST_ATTENDEES = 500
DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,7})?)?")
ADDRESS = re.compile(r"[^@\s<>]+@[^@\s<>]+\.[^@\s<>]+")

# Of Windows' names the most used; of IANA's, those that Graph documents are a subset of what zoneinfo knows.
WINDOWS_ZONES: Mapping[str, str] = {
    "UTC": "UTC",
    "GMT Standard Time": "Europe/London",
    "W. Europe Standard Time": "Europe/Berlin",
    "Romance Standard Time": "Europe/Paris",
    "Eastern Standard Time": "America/New_York",
    "Central Standard Time": "America/Chicago",
    "Pacific Standard Time": "America/Los_Angeles",
    "Tokyo Standard Time": "Asia/Tokyo",
    "India Standard Time": "Asia/Kolkata",
}


class Invalid(Exception):
    """Graph answers 400 with this code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def _one_of(*values: str) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if value not in values:
            raise Invalid("RequestBodyRead", f"Requested value '{value}' was not found.")

    return check


def _a(*kinds: type) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise Invalid("RequestBodyRead", "Cannot convert the literal to the expected type.")

    return check


def _shape(**properties: Callable[[Any], None]) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            raise Invalid("RequestBodyRead", "An object was expected.")
        for name, inner in value.items():
            if name not in properties and not name.startswith("@odata."):
                message = f"The property '{name}' does not exist on type 'microsoft.graph.event' or a part of it."
                raise Invalid("RequestBodyRead", message)
            if name in properties:
                properties[name](inner)

    return check


def _list(item: Callable[[Any], None]) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if not isinstance(value, list):
            raise Invalid("RequestBodyRead", "A collection was expected.")
        for inner in value:
            item(inner)

    return check


_text, _flag, _number, _any = _a(str), _a(bool), _a(int), _a(object)
_moment = _shape(dateTime=_text, timeZone=_text)
_address = _shape(address=_text, name=_text)
_place = _shape(
    displayName=_text,
    locationEmailAddress=_text,
    locationUri=_text,
    locationType=_text,
    uniqueId=_text,
    uniqueIdType=_text,
    address=_any,
    coordinates=_any,
)

# What a client may set when it creates an event.
PROPERTIES: Mapping[str, Callable[[Any], None]] = {
    "subject": _text,
    "body": _shape(contentType=_one_of("text", "html", "Text", "HTML"), content=_text),
    "start": _moment,
    "end": _moment,
    "location": _place,
    "locations": _list(_place),
    "attendees": _list(
        _shape(
            emailAddress=_address, type=_one_of("required", "optional", "resource"), status=_any, proposedNewTime=_any
        )
    ),
    "organizer": _shape(emailAddress=_address),
    "transactionId": _text,
    "isAllDay": _flag,
    "isOnlineMeeting": _flag,
    "onlineMeetingProvider": _one_of("unknown", "teamsForBusiness", "skypeForBusiness", "skypeForConsumer"),
    "isReminderOn": _flag,
    "reminderMinutesBeforeStart": _number,
    "allowNewTimeProposals": _flag,
    "hideAttendees": _flag,
    "responseRequested": _flag,
    "importance": _one_of("low", "normal", "high"),
    "sensitivity": _one_of("normal", "personal", "private", "confidential"),
    "showAs": _one_of("unknown", "free", "tentative", "busy", "oof", "workingElsewhere"),
    "categories": _list(_text),
    "recurrence": _any,
    "singleValueExtendedProperties": _list(_shape(id=_text, value=_text)),
}
_event = _shape(**PROPERTIES)


def read(request: Request) -> dict[str, Any]:
    """The event that a POST asks for. Raises Invalid."""
    if not request.is_json():
        raise Invalid(
            "RequestBodyRead", "A missing or empty content type header was found when trying to read a message."
        )
    try:
        asked = request.json()
    except ValueError:
        raise Invalid("BadRequest", "Unable to read JSON request payload.") from None
    if not isinstance(asked, dict):
        raise Invalid("BadRequest", "Unable to read JSON request payload.")
    _event(asked)
    start, end = _instant(asked.get("start")), _instant(asked.get("end"))
    if end < start:
        raise Invalid("ErrorPropertyValidationFailure", "The end of the event is before its start.")
    _check_attendees(asked.get("attendees") or [])
    return asked


def stored(asked: Mapping[str, Any], *, origin: str, account: Mapping[str, str], now: float) -> dict[str, Any]:
    """The event that Graph makes of it, all times in UTC."""
    id_ = f"AAMkAD{secrets.token_urlsafe(84)}=="
    stamp = Clock().stamp(now)
    content = str((asked.get("body") or {}).get("content") or "")
    online = bool(asked.get("isOnlineMeeting"))
    attendees = [{"type": "required", "status": _NO_RESPONSE, **attendee} for attendee in asked.get("attendees") or []]
    plain = ("subject", "importance", "sensitivity", "showAs", "isAllDay", "categories", "recurrence")
    return {
        "@odata.etag": f'W/"{secrets.token_urlsafe(16)}=="',
        "id": id_,
        "createdDateTime": stamp,
        "lastModifiedDateTime": stamp,
        "changeKey": secrets.token_urlsafe(16),
        **_DEFAULTS,
        **{name: asked[name] for name in plain if asked.get(name) is not None},
        **({"transactionId": asked["transactionId"]} if asked.get("transactionId") else {}),
        "originalStartTimeZone": (asked["start"]).get("timeZone") or "UTC",
        "originalEndTimeZone": (asked["end"]).get("timeZone") or "UTC",
        "iCalUId": base64.b16encode(secrets.token_bytes(40)).decode(),
        "isReminderOn": asked.get("isReminderOn", True),
        "reminderMinutesBeforeStart": asked.get("reminderMinutesBeforeStart", 15),
        "allowNewTimeProposals": asked.get("allowNewTimeProposals", True),
        "hideAttendees": asked.get("hideAttendees", False),
        "responseRequested": asked.get("responseRequested", True),
        "bodyPreview": re.sub(r"<[^>]+>", "", content)[:255],
        "body": {
            "contentType": str((asked.get("body") or {}).get("contentType") or "html").lower(),
            "content": content,
        },
        "start": _in_utc(asked["start"]),
        "end": _in_utc(asked["end"]),
        "location": _located(asked.get("location")),
        "locations": [_located(asked["location"])] if asked.get("location") else [],
        "attendees": attendees,
        "organizer": {"emailAddress": {"name": account["name"], "address": account["email"]}},
        "webLink": f"{origin}/owa/?itemid={id_}&exvsurl=1&path=/calendar/item",
        "isOnlineMeeting": online,
        "onlineMeetingProvider": "teamsForBusiness" if online else "unknown",
        "onlineMeeting": {"joinUrl": f"{origin}/l/meetup-join/{secrets.token_hex(12)}"} if online else None,
    }


def shown(event: Mapping[str, Any], zone: str) -> dict[str, Any]:
    """The event with its times in `zone`, as `Prefer: outlook.timezone` asks."""
    return {**event, "start": _in_zone(event["start"], zone), "end": _in_zone(event["end"], zone)}


def preferred_zone(prefer: str) -> str:
    """The zone that a Prefer header asks for, else UTC."""
    found = re.search(r'outlook\.timezone="([^"]+)"', prefer)
    return found.group(1) if found and _zone(found.group(1)) else "UTC"


_NO_RESPONSE = {"response": "none", "time": "0001-01-01T00:00:00Z"}
_DEFAULTS: Mapping[str, Any] = {
    "subject": "",
    "categories": [],
    "hasAttachments": False,
    "importance": "normal",
    "sensitivity": "normal",
    "isAllDay": False,
    "isCancelled": False,
    "isOrganizer": True,
    "isDraft": False,
    "seriesMasterId": None,
    "showAs": "busy",
    "type": "singleInstance",
    "onlineMeetingUrl": None,
    "recurrence": None,
    "responseStatus": {"response": "organizer", "time": "0001-01-01T00:00:00Z"},
}


def _check_attendees(attendees: list[Any]) -> None:
    if len(attendees) > MOST_ATTENDEES:
        raise Invalid("ErrorInvalidRequest", "Your request is invalid: too many attendees.")
    for attendee in attendees:
        address = ((attendee or {}).get("emailAddress") or {}).get("address")
        if not address or not ADDRESS.fullmatch(address):
            message = f"At least one recipient isn't valid., Recipient '{address}' isn't resolved."
            raise Invalid("ErrorInvalidRecipients", message)


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(WINDOWS_ZONES.get(name, name))
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError, and a bad name a ValueError or OSError
        return None
    except KeyError:
        return None


def _instant(moment: Mapping[str, Any] | None) -> datetime:
    """A dateTimeTimeZone as an instant. Raises Invalid."""
    text = (moment or {}).get("dateTime")
    if not text:
        raise Invalid(
            "ErrorPropertyValidationFailure", "At least one property failed validation: start and end are required."
        )
    if not DATE_TIME.fullmatch(text):
        raise Invalid("ErrorInvalidParameter", f"The value '{text}' is not a date and time without an offset.")
    name = (moment or {}).get("timeZone") or "UTC"
    zone = _zone(name)
    if zone is None:
        message = f"A valid TimeZone value must be specified. The following TimeZone value is not supported: '{name}'."
        raise Invalid("TimeZoneNotSupportedException", message)
    try:
        return datetime.fromisoformat(text[:26]).replace(tzinfo=zone).astimezone(UTC)
    except ValueError:
        raise Invalid("ErrorInvalidParameter", f"The value '{text}' is no date.") from None


def _in_utc(moment: Mapping[str, Any]) -> dict[str, str]:
    return {"dateTime": _instant(moment).strftime("%Y-%m-%dT%H:%M:%S.0000000"), "timeZone": "UTC"}


def _in_zone(moment: Mapping[str, Any], zone: str) -> dict[str, str]:
    there = _instant(moment).astimezone(_zone(zone) or UTC)
    return {"dateTime": there.strftime("%Y-%m-%dT%H:%M:%S.0000000"), "timeZone": zone}


def _located(place: Mapping[str, Any] | None) -> dict[str, Any]:
    name = (place or {}).get("displayName") or ""
    return {"locationType": "default", "uniqueIdType": "unknown", **(place or {}), "displayName": name}
