"""Whom a link's trouble concerns is told, once, by a signed event that arrives."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from credentials import outbox
from credentials.events import CURSOR, TOKEN_WARN_DAYS
from credentials.link_notes import LATEST, NOTES, TOLD
from credentials.vault import Vault
from flow8_core import crashpoints
from flow8_core.clock import Deadline, ManualClock, SystemClock
from flow8_core.egress import Egress
from flow8_core.errors import InvalidGrant
from tests.counterparts.receiver import SECRET, Receiver
from tests.counterparts.token_server import TokenServer
from tests.credentials.desk import Desk, open_desk
from tests.credentials.post import Post, post_of
from tests.docs.pages import block


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        yield desk


@pytest.fixture(params=["sqlite", "mongo"])
def anywhere(
    request: pytest.FixtureRequest, tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress
) -> Iterator[Desk]:
    """A desk on either store; MongoDB's time does not move."""
    url = request.getfixturevalue("mongo_uri") if request.param == "mongo" else None
    with open_desk(tmp_path, vault, token_server, token_egress, store_url=url) as desk:
        yield desk


@pytest.fixture
def post(desk: Desk, receiver: Receiver, receiver_egress: Egress) -> Post:
    return post_of(desk, receiver, receiver_egress)


def killed(desk: Desk) -> str:
    """A link whose grant the provider has ended; its id."""
    link = desk.link(expires_in=-1, refresh_token="unknown-refresh-token")
    with pytest.raises(InvalidGrant):
        desk.refresher.fresh(link, deadline=desk.soon)
    return str(link.id)


def test_a_link_that_dies_is_told_once_with_what_to_do(
    anywhere: Desk, receiver: Receiver, receiver_egress: Egress
) -> None:
    post = post_of(anywhere, receiver, receiver_egress)
    link_id = killed(anywhere)

    for _ in range(3):
        post.round()

    (told,) = receiver.received
    assert told.event["type"] == "link.needs_reconnect"
    data = told.event["data"]
    assert (data["company_id"], data["user_id"]) == (str(anywhere.company_id), str(anywhere.user_id))
    assert (data["link"]["id"], data["link"]["status"]) == (link_id, "needs_reconnect")
    assert (data["reason"], data["grant"]) == ("invalid_grant", "main")
    assert f"flow8 link connect acme --reconnect {link_id}" in data["message"]
    assert re.fullmatch(r"msg_[0-9a-f]{24}", told.id)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.event["timestamp"])
    document = anywhere.document(anywhere.links.get(link_id))
    assert NOTES not in document
    assert LATEST not in document


def test_an_event_has_the_shape_of_the_contract(desk: Desk, receiver: Receiver, post: Post) -> None:
    said = json.loads(block("json", "event", page="docs/contracts.md"))
    killed(desk)
    desk.set(desk.link(account="user-2"), grant_expires_at=desk.store.now() + timedelta(days=3))
    post.round()

    for one in receiver.received:
        assert one.event.keys() == said.keys()
        assert one.event["data"].keys() == said["data"].keys()
        assert one.event["data"]["link"].keys() == said["data"]["link"].keys()
    assert len(receiver.received) == 2


def test_a_reconnect_is_told_as_a_recovery_and_once(
    anywhere: Desk, receiver: Receiver, receiver_egress: Egress
) -> None:
    post = post_of(anywhere, receiver, receiver_egress)
    link_id = killed(anywhere)
    post.round()

    link = anywhere.link()  # of the same upstream account
    for _ in range(3):
        post.round()

    assert str(link.id) == link_id
    assert [one.event["type"] for one in receiver.received] == ["link.needs_reconnect", "link.recovered"]
    assert receiver.received[1].event["data"]["link"]["status"] == "active"
    assert TOLD not in anywhere.document(link)


def test_tokens_that_land_late_are_a_recovery_too(desk: Desk, receiver: Receiver, post: Post) -> None:
    """A holder who was stopped lands better tokens after the link was given up: nobody says so but the state itself."""
    link = desk.links.get(killed(desk))
    post.round()

    desk.set(link, status="active", status_reason=None, generation=link.generation + 1)
    post.round()

    assert receiver.types == ["link.needs_reconnect", "link.recovered"]


def test_a_second_death_is_told_again(desk: Desk, receiver: Receiver, post: Post) -> None:
    killed(desk)
    post.round()
    desk.link()
    post.round()
    desk.clock.advance(10)

    killed(desk)
    post.round()

    assert receiver.types == ["link.needs_reconnect", "link.recovered", "link.needs_reconnect"]


