"""What the laboratory's vendors have to show after a play, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flow8_lab.client import Lab

COLUMNS = ["vendor", "what", "what it says"]
VENDORS = ("web", "s3", "slack", "microsoft")

Row = list[str]


def count_effects(lab: Lab) -> dict[str, int]:
    """How much was changed at each vendor."""
    return {vendor: lab.effects(vendor)["count"] for vendor in VENDORS}


def rows(lab: Lab) -> list[Row]:
    """What was asked of, and what landed at each vendor, as rows of `COLUMNS`."""
    found = [*_web(lab), *_s3(lab), *_slack(lab), *_microsoft(lab)]
    for vendor in ("slack", "microsoft"):
        refreshes = lab.requests(vendor, "token.refresh")["count"]
        if refreshes:
            found.append([vendor, "tokens", f"refreshed {'once' if refreshes == 1 else f'{refreshes} times'}"])
    return found


def _web(lab: Lab) -> Iterator[Row]:
    for request in lab.requests("web")["items"]:
        yield ["web", "request", f"{request['method']} {request['target']} answered {request['status']}"]


def _s3(lab: Lab) -> Iterator[Row]:
    for item in _items(lab, "s3"):
        yield ["s3", "object", f"{item['bucket']}/{item['key_name']}, {item['bytes']} bytes, {item['content_type']}"]


def _slack(lab: Lab) -> Iterator[Row]:
    for item in _items(lab, "slack"):
        yield ["slack", "message", f"to {item['channel']}: {item['message']['text']}"]


def _microsoft(lab: Lab) -> Iterator[Row]:
    for item in _items(lab, "microsoft"):
        event = item["event"]
        invited = ", ".join(each["emailAddress"]["address"] for each in event["attendees"])
        start = f"{event['start']['dateTime'][:16].replace('T', ' ')} {event['start']['timeZone']}"
        yield ["microsoft", "event", f"{event['subject']}, {start}, with {invited}"]


def _items(lab: Lab, vendor: str) -> list[Mapping[str, Any]]:
    return list(lab.effects(vendor)["items"])
