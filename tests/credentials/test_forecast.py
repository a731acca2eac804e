"""What will end, when and why; and the seed's own question to the database, as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from credentials import health
from credentials.forecast import Expiring, forecast, forecasts
from credentials.grants import USER
from credentials.link import Link
from credentials.vault import Vault
from flow8_core.egress import Egress
from tests.counterparts.token_server import TokenServer
from tests.credentials.desk import Desk, open_desk
from tests.credentials.post import post_of

NOW = datetime(2026, 4, 4, 10, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(params=["sqlite", "mongo"])
def desk(
    request: pytest.FixtureRequest, tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress
) -> Iterator[Desk]:
    """A desk on either store."""
    url = request.getfixturevalue("mongo_uri") if request.param == "mongo" else None
    with open_desk(tmp_path, vault, token_server, token_egress, store_url=url) as desk:
        yield desk


def link_of(vault: Vault, **fields: Any) -> Link:
    return Link({"_id": ObjectId(), "integration_type": "acme", "status": "active", **fields}, vault)


REFRESHABLE = {"refresh_token": {"encrypted": True}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"token_expiry": NOW + DAY, **REFRESHABLE}, None),
        ({"token_expiry": NOW + DAY}, ("token", 1)),
        ({"token_expiry": NOW + DAY, "refresh_token": None}, ("token", 1)),
        ({"token_expiry": NOW, "grant_expires_at": NOW + 5 * DAY, **REFRESHABLE}, ("grant", 5)),
        ({"grant_expires_at": NOW + 5 * DAY, "grant_idle_at": NOW + 2 * DAY, **REFRESHABLE}, ("grant", 5)),
        ({"grant_idle_at": NOW + 2 * DAY}, ("idle", 2)),
        ({"grant_idle_at": NOW + 2 * DAY, "token_expiry": NOW + DAY}, ("token", 1)),
        ({"grant_idle_at": NOW + 2 * DAY, **REFRESHABLE}, None),
        ({"grant_expires_at": NOW + DAY, "status": "needs_reconnect"}, None),
        ({"grant_expires_at": NOW + DAY, "status": "revoked"}, None),
    ],
)
def test_what_a_person_will_have_to_act_on_first(
    vault: Vault, fields: dict[str, Any], expected: tuple[str, int] | None
) -> None:
    found = forecast(link_of(vault, **fields))

    assert (found and (found.rule, (found.at - NOW).days)) == expected


def test_a_forecast_says_when_why_and_what_to_do(vault: Vault) -> None:
    link = link_of(vault, grant_expires_at=NOW, grant_idle_at=NOW + DAY, **REFRESHABLE)

    grant, idle = forecasts(link)

    assert grant.message(link) == (
        "It will need reconnecting on 4 April 2026, 10:00 UTC, because the service ends its grant then, however much "
        f"it is used. Reconnect it before, with `flow8 link connect acme --reconnect {link.id}`."
    )
    assert "renewed before" in idle.message(link)
    assert idle.describe(link)["renews"] is True


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({"token_expiry": NOW + DAY, **REFRESHABLE}, None),
        ({"token_expiry": NOW + DAY}, ("token", 1)),
        ({"grant_expires_at": NOW + 2 * DAY, **REFRESHABLE}, ("grant", 2)),
        ({"grant_idle_at": NOW + 2 * DAY, **REFRESHABLE}, None),
        ({"token_expiry": NOW + DAY, "status": "needs_reconnect"}, None),
    ],
)
def test_a_users_own_grant_beside_the_bots_ends_by_the_same_rules(
    vault: Vault, user: dict[str, Any], expected: tuple[str, int] | None
) -> None:
    link = link_of(vault, token_expiry=NOW + DAY, user_token=user, **REFRESHABLE)

    found = forecast(link)

    assert (found and (found.rule, (found.at - NOW).days)) == expected
    if found is not None:
        assert found.message(link).startswith("The user's own token will need reconnecting on")


def test_a_link_whose_user_token_ends_is_listed(desk: Desk) -> None:
    link = desk.link("slack", user_refresh_token="user-refresh-token")
    desk.set(link, user_token__grant_expires_at=desk.store.now() + DAY)

    ((found, end),) = Expiring(desk.store, desk.vault, desk.company_id).within(7)

    assert (found.id, end.rule, end.path) == (link.id, "grant", USER)


def test_links_that_end_within_some_days_are_found_by_token_grant_and_idle_limit(desk: Desk) -> None:
    now = desk.store.now()
    by_token = desk.link(account="u1", refresh_token=None, expires_in=2 * 86_400)
    by_grant = desk.set(desk.link(account="u2"), grant_expires_at=now + DAY)
    by_idle = desk.set(desk.link(account="u3"), grant_idle_at=now + 3 * DAY)
    desk.set(desk.link(account="u4"), grant_expires_at=now + 8 * DAY)
    desk.set(desk.link(account="u5"), grant_expires_at=now - DAY)
    dead = desk.set(desk.link(account="u6"), grant_expires_at=now + DAY)
    desk.give_up(dead)
    elsewhere = desk.set(desk.link(account="u7"), grant_expires_at=now + DAY)
    desk.store.update("db_links", {"_id": elsewhere.id}, {"$set": {"company_id": ObjectId()}})
    expiring = Expiring(desk.store, desk.vault, desk.company_id)

    soon = [(link.id, end.rule) for link, end in expiring.within(7)]
    every = [(link.id, end.rule) for link, end in expiring.within(7, renewing=True) if end.rule == "idle"]

    assert soon == [(by_grant.id, "grant"), (by_token.id, "token")]
    assert every == [(by_idle.id, "idle")]
    with pytest.raises((KeyError, TypeError)):  # what is listed holds nothing that could be decrypted
        expiring.within(7)[0][0].open("access_token")


def test_the_seeds_own_query_finds_tokens_that_expire_within_7_days(desk: Desk, request: pytest.FixtureRequest) -> None:
    """`db.db_links.find({token_expiry: {$gt: new Date(), $lt: new Date(Date.now() + 7*24*60*60*1000)}})`"""
    soon = desk.link(account="u1", expires_in=6 * 86_400)
    desk.link(account="u2", expires_in=8 * 86_400)
    desk.link(account="u3", expires_in=-60)
    desk.set(desk.link(account="u4"), token_expiry=None)
    gone = desk.link(account="u5", expires_in=6 * 86_400)
    post_of(desk, None, desk.egress).unlink(desk).link(gone.id)
    now = desk.store.now()
    query = {"token_expiry": {"$gt": now, "$lt": now + timedelta(milliseconds=7 * 24 * 60 * 60 * 1000)}}

    assert [row["_id"] for row in desk.store.find("db_links", query)] == [soon.id]
    if "mongo" in request.node.callspec.id:
        uri = request.getfixturevalue("mongo_uri")
        with pymongo.MongoClient(uri) as client:
            raw = list(client.get_default_database()["db_links"].find(query))
        assert [row["_id"] for row in raw] == [soon.id]
        assert isinstance(raw[0]["token_expiry"], datetime)


def test_the_health_of_a_link_says_what_its_state_means_and_what_to_do(vault: Vault) -> None:
    well, broken, gone = (
        link_of(vault, grant_expires_at=NOW, **REFRESHABLE),
        link_of(vault, status="needs_reconnect", status_reason="refresh_outcome_lost"),
        link_of(vault, status="revoked"),
    )
    half = link_of(vault, user_token={"status": "needs_reconnect", "status_reason": "invalid_grant"})

    assert health.told(well) == {"message": None, "forecast": forecasts(well)[0].describe(well)}
    assert "broke off" in str(health.told(broken)["message"])
    assert "was revoked here" in str(health.told(gone)["message"])
    assert str(health.told(half)["message"]).startswith("The user's own token: ")