def test_what_is_mended_before_anybody_was_told_concerns_nobody(desk: Desk, receiver: Receiver, post: Post) -> None:
    killed(desk)
    link = desk.link()

    post.round()

    assert receiver.received == []
    assert NOTES not in desk.document(link)


@pytest.mark.parametrize("status", ["app_blocked", "revoked"])
def test_what_no_user_can_mend_is_told_to_none(desk: Desk, receiver: Receiver, post: Post, status: str) -> None:
    desk.set(desk.link(), status=status, status_reason="any")

    post.round()

    assert receiver.received == []


def test_a_users_own_token_that_dies_beside_the_bots_is_told_as_such(
    desk: Desk, receiver: Receiver, post: Post
) -> None:
    link = desk.link("slack", user_refresh_token="unknown-refresh-token")
    desk.set(link, user_token__token_expiry=desk.store.now(), user_token__refresh_at=desk.store.now())
    desk.refresher.fresh(desk.now(link), deadline=desk.soon)
    post.round()

    desk.link("slack", user_refresh_token=desk.server.grant("g2"))
    post.round()

    assert receiver.types == ["link.needs_reconnect", "link.recovered"]
    assert [one.event["data"]["grant"] for one in receiver.received] == ["user_token", "user_token"]
    assert receiver.received[0].event["data"]["link"]["status"] == "active"


def test_without_an_endpoint_nothing_is_sent_and_notes_wait_for_one(
    desk: Desk, receiver: Receiver, receiver_egress: Egress
) -> None:
    killed(desk)
    nobody = post_of(desk, None, receiver_egress)

    nobody.round()

    assert nobody.items() == []
    post_of(desk, receiver, receiver_egress).round()
    assert receiver.types == ["link.needs_reconnect"]


# ---- how it is delivered ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503, 302])
def test_a_receiver_that_refuses_gets_the_same_message_again_after_a_pause(
    desk: Desk, receiver: Receiver, post: Post, status: int
) -> None:
    receiver.script.extend([status, status])
    killed(desk)

    first = post.round()
    post.round()
    assert (first.failed, len(receiver.received)) == (1, 1)  # not before the pause is over
    desk.clock.advance(6)
    post.round()
    desk.clock.advance(12)
    post.round()

    assert len(receiver.received) == 3
    assert len({one.id for one in receiver.received}) == 1
    assert len({str(one.event) for one in receiver.received}) == 1
    assert post.items()[0]["ended"] == "delivered"


def test_a_receiver_that_asks_for_patience_gets_it(desk: Desk, receiver: Receiver, post: Post) -> None:
    receiver.script.append(429)
    receiver.headers["Retry-After"] = "300"
    killed(desk)
    post.round()

    desk.clock.advance(200)
    post.round()
    assert len(receiver.received) == 1
    desk.clock.advance(140)
    post.round()

    assert len(receiver.received) == 2


def test_a_receiver_that_wants_no_more_is_believed_and_the_audit_says_so(
    desk: Desk, receiver: Receiver, post: Post
) -> None:
    receiver.script.append(410)
    killed(desk)

    report = post.round()

    assert (report.dead, post.items()[0]["ended"]) == (1, "dead")
    assert desk.actions()[-1] == "event_undelivered"


