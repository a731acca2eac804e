"""What to do about an access token: every case in one table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credentials.grants import MAIN, Grant, refresh_at
from credentials.providers.catalogue import Providers
from credentials.providers.provider import Provider, Replay
from credentials.providers.settings import OAuthApp
from credentials.refresh_plan import plan

NOW = datetime(2026, 4, 4, 10, 0, tzinfo=UTC)
SEALED = {"encrypted": True}
FRESH, DUE, OVER = 3600, 300, 59  # seconds that the access token has left


def provider(replay: Replay) -> Provider:
    fields = {
        "client_id": "x",
        "authorize_url": "https://id.example/a",
        "token_url": "https://id.example/t",
        "api_hosts": ["api.example"],
        "replay": replay,
        "grace_s": 60 if replay == "grace" else 0,
    }
    return Providers({"acme": OAuthApp.model_validate(fields)}).get("acme")


def grant(left_s: float | None, **fields: Any) -> Grant:
    expiry = None if left_s is None else NOW + timedelta(seconds=left_s)
    document = {"access_token": SEALED, "refresh_token": SEALED, "generation": 3, "token_expiry": expiry}
    return Grant(MAIN, document | {"refresh_at": refresh_at(expiry, 3600)} | fields)


def older(left_s: float) -> Grant:
    """One without our fields, as an older server writes it."""
    return Grant(MAIN, {"refresh_token": SEALED, "token_expiry": NOW + timedelta(seconds=left_s)})


def claim(*, lease_s: float, started_s: float = -100, **more: Any) -> dict[str, Any]:
    return {
        "owner": "x",
        "lease_until": NOW + timedelta(seconds=lease_s),
        "started_at": NOW + timedelta(seconds=started_s),
        **more,
    }


HELD, BROKEN, JUST_BROKEN = claim(lease_s=40), claim(lease_s=-1), claim(lease_s=-1, started_s=-30)
ALL: tuple[Replay, ...] = ("reusable", "grace", "single_use")
LATER = NOW + timedelta(seconds=30)

CASES: list[tuple[str, Grant, tuple[Replay, ...], bool, str]] = [
    ("not due", grant(FRESH), ALL, False, "use"),
    ("does not end", grant(None), ALL, False, "use"),
    ("not due, a claim was broken off", grant(FRESH, refresh=BROKEN), ALL, False, "use"),
    ("due", grant(DUE), ALL, False, "send"),
    ("over", grant(OVER), ALL, False, "send"),
    ("refused", grant(FRESH), ALL, True, "send"),
    ("refused, does not end", grant(None), ALL, True, "send"),
    ("due, held", grant(DUE, refresh=HELD), ALL, False, "use"),
    ("over, held", grant(OVER, refresh=HELD), ALL, False, "wait"),
    ("refused, held", grant(FRESH, refresh=HELD), ALL, True, "wait"),
    ("due, failed a moment ago", grant(DUE, not_before=LATER), ALL, False, "use"),
    ("over, failed a moment ago", grant(OVER, not_before=LATER), ALL, False, "back_off"),
    ("over, failed long ago", grant(OVER, not_before=NOW), ALL, False, "send"),
    ("due, cannot be refreshed", grant(DUE, refresh_token=None), ALL, False, "use"),
    ("over, cannot be refreshed", grant(OVER, refresh_token=None), ALL, False, "dead"),
    ("refused, cannot be refreshed", grant(None, refresh_token=None), ALL, True, "dead"),
    ("not due, broken off within the grace", grant(FRESH, refresh=JUST_BROKEN), ("grace",), False, "send unknown"),
    ("not due, broken off a moment ago", grant(FRESH, refresh=JUST_BROKEN), ("reusable", "single_use"), False, "use"),
    ("not due, held within the grace", grant(FRESH, refresh=claim(lease_s=9, started_s=-1)), ALL, False, "use"),
    ("due, broken off", grant(DUE, refresh=BROKEN), ("reusable",), False, "send unknown"),
    ("due, broken off", grant(DUE, refresh=BROKEN), ("grace", "single_use"), False, "use"),
    ("due, broken off within the grace", grant(DUE, refresh=JUST_BROKEN), ("grace",), False, "send unknown"),
    ("due, broken off a moment ago", grant(DUE, refresh=JUST_BROKEN), ("single_use",), False, "use"),
    ("over, broken off", grant(OVER, refresh=BROKEN), ALL, False, "send unknown"),
    ("refused, broken off", grant(FRESH, refresh=BROKEN), ALL, True, "send unknown"),
    ("a reply was kept", grant(DUE, refresh=BROKEN | {"reply": {}}), ALL, False, "recover"),
    ("a reply was kept, held", grant(OVER, refresh=HELD | {"reply": {}}), ALL, False, "recover"),
    (
        "a reply was kept that nobody can read",
        grant(OVER, refresh=BROKEN | {"reply": {}, "unreadable": True}),
        ALL,
        False,
        "send unknown",
    ),
    ("an older server's, not due", older(2 * 3600), ALL, False, "use"),
    ("an older server's, due", older(30), ALL, False, "send"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "seen", "policies", "force", "expected"), CASES, ids=[case[0] for case in CASES])
def test_each_case_has_its_step(
    what: str, seen: Grant, policies: tuple[Replay, ...], force: bool, expected: str
) -> None:
    for replay in policies:
        found = plan(seen, provider(replay), now=NOW, force=force)

        assert found.step + (" unknown" if found.unknown else "") == expected, (what, replay)
        assert (found.retry_after is not None) == (found.step in ("wait", "back_off"))


def test_a_token_that_may_be_spent_is_never_sent_while_the_access_token_works() -> None:
    for left_s, claimed in product((DUE, FRESH, 61), (BROKEN, JUST_BROKEN)):
        assert plan(grant(left_s, refresh=claimed), provider("single_use"), now=NOW).step == "use"


@given(lifetime=st.integers(1, 10**8))
def test_the_lead_is_a_quarter_of_the_lifetime_between_a_minute_and_an_hour(lifetime: int) -> None:
    expiry = NOW + timedelta(seconds=lifetime)

    due = refresh_at(expiry, lifetime)

    assert due is not None
    lead_s = (expiry - due).total_seconds()
    assert lead_s == int(min(3600, max(60, lifetime / 4)))


@pytest.mark.parametrize(("lifetime_s", "lead_s"), [(60, 60), (300, 75), (3600, 900), (4500, 1125), (43200, 3600)])
def test_the_leads_of_well_known_lifetimes(lifetime_s: int, lead_s: int) -> None:
    expiry = NOW + timedelta(seconds=lifetime_s)

    assert refresh_at(expiry, lifetime_s) == expiry - timedelta(seconds=lead_s)


def test_a_provider_may_have_a_lead_of_its_own_and_an_endless_token_is_never_due() -> None:
    assert refresh_at(NOW, 600, 30) == NOW - timedelta(seconds=30)
    assert refresh_at(None, None) is None
