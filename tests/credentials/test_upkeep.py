"""Links that nobody uses are kept alive: which are looked at, when, and how their load is spread."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from credentials import refresh
from credentials.grants import COLLECTION, USER, Grant
from credentials.link import Link
from credentials.refresh_claims import LEASE_S
from credentials.upkeep import AGAIN_S
from credentials.upkeep_times import NEVER, of_grant, spread_of
from credentials.vault import Vault
from flow8_core import crashpoints
from flow8_core.egress import Egress
from flow8_core.store.dialect.matching import compile_filter
from flow8_core.store.sqlite import SqliteStore
from flow8_core.store.sqlite.plan import choose
from tests.counterparts.token_server import Answer, TokenServer
from tests.credentials.desk import Desk, open_desk
from tests.credentials.test_refresh_plan import ALL, NOW, SEALED, claim, grant, provider

DAY = 24 * 3600.0
PROVIDERS = [provider(policy) for policy in ALL]


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        yield desk
    crashpoints.arm("")


# --- when


def left(moment: Any) -> float | None:
    return None if moment == NEVER else (moment - NOW).total_seconds()


def kept(idle_s: float, issued_s: float, **fields: Any) -> Grant:
    """A grant whose access token does not end, but which dies without a refresh."""
    dates = {"grant_idle_at": NOW + timedelta(seconds=idle_s), "issued_at": NOW + timedelta(seconds=issued_s)}
    return grant(None, **dates, **fields)


HELD, BROKEN = claim(lease_s=40), claim(lease_s=-1)

MOMENTS = [
    # what, grant, policy, seconds from now for a spread of 0 and of 1
    ("refreshable", grant(3600), "single_use", (2700, 2925)),
    ("due", grant(300), "single_use", (-600, -375)),
    ("endless", grant(None), "single_use", None),
    ("without a refresh token", grant(3600, refresh_token=None), "single_use", (3540, 3540)),
    ("endless, without a refresh token", grant(None, refresh_token=None), "single_use", None),
    ("idle", kept(40 * DAY, -60 * DAY), "reusable", (0, 10 * DAY)),
    ("idle, without a refresh token", kept(40 * DAY, -60 * DAY, refresh_token=None), "reusable", None),
    ("failed a moment ago", grant(300, not_before=NOW + timedelta(seconds=30)), "single_use", (30, 30)),
    ("held", grant(300, refresh=HELD), "reusable", (40, 40)),
    ("broken off, spent perhaps", grant(300, refresh=BROKEN), "single_use", (240, 240)),
    ("held, spent perhaps", grant(300, refresh=HELD), "single_use", (240, 240)),
    ("broken off, reusable", grant(300, refresh=BROKEN), "reusable", (-1, -1)),
    ("broken off, within the grace", grant(300, refresh=claim(lease_s=-1, started_s=-30)), "grace", (-1, -1)),
    ("not due, broken off, within the grace", grant(3600, refresh=claim(lease_s=-1, started_s=-30)), "grace", (-1, -1)),
    ("broken off, after the grace", grant(300, refresh=BROKEN), "grace", (240, 240)),
    ("over, broken off", grant(10, refresh=BROKEN), "single_use", (-1, -1)),
    ("a reply was kept", grant(3600, refresh={**HELD, "reply": SEALED}), "single_use", (0, 0)),
    ("a user's own that died", Grant(USER, {**grant(300).fields, "status": "needs_reconnect"}), "reusable", None),
    ("none", Grant(USER, {}), "reusable", None),
]  # fmt: skip


@pytest.mark.parametrize(("what", "seen", "policy", "expected"), MOMENTS, ids=[row[0] for row in MOMENTS])
def test_each_grant_has_its_moment(what: str, seen: Grant, policy: Any, expected: tuple[float, float] | None) -> None:
    moments = tuple(left(of_grant(seen, provider(policy), now=NOW, spread=spread)) for spread in (0, 1))

    assert moments == (expected or (None, None)), what


@given(life_s=st.integers(120, 10**7), age=st.floats(0, 1), spread=st.floats(0, 1))
def test_the_moment_lies_between_being_due_and_well_before_the_end(life_s: int, age: float, spread: float) -> None:
    seen = grant(life_s * (1 - age))

    for described in PROVIDERS:
        moment = of_grant(seen, described, now=NOW, spread=spread)

        assert seen.refresh_at is not None
        assert seen.expiry is not None
        assert seen.refresh_at <= moment <= seen.refresh_at + (seen.expiry - seen.refresh_at) / 4


def test_links_of_one_moment_are_spread_evenly() -> None:
    places = sorted(spread_of(ObjectId()) for _ in range(2000))

    assert all(abs(place - number / 2000) < 0.06 for number, place in enumerate(places))


# --- which


def test_a_link_that_nobody_uses_is_refreshed_once_when_its_moment_has_come(desk: Desk) -> None:
    link = desk.link(expires_in=3600)
    assert desk.look_after() == []
    desk.clock.advance(2700 + 226)

    assert desk.look_after() == [link.id]
    assert desk.look_after() == []

    assert desk.now(link).generation == 2
    assert len(desk.server.token_calls) == 1


def test_only_links_that_are_due_are_read(desk: Desk) -> None:
    for number in range(20):
        desk.link(expires_in=3600 if number % 2 else 300, account=f"user-{number}")

    reads: list[Any] = []
    assert isinstance(desk.store, SqliteStore)
    found = desk.store.find
    desk.store.find = lambda *args, **options: reads.append(rows := found(*args, **options)) or rows  # type: ignore[method-assign]

    assert len(list(desk.upkeep.due())) == 10
    assert sum(map(len, reads)) == 10


@pytest.mark.parametrize(
    "wanted", [{"status": "active", "upkeep_at": {"$lte": NOW}}, {"status": None, "upkeep_at": None}]
)
def test_what_is_due_is_found_by_an_index(desk: Desk, wanted: dict[str, Any]) -> None:
    assert isinstance(desk.store, SqliteStore)
    collection = desk.store._catalogue.collections[COLLECTION]

    plan = choose(collection, compile_filter(wanted), [("upkeep_at", 1)])

    assert "i.k0 = ? AND i.k1" in str(plan.main)
    assert plan.ordered


def test_two_sweeps_at_once_hand_a_link_out_once_and_one_that_was_lost_comes_again(desk: Desk) -> None:
    link = desk.link(expires_in=300)
    one, other = desk.upkeep.due(), desk.upkeep.due()

    handed_out = [due.link_id for due in (*one, *other)]

    assert handed_out == [link.id]
    assert list(desk.upkeep.due()) == []
    desk.clock.advance(AGAIN_S)
    assert [due.link_id for due in desk.upkeep.due()] == [link.id]


def test_a_link_that_a_step_has_refreshed_is_left_until_it_is_due_again(desk: Desk) -> None:
    link = desk.link(expires_in=300)
    desk.refresher.fresh(link, deadline=desk.soon)

    assert desk.look_after() == []
    assert desk.document(link)["upkeep_at"] >= desk.document(link)["refresh_at"]


def test_a_link_of_an_older_server_is_taken_into_care(desk: Desk) -> None:
    link = desk.link(expires_in=300)
    own = ("status", "generation", "upkeep_at", "refresh_at", "issued_at", "lifetime_s", "status_reason", "failures")
    desk.store.update(COLLECTION, {"_id": link.id}, {"$unset": dict.fromkeys(own, "")})

    assert desk.look_after() == [link.id]

    assert desk.now(link).generation == 1
    assert desk.look_after() == []


@pytest.mark.parametrize("status", ["needs_reconnect", "revoked", "app_blocked"])
def test_a_link_that_is_not_active_is_left_alone(desk: Desk, status: str) -> None:
    desk.set(desk.link(expires_in=300), status=status)

    assert list(desk.upkeep.due()) == []


def test_an_access_token_that_nothing_can_renew_is_told_at_its_end(desk: Desk) -> None:
    link = desk.link(expires_in=3600, refresh_token=None)
    desk.clock.advance(3600 - 59)

    desk.look_after()

    assert desk.now(link).status == "needs_reconnect"
    assert desk.now(link).status_reason == "token_expired"
    assert desk.server.calls == []


def endless(desk: Desk, link: Link) -> Link:
    """The link with a main access token that does not end."""
    return desk.set(link, token_expiry=None, refresh_at=None, upkeep_at=None)


def test_a_users_own_token_is_kept_alive_beside_the_bots(desk: Desk) -> None:
    link = endless(desk, desk.link("slack", user_refresh_token=desk.server.grant("theirs")))
    desk.clock.advance(2700 + 226)

    desk.look_after()

    assert desk.now(link).grant(USER).generation == 2
    assert desk.now(link).generation == 1


def test_a_grant_is_kept_alive_before_it_ends_for_want_of_use(
    tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress
) -> None:
    with open_desk(tmp_path, vault, token_server, token_egress, idle_s=100 * int(DAY)) as desk:
        link = endless(desk, desk.link())
        desk.look_after()
        desk.clock.advance(59 * DAY)
        assert desk.look_after() == []

        desk.clock.advance(12 * DAY)
        desk.look_after()

        assert desk.now(link).generation == 2
        assert desk.document(link)["grant_idle_at"] == desk.store.now() + timedelta(days=100)


def test_a_step_that_comes_by_keeps_a_grant_alive_as_well(
    tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress
) -> None:
    with open_desk(tmp_path, vault, token_server, token_egress, idle_s=100 * int(DAY)) as desk:
        link = endless(desk, desk.link())
        desk.clock.advance(61 * DAY)

        assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).generation == 2


# --- what goes wrong


@pytest.mark.parametrize(
    "answer", [Answer(502, b"<html>"), Answer(429, b"", {"Retry-After": "40"}), Answer(drop=True), Answer(200, b"{}")]
)
def test_a_link_that_failed_is_looked_at_again_when_it_may_be(desk: Desk, answer: Answer) -> None:
    desk.server.policy = "reusable"
    link = desk.link(expires_in=900)
    desk.server.script.append(answer)
    desk.look_after()
    assert desk.now(link).generation == 1

    for _ in range(10):
        desk.clock.advance(85)
        desk.look_after()

    assert desk.now(link).status == "active"
    assert desk.now(link).generation == 2


def test_an_unknown_outcome_is_settled_by_the_upkeep_when_the_access_token_is_over(desk: Desk) -> None:
    link = desk.link(expires_in=600)
    crashpoints.arm(f"{refresh.RECEIVED}:raise")
    with pytest.raises(crashpoints.CrashPointReached):
        desk.look_after()
    crashpoints.arm("")
    desk.clock.advance(LEASE_S + 1)
    desk.look_after()
    assert len(desk.server.token_calls) == 1
    assert desk.document(link)["upkeep_at"] == desk.document(link)["token_expiry"] - timedelta(seconds=60)

    desk.clock.advance(600 - LEASE_S - 60)
    desk.look_after()

    assert len(desk.server.token_calls) == 2
    assert desk.now(link).status_reason == "refresh_outcome_lost"


def test_a_token_that_was_lost_on_its_way_is_fetched_again_while_the_grace_lasts_due_or_not(
    tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress
) -> None:
    token_server.policy, token_server.grace_s = "grace", 120
    with open_desk(tmp_path, vault, token_server, token_egress, replay="grace", grace_s=100) as desk:
        token_server.now = lambda: desk.clock.now().timestamp()
        link = desk.link(expires_in=3600)
        token_server.script.append(Answer(commit=True, drop=True))
        with pytest.raises(Exception, match="closed the connection"):
            desk.refresher.refresh(link, deadline=desk.soon)

        for _ in range(6):
            desk.clock.advance(5)
            desk.look_after()

        assert desk.now(link).generation == 2
        desk.clock.advance(4000)
        assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).generation == 3


def test_a_service_that_is_no_longer_configured_does_not_hold_up_the_others(desk: Desk) -> None:
    link = desk.link(expires_in=300)
    desk.set(link, integration_type="gone")
    other = desk.link(expires_in=300, account="user-2")

    with pytest.raises(Exception, match="no such service"):
        desk.upkeep.look(desk.now(link), desk.refresher, deadline=desk.soon)
    assert other.id in desk.look_after()

    assert desk.document(link)["upkeep_at"] == desk.store.now() + timedelta(hours=1)


# --- by somebody's wish


def test_a_link_is_refreshed_by_wish_although_it_is_not_due(desk: Desk) -> None:
    link = desk.link(expires_in=3600)

    assert desk.refresher.refresh(link, deadline=desk.soon).generation == 2


def test_a_wish_that_fails_says_so_although_the_old_token_works(desk: Desk) -> None:
    link = desk.link(expires_in=3600)
    desk.server.script.append(Answer(503, b""))

    with pytest.raises(Exception, match="answered 503"):
        desk.refresher.refresh(link, deadline=desk.soon)

    assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).generation == 1


def test_no_wish_gambles_with_a_token_that_may_be_spent(desk: Desk) -> None:
    link = desk.link(expires_in=3600)
    desk.server.script.append(Answer(commit=True, drop=True))
    with pytest.raises(Exception, match="closed the connection"):
        desk.refresher.refresh(link, deadline=desk.soon)
    desk.clock.advance(30)

    with pytest.raises(Exception, match="unknown"):
        desk.refresher.refresh(link, deadline=desk.soon)

    assert len(desk.server.token_calls) == 1


def test_a_wish_for_what_cannot_be_refreshed_says_what_to_do(desk: Desk) -> None:
    link = desk.link(expires_in=3600, refresh_token=None)

    with pytest.raises(Exception, match="gave no refresh token"):
        desk.refresher.refresh(link, deadline=desk.soon)


def test_a_wish_that_somebody_else_meets_costs_no_call(desk: Desk) -> None:
    link = desk.link(expires_in=3600)
    now = desk.store.now()
    desk.set(link, refresh={"owner": "x", "started_at": now, "lease_until": now + timedelta(seconds=90)})
    refresher = desk.refresher
    refresher._pause = lambda _: desk.set(link, generation=2, refresh=None) and None  # type: ignore[method-assign]

    assert refresher.refresh(link, deadline=desk.soon).generation == 2
    assert desk.server.calls == []