def test_what_is_never_received_is_dead_after_its_limit_and_that_is_said(
    desk: Desk, receiver: Receiver, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    killed(desk)
    attempts = 0
    while not post.items() or "ended" not in post.items()[0]:
        receiver.script.append(500)
        desk.clock.advance(12_000)
        post.round()
        attempts += 1

    assert attempts == len(receiver.received) == 36
    assert outbox.dead(desk.store) == 1
    assert desk.actions()[-1] == "event_undelivered"
    assert "could not be delivered in 36 attempts" in caplog.text


def test_what_the_receiver_writes_is_read_by_nobody(desk: Desk, receiver: Receiver, post: Post) -> None:
    receiver.body = b"x" * 20_000_000
    killed(desk)

    assert post.round().delivered == 1


def test_a_receiver_that_is_away_holds_up_nobody_else(desk: Desk, receiver: Receiver, receiver_egress: Egress) -> None:
    """One attempt a pass: the next items of its lane wait for the next."""
    for account in ("user-1", "user-2", "user-3"):
        link = desk.link(account=account)
        desk.give_up(link)
    post = post_of(desk, receiver, receiver_egress)
    receiver.script.extend([500, 500, 500])

    report = post.round()

    assert (report.failed, report.delivered, len(receiver.received)) == (1, 0, 1)


def test_the_secret_stands_in_no_record(desk: Desk, receiver: Receiver, post: Post) -> None:
    killed(desk)
    post.round()

    assert SECRET not in str(post.items())
    assert desk.access_token(desk.links.list()[0] and desk.links.get(desk.links.list()[0].id)) not in str(post.items())


@pytest.mark.parametrize("point", ["events.moved", outbox.CLAIMED, outbox.DELIVERED])
def test_a_pass_that_fails_at_any_point_is_made_good_with_the_same_id(
    desk: Desk, receiver: Receiver, post: Post, point: str
) -> None:
    killed(desk)
    crashpoints.arm(f"{point}:raise")
    with pytest.raises(crashpoints.CrashPointReached):
        post.round()
    crashpoints.arm("")

    desk.clock.advance(outbox.LEASE_S + 1)
    post.round()

    assert receiver.types == ["link.needs_reconnect"]
    assert len(receiver.received) == (2 if point == outbox.DELIVERED else 1)
    assert [item["ended"] for item in post.items()] == ["delivered"]


# ---- what comes to its end ------------------------------------------------------------------------------------------


def later(post: Post, clock: ManualClock, days: float) -> None:
    clock.advance(days * 86_400)
    post.round()


def test_a_grants_own_end_is_told_at_each_of_the_days_before_it(desk: Desk, receiver: Receiver, post: Post) -> None:
    assert isinstance(desk.clock, ManualClock)
    link = desk.set(desk.link(), grant_expires_at=desk.store.now() + timedelta(days=40))
    post.round()
    assert receiver.received == []

    for _ in range(45):
        later(post, desk.clock, 1)

    assert receiver.types == ["link.expires_soon"] * 3
    assert len(receiver.received) == 3
    data = receiver.received[0].event["data"]
    assert (data["rule"], data["link"]["id"]) == ("grant", str(link.id))
    assert data["expires_at"].startswith("2026-05-14")
    assert "It will need reconnecting on 14 May 2026" in data["message"]
    told_at = [one.event["timestamp"][:10] for one in receiver.received]
    assert told_at == ["2026-04-14", "2026-05-07", "2026-05-13"]


def test_a_token_that_nothing_renews_is_told_within_a_week_of_its_end(
    desk: Desk, receiver: Receiver, post: Post
) -> None:
    assert isinstance(desk.clock, ManualClock)
    desk.link(refresh_token=None, expires_in=30 * 86_400)
    desk.link("slack", expires_in=3600)  # renewed every hour: no news
    post.round()

    later(post, desk.clock, 29 - TOKEN_WARN_DAYS)
    assert receiver.received == []
    later(post, desk.clock, 2)

    (told,) = receiver.received
    assert (told.event["data"]["rule"], told.event["data"]["link"]["service"]) == ("token", "acme")


def test_a_users_own_token_that_nothing_renews_is_told_beside_a_bots_that_lives(
    desk: Desk, receiver: Receiver, post: Post
) -> None:
    link = desk.link("slack", user_refresh_token="user-refresh-token")
    desk.set(link, user_token__refresh_token=None, user_token__token_expiry=desk.store.now() + timedelta(days=3))

    for _ in range(3):
        post.round()

    (told,) = receiver.received
    data = told.event["data"]
    assert (told.event["type"], data["grant"], data["rule"]) == ("link.expires_soon", "user_token", "token")
    assert data["message"].count("The user's own token will need reconnecting") == 1


def test_a_look_that_an_older_version_broke_off_is_begun_anew(desk: Desk, receiver: Receiver, post: Post) -> None:
    desk.set(desk.link(), grant_expires_at=desk.store.now() + timedelta(days=3))
    now = desk.store.now()
    desk.store.insert("cursors", {"_id": CURSOR, "next_at": now, "at": {"rule": "idle", "after": now}})

    post.round()

    assert receiver.types == ["link.expires_soon"]


def test_a_link_that_does_not_work_anyway_is_not_said_to_expire(desk: Desk, receiver: Receiver, post: Post) -> None:
    link = desk.set(desk.link(), grant_expires_at=desk.store.now() + timedelta(days=3))
    desk.give_up(link)

    post.round()

    assert receiver.types == ["link.needs_reconnect"]


def test_many_links_are_looked_at_in_pages_and_a_pass_that_ends_goes_on_where_it_was(
    desk: Desk, receiver: Receiver, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("credentials.events.PAGE", 2)
    end = desk.store.now() + timedelta(days=3)
    for number in range(7):  # some of them at the very same moment
        desk.set(desk.link(account=f"user-{number}"), grant_expires_at=end + timedelta(minutes=number // 3))
    over = Deadline(0.0, SystemClock())

    post.announcer.announce(over)
    assert post.items() == []
    post.round()

    assert receiver.types == ["link.expires_soon"] * 7
