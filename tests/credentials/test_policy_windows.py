"""Reconnecting and changing the key, broken off at any point, under each of the policies by which servers treat a used
refresh token: the link that was there lives on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from credentials import check_values, connect, refresh, refresh_replies, retirement, rotation
from credentials.link import Link
from credentials.vault import Vault
from flow8_core import crashpoints
from flow8_core.egress import Egress
from tests.counterparts.token_server import Loopback, TokenServer
from tests.credentials import rotating
from tests.credentials.desk import Desk, open_desk
from tests.credentials.rotating import OLD_KID, after, before, kids
from tests.credentials.test_connect_windows import arrival
from tests.credentials.test_keyring import NEW, ring
from tests.credentials.test_refresh_windows import LONG_AFTER_S, broken_off, described, lost
from tests.environment import rounds
from tests.processes import is_stopped, until

OTHERS = ("reusable", "grace")[: rounds(2, short=0)]
POLICIES = ["single_use", *(pytest.param(name, marks=pytest.mark.proof) for name in OTHERS)]
ACTIONS = ["raise", *(pytest.param(name, marks=pytest.mark.proof) for name in ("kill", "stop"))]
CONNECTING = [connect.CONSUMED, connect.ANSWERED, connect.EXCHANGED, connect.STORED]
ROTATING = [rotation.HANDED_OVER, rotation.OPENED, rotation.RESEALED, rotation.SIGNED]
RETIRING = [retirement.RETIRING, retirement.COUNTED]


@pytest.fixture
def desk(tmp_path: Path, token_server: TokenServer, token_egress: Egress, vault: Vault, replay: str) -> Iterator[Desk]:
    """A desk at a server with this policy."""
    token_server.policy = replay  # type: ignore[assignment]
    with open_desk(tmp_path, vault, token_server, token_egress, shared_clock=True, **described(replay)) as desk:
        yield desk
    crashpoints.arm("")


def carry_out(
    action: str, point: str, *, here: Callable[[], object], elsewhere: Callable[[str], ForkServerProcess]
) -> Callable[[], None]:
    """Break something off at a point; what is given lets it go on where it was only stopped."""
    if action == "raise":
        crashpoints.arm(f"{point}:raise")
        with pytest.raises(crashpoints.CrashPointReached):
            here()
        crashpoints.arm("")
        return lambda: None
    process = elsewhere(f"{point}:{action}")
    if action == "kill":
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        return lambda: None
    until(lambda: is_stopped(process.pid), f"the stop at {point}", timeout=60)

    def resume() -> None:
        os.kill(process.pid or 0, signal.SIGCONT)
        process.join(60)
        assert process.exitcode == 0

    return resume


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("replay", POLICIES)
@pytest.mark.parametrize("point", CONNECTING)
def test_a_reconnect_that_is_broken_off_leaves_a_link_that_lives(
    desk: Desk, tmp_path: Path, loopback_tls: Loopback, *, point: str, replay: str, action: str
) -> None:
    link = desk.link(expires_in=-10, account="user-1")
    begun = desk.connect.begin("acme", company_id=desk.company_id, user_id=desk.user_id, link_id=str(link.id))
    desk.server.codes["code-1"] = {}
    query = {"code": "code-1", "state": begun.state}

    resume = carry_out(
        action,
        point,
        here=lambda: desk.connect.complete(query),
        elsewhere=lambda crash_at: arrival(desk, loopback_tls, tmp_path, query, crash_at),
    )
    lives(desk, link)
    resume()

    lives(desk, desk.set(desk.now(link), refresh_at=desk.store.now(), token_expiry=desk.store.now()))
    assert [each.id for each in desk.links.list()] == [link.id]


def lives(desk: Desk, link: Link) -> None:
    fresh = desk.refresher.fresh(desk.now(link), deadline=desk.soon)
    assert fresh.status == "active"
    assert desk.server.alive(desk.refresh_token(link))


@pytest.fixture
def rotated(
    tmp_path: Path, token_server: TokenServer, token_egress: Egress, replay: str
) -> Iterator[tuple[Desk, Desk, str]]:
    """A desk that seals with the old key, the same one after the change, and the URL of their store."""
    token_server.policy = replay  # type: ignore[assignment]
    old, described_as = Vault(before()), described(replay)
    with open_desk(tmp_path, old, token_server, token_egress, shared_clock=True, **described_as) as desk:
        desk.store.declare(check_values.COLLECTION, check_values.INDEXES, durable=True)
        before().verify(desk.store)
        after().verify(desk.store)
        yield desk, replace(desk, vault=Vault(after())), f"sqlite:///{tmp_path / 'desk.db'}"
    crashpoints.arm("")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("replay", POLICIES)
@pytest.mark.parametrize("point", [*ROTATING, *RETIRING])
def test_a_key_that_changes_while_refreshes_are_in_doubt_costs_no_link(
    rotated: tuple[Desk, Desk, str], *, point: str, replay: str, action: str
) -> None:
    desk, changed, url = rotated
    doubts = [refresh.CLAIMED, refresh.RECEIVED, refresh_replies.KEPT]
    links = {
        doubt: desk.link(expires_in=-10, account=f"user-{number}", refresh_token=desk.server.grant(f"g{number}"))
        for number, doubt in enumerate(doubts)
    }
    for doubt, link in links.items():
        broken_off(desk, link, doubt)
    if point in RETIRING:
        rotating.rotate(desk.store, after())
    turn = rotating.retire if point in RETIRING else rotating.rotate

    resume = carry_out(
        action,
        point,
        here=lambda: turn(desk.store, after()),
        elsewhere=lambda crash_at: rotating.rotator(url, crash_at),
    )
    desk.clock.advance(LONG_AFTER_S)
    for doubt, link in links.items():
        if lost(doubt, replay, spool=False):
            with pytest.raises(Exception, match="broke off"):
                changed.refresher.fresh(changed.now(link), deadline=desk.soon)
            assert changed.now(link).status_reason == "refresh_outcome_lost"
        else:
            lives(changed, link)
    resume()
    rotating.rotate(desk.store, after())
    rotating.retire(desk.store)

    assert OLD_KID not in kids(desk.store)
    alone = replace(desk, vault=Vault(ring(NEW)))
    for doubt, link in links.items():
        if not lost(doubt, replay, spool=False):
            assert desk.server.alive(alone.refresh_token(link))
