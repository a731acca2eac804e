"""Retry-After, read strictly."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flow8_modules import retry_after

NOW = datetime(2026, 11, 22, 9, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        (" 7 ", 7.0),
        ("0", 1.0),
        ("120", 120.0),
        ("1000000000", 900.0),
        ("99999999999999999999", 900.0),
        ("Sun, 22 Nov 2026 09:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 08:00:00 GMT", 1.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 900.0),
        (None, None),
        ("", None),
        ("-5", None),
        ("+5", None),
        ("3.5", None),
        ("1e3", None),
        ("soon", None),
        ("１２", None),
        ("5, 7", None),
        ("5\n6", None),
        ("0x10", None),
        ("Sun, 99 Nov 2026 09:00:30 GMT", None),
        ("Sun, 22 Nov 2026 09:00:30 +0100", None),
        ("9" * 400, None),
    ],
)
def test_only_seconds_and_http_dates_count(header: str | None, seconds: float | None) -> None:
    assert seconds == retry_after(header, now=NOW)
