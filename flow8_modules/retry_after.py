"""How long a vendor asks us to wait (RFC 9110, section 10.2.3), read strictly."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_S = 900.0
SHORTEST_S = 1.0

_SECONDS = re.compile(r"[0-9]{1,20}")
_IMF_DATE = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")


def retry_after(value: str | None, *, now: datetime) -> float | None:
    """Seconds to wait, kept between 1 and 900; None where the header is absent or makes no sense.

    Digits are ASCII ones: `int()` would take full-width ones too. A date that has passed means the shortest wait.
    """
    text = (value or "").strip(" \t")
    if _SECONDS.fullmatch(text):
        return _kept(float(text))
    if _IMF_DATE.fullmatch(text):
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        return _kept((moment - now.astimezone(UTC)).total_seconds())
    return None


def _kept(seconds: float) -> float:
    return min(LONGEST_S, max(SHORTEST_S, seconds))
