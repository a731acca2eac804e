"""Times as people write them, in UTC: with an offset, or in a named zone where they exist exactly once."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flow8_modules import Fault

EARLIEST, LATEST = 1970, 2100

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|z|[+-][0-9]{2}:?[0-9]{2})?"
)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(/[A-Za-z0-9_+-]{1,31}){0,2}")


def read_time(text: str) -> datetime:
    """An ISO 8601 date and time, naive where it has no offset. Raises `Fault`."""
    if not _TIME.fullmatch(text):
        raise Fault("should be a date and time such as 2026-04-05T10:00:00Z")
    try:
        moment = datetime.fromisoformat(re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text.upper()))
    except ValueError:
        raise Fault("is no date and time that exists") from None
    if not EARLIEST <= moment.year <= LATEST:
        raise Fault(f"should lie between the years {EARLIEST} and {LATEST}")
    return moment


def read_zone(name: str) -> ZoneInfo:
    """A zone by its IANA name. Raises `Fault`."""
    if _ZONE.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass  # said below
    raise Fault("should be the IANA name of a time zone, such as Europe/Zurich")


def in_utc(text: str, zone: str | None, *, field: str) -> datetime:
    """The moment in UTC. Raises `Fault` at `field` for a time without offset and zone, and for one that the zone's
    clocks skip or show twice."""
    moment = read_time(text)
    if moment.tzinfo is not None:
        return moment.astimezone(UTC)
    if zone is None:
        raise Fault("has no offset: write it with Z or +01:00, or give time_zone", field=field)
    local = moment.replace(tzinfo=read_zone(zone))
    utc = local.astimezone(UTC)
    if utc.astimezone(local.tzinfo).replace(tzinfo=None) != moment:
        raise Fault("does not exist in that zone: the clocks go forward then", field=field)
    if local.replace(fold=1).utcoffset() != local.utcoffset():
        raise Fault("exists twice in that zone: write it with its offset, such as +02:00", field=field)
    return utc
