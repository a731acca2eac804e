"""Unlinking and telling whose process is killed, stopped or fails at any point: in the end the vendor has the tokens,
the owner was told under one id, and nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from credentials import events, outbox, renewal, revocation, unlink
from credentials.link import Link
from credentials.vault import Vault
from flow8_core import crashpoints, errors
from flow8_core.egress import Egress
from tests.counterparts.receiver import Receiver
from tests.counterparts.token_server import Loopback, TokenServer
from tests.credentials.desk import Desk, SharedClock, open_desk
from tests.credentials.post import Post, Round, post_of, send
from tests.credentials.test_refresh_windows import described
from tests.environment import rounds
from tests.processes import is_stopped, until

UNLINKING = [
    *(unlink.INTENDED, unlink.REVOKED, unlink.RELEASED, outbox.CLAIMED),
    *(renewal.RENEWED, renewal.KEPT, revocation.PRESENTED, outbox.DELIVERED),
]
TELLING = [events.MOVED, outbox.CLAIMED, outbox.DELIVERED]
LONG_S = 2 * (revocation.HOLD_S + outbox.LEASE_S)
DAY_S = revocation.HOLD_MOST_S


OTHERS = ("reusable", "grace")[: rounds(2, short=0)]
POLICIES = ["single_use", *(pytest.param(name, marks=pytest.mark.proof) for name in OTHERS)]
under_each_policy = pytest.mark.parametrize("replay", POLICIES, indirect=True)


@pytest.fixture
def replay(request: pytest.FixtureRequest) -> str:
    """How the server treats a refresh token that was used."""
    return getattr(request, "param", "single_use")


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress, replay: str) -> Iterator[Desk]:
    token_server.policy = replay  # type: ignore[assignment]
    with open_desk(tmp_path, vault, token_server, token_egress, shared_clock=True, **described(replay)) as desk:
        yield desk


@pytest.fixture
def post(desk: Desk, receiver: Receiver, receiver_egress: Egress) -> Post:
    """Tells by the receiver's egress, revokes by the desk's."""
    return post_of(desk, receiver, receiver_egress)


@pytest.fixture
def vendors(desk: Desk) -> Post:
    return post_of(desk, None, desk.egress)


def test_all_points_of_unlinking_and_telling_are_known() -> None:
    ours = ("unlink.", "outbox.", "events.", "revocation.")

    assert {name for name in crashpoints.registered() if name.startswith(ours)} == {*UNLINKING, *TELLING}


def link_for(desk: Desk, point: str) -> Link:
    """A link whose unlinking passes the point: only an access token that is over is renewed to sign with, at a vendor
    that takes it alone."""
    if point not in (renewal.RENEWED, renewal.KEPT):
        return desk.link()
    desk.server.policy = "reusable"
    return desk.link("clio", expires_in=-10)


def folder_of(desk: Desk) -> Path:
    assert isinstance(desk.clock, SharedClock)
    return desk.clock.file.parent


def unlinking(desk: Desk, tls: Loopback, folder: Path, link: Link, crash_at: str) -> Round:
    return Round(folder, str(desk.company_id), desk.server.url, tls.ca_file, crash_at, link_id=str(link.id))


def telling(desk: Desk, tls: Loopback, receiver: Receiver, crash_at: str) -> Round:
    return Round(folder_of(desk), str(desk.company_id), desk.server.url, tls.ca_file, crash_at, endpoint=receiver.url)


def refused(desk: Desk, link: Link) -> bool:
    """Whether a step is refused the link."""
    try:
        desk.resolver.link(
            company_id=desk.company_id, user_id=desk.user_id, service=link.service, link_id=str(link.id),
            scopes=frozenset(), deadline=desk.soon,
        )  # fmt: skip
    except errors.AccessDenied:
        return True
    return False


def the_vendor_has_it(desk: Desk, link: Link, token: str) -> bool:
    """The refresh token was given back, once or again, or access tokens renewed for it; nothing is left to do, and
    nothing sealed lies about."""
    items = post_of(desk, None, desk.egress).items()
    done = all(item.get("ended") in ("revoked", "not_unlinked") and "sealed" not in item for item in items)
    given = set(desk.server.revoked)
    if link.service == "clio":
        return done and bool(given) and all(each.startswith("at-g1-") for each in given)
    return done and given == {token}


@under_each_policy
@pytest.mark.parametrize("point", UNLINKING)
def test_unlinking_that_is_killed_at_a_point_ends_at_the_vendor(
    desk: Desk, vendors: Post, tmp_path: Path, loopback_tls: Loopback, point: str
) -> None:
    link = link_for(desk, point)
    token = desk.refresh_token(link)

    process = send(unlinking(desk, loopback_tls, tmp_path, link, f"{point}:kill"))
    process.join(30)

    assert process.exitcode == -signal.SIGKILL
    assert refused(desk, link) is (point != unlink.INTENDED)  # before the one update nothing has happened
    if point == unlink.INTENDED:
        assert desk.now(link).open("refresh_token").reveal() == token
        vendors.unlink(desk).link(link.id)
    desk.clock.advance(LONG_S)
    vendors.round()
    desk.clock.advance(DAY_S)
    vendors.round()
    assert the_vendor_has_it(desk, link, token)


@under_each_policy
@pytest.mark.parametrize("point", UNLINKING)
def test_unlinking_that_is_stopped_at_a_point_ends_at_the_vendor_whoever_goes_on_first(
    desk: Desk, vendors: Post, tmp_path: Path, loopback_tls: Loopback, point: str
) -> None:
    link = link_for(desk, point)
    token = desk.refresh_token(link)
    process = send(unlinking(desk, loopback_tls, tmp_path, link, f"{point}:stop"))
    until(lambda: is_stopped(process.pid), f"the stop at {point}")

    desk.clock.advance(LONG_S)
    vendors.round()
    os.kill(process.pid or 0, signal.SIGCONT)
    process.join(30)

    assert process.exitcode == 0
    assert refused(desk, link)
    desk.clock.advance(LONG_S)
    vendors.round()
    assert the_vendor_has_it(desk, link, token)


@under_each_policy
@pytest.mark.parametrize("point", UNLINKING)
def test_unlinking_that_fails_at_a_point_can_be_done_again(desk: Desk, vendors: Post, point: str) -> None:
    link = link_for(desk, point)
    token = desk.refresh_token(link)

    def act() -> None:
        vendors.unlink(desk).link(link.id)
        vendors.round()

    crashpoints.arm(f"{point}:raise")
    with pytest.raises(crashpoints.CrashPointReached):
        act()
    crashpoints.arm("")

    vendors.unlink(desk).link(link.id)
    desk.clock.advance(LONG_S)
    vendors.round()
    desk.clock.advance(DAY_S)
    vendors.round()

    assert refused(desk, link)
    assert the_vendor_has_it(desk, link, token)


@pytest.mark.parametrize("action", ["kill", "stop"])
@pytest.mark.parametrize("point", TELLING)
def test_telling_that_is_killed_or_stopped_at_a_point_arrives_under_one_id(
    desk: Desk, post: Post, receiver: Receiver, loopback_tls: Loopback, *, point: str, action: str
) -> None:
    desk.give_up(desk.link())
    process = send(telling(desk, loopback_tls, receiver, f"{point}:{action}"))
    if action == "kill":
        process.join(30)
        assert process.exitcode == -signal.SIGKILL
    else:
        until(lambda: is_stopped(process.pid), f"the stop at {point}")

    desk.clock.advance(LONG_S)
    post.round()
    if action == "stop":
        os.kill(process.pid or 0, signal.SIGCONT)
        process.join(30)
        assert process.exitcode == 0
    post.round()

    assert receiver.types == ["link.needs_reconnect"]
    assert len(receiver.received) == (2 if point == outbox.DELIVERED else 1)
    assert [item["ended"] for item in post.items()] == ["delivered"]


def test_several_processes_that_drain_one_outbox_deliver_each_item_once(
    desk: Desk, post: Post, receiver: Receiver, loopback_tls: Loopback
) -> None:
    for number in range(20):
        desk.give_up(desk.link(account=f"user-{number}"))
    receiver.hold.clear()

    started = [send(telling(desk, loopback_tls, receiver, "")) for _ in range(4)]
    receiver.hold.set()
    for process in started:
        process.join(60)

    assert [process.exitcode for process in started] == [0] * 4
    assert len(receiver.received) == len({one.id for one in receiver.received}) == 20
    assert {item["ended"] for item in post.items()} == {"delivered"}
