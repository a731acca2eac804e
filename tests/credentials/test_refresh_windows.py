"""A refresh that is broken off at any point: by its process dying, stopping or failing, the network, or the store."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from credentials import refresh, refresh_replies
from credentials.grants import COLLECTION, MAIN
from credentials.refresh import Refresher
from credentials.refresh_claims import LEASE_S, Claims
from credentials.refresh_settings import RefreshSettings
from credentials.token_reply import Reply
from credentials.vault import Vault
from flow8_core import crashpoints, errors
from flow8_core.egress import Egress
from flow8_core.store import Store
from tests.counterparts.token_server import Answer, Loopback, TokenServer
from tests.credentials.desk import Desk, SharedClock, kept, open_desk
from tests.credentials.holders import Errand, errand, send
from tests.processes import is_stopped, until

POINTS = [name for name in crashpoints.registered() if name.startswith("refresh.")]
BEFORE_SENDING = {refresh.CLAIMED}
DURABLE = {refresh_replies.KEPT, refresh_replies.STORED}
IN_FLIGHT = {refresh.SENT, refresh.RECEIVED}
POLICIES = ["reusable", "grace", "single_use"]
LONG_AFTER_S = LEASE_S + 1


@pytest.fixture(params=["single_use"])
def replay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress, replay: str) -> Iterator[Desk]:
    token_server.policy = replay  # type: ignore[assignment]
    with open_desk(tmp_path, vault, token_server, token_egress, **described(replay)) as desk:
        yield desk
    crashpoints.arm("")


def described(replay: str) -> dict[str, Any]:
    """The `oauth2` entry of a server with this policy."""
    return {"replay": replay, "grace_s": 200 if replay == "grace" else 0}


def lost(point: str, replay: str, *, spool: bool) -> bool:
    """Whether a link that is broken off there is beyond anybody's help: the provider has given the only token that
    works, and it is nowhere."""
    return replay == "single_use" and (point in IN_FLIGHT or (point == refresh_replies.SPOOLED and not spool))


def broken_off(desk: Desk, link: Any, point: str) -> None:
    """A refresh that fails at a point as if the process had died there; the claim stays."""
    crashpoints.arm(f"{point}:raise")
    with pytest.raises(crashpoints.CrashPointReached):
        desk.refresher.fresh(link, deadline=desk.soon)
    crashpoints.arm("")


def test_all_points_of_a_refresh_are_known() -> None:
    assert set(POINTS) == BEFORE_SENDING | IN_FLIGHT | {refresh_replies.SPOOLED} | DURABLE


@pytest.mark.parametrize("spool", [False, True])
@pytest.mark.parametrize("replay", POLICIES, indirect=True)
@pytest.mark.parametrize("point", POINTS)
def test_a_refresh_broken_off_at_any_point_is_made_good_where_that_is_possible(
    desk: Desk, tmp_path: Path, point: str, replay: str, spool: bool
) -> None:
    desk.settings = RefreshSettings(spool=tmp_path / "spool" if spool else None)
    link = desk.link(expires_in=-10)

    broken_off(desk, link, point)
    desk.clock.advance(LONG_AFTER_S)

    if lost(point, replay, spool=spool):
        with pytest.raises(errors.InvalidGrant, match="broke off"):
            desk.refresher.fresh(desk.now(link), deadline=desk.soon)
        assert desk.now(link).status_reason == "refresh_outcome_lost"
        assert desk.actions()[-1] == "integration_needs_reconnect"
    else:
        fresh = desk.refresher.fresh(desk.now(link), deadline=desk.soon)
        assert fresh.generation == 2
        assert desk.server.alive(desk.refresh_token(link))
    durable = DURABLE | ({refresh_replies.SPOOLED} if spool else set())
    assert len(desk.server.token_calls) == 1 + (point not in durable | BEFORE_SENDING)
    assert not list(tmp_path.glob("spool/*"))


@pytest.mark.parametrize("point", [refresh.CLAIMED, refresh.SENT, refresh.RECEIVED, refresh_replies.SPOOLED])
def test_while_a_dead_holders_lease_lasts_nobody_sends_its_token(desk: Desk, point: str) -> None:
    link = desk.link(expires_in=-10)
    broken_off(desk, link, point)
    calls = len(desk.server.token_calls)

    with pytest.raises(errors.RefreshBusy):
        desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert len(desk.server.token_calls) == calls


def test_a_reply_that_was_kept_is_read_by_the_next_at_once(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    broken_off(desk, link, refresh_replies.KEPT)

    fresh = desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert fresh.generation == 2
    assert fresh.document["issued_at"] == desk.store.now()
    assert len(desk.server.token_calls) == 1


def test_what_is_kept_of_a_reply_cannot_be_read_in_the_store(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    broken_off(desk, link, refresh_replies.KEPT)

    kept = desk.document(link)["refresh"]["reply"]

    assert kept["encrypted"] is True
    assert "access_token" not in str(kept)


@pytest.mark.parametrize("point", [refresh.SENT, refresh.RECEIVED])
def test_an_unknown_outcome_is_gambled_on_only_when_the_old_token_is_over(desk: Desk, point: str) -> None:
    link = desk.link(expires_in=600)
    broken_off(desk, link, point)
    desk.clock.advance(LONG_AFTER_S)

    early = desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert early.open("access_token").reveal() == "access-token-0"
    assert len(desk.server.token_calls) == 1
    desk.clock.advance(600 - LONG_AFTER_S - 59)
    with pytest.raises(errors.InvalidGrant):
        desk.refresher.fresh(desk.now(link), deadline=desk.soon)
    assert len(desk.server.token_calls) == 2
    assert desk.now(link).status_reason == "refresh_outcome_lost"


def test_an_unknown_outcome_that_was_none_ends_well(desk: Desk) -> None:
    link = desk.link(expires_in=600)
    broken_off(desk, link, refresh.CLAIMED)
    desk.clock.advance(600)

    fresh = desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert fresh.generation == 2
    assert len(desk.server.token_calls) == 1


@pytest.mark.parametrize("replay", ["reusable", "grace", "single_use"], indirect=True)
def test_an_answer_that_was_dropped_after_the_provider_acted(desk: Desk, replay: str) -> None:
    link = desk.link(expires_in=600)
    desk.server.script.append(Answer(commit=True, drop=True))

    used = desk.refresher.fresh(link, deadline=desk.soon)

    assert used.open("access_token").reveal() == "access-token-0"
    desk.clock.advance(10)
    again = desk.refresher.fresh(desk.now(link), deadline=desk.soon)
    assert again.generation == (1 if replay == "single_use" else 2)
    assert len(desk.server.token_calls) == (1 if replay == "single_use" else 2)


@pytest.mark.parametrize("replay", ["grace"], indirect=True)
def test_a_grace_that_is_over_is_not_relied_on(desk: Desk) -> None:
    link = desk.link(expires_in=600)
    broken_off(desk, link, refresh.RECEIVED)
    desk.clock.advance(201)

    assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).generation == 1
    assert len(desk.server.token_calls) == 1


@pytest.mark.parametrize("replay", ["grace"], indirect=True)
def test_a_failed_second_try_does_not_lengthen_the_grace(desk: Desk) -> None:
    link = desk.link(expires_in=600)
    broken_off(desk, link, refresh.RECEIVED)
    desk.clock.advance(100)
    desk.server.script.append(Answer(drop=True))
    assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).generation == 1
    desk.clock.advance(101)

    assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).generation == 1
    assert len(desk.server.token_calls) == 2


def test_a_provider_that_was_down_at_the_end_does_not_hide_what_was_lost(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    broken_off(desk, link, refresh.RECEIVED)
    desk.clock.advance(LONG_AFTER_S)
    desk.server.script.append(Answer(503))
    with pytest.raises(errors.ProviderUnavailable):
        desk.refresher.fresh(desk.now(link), deadline=desk.soon)
    desk.clock.advance(60)

    with pytest.raises(errors.InvalidGrant):
        desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert desk.now(link).status_reason == "refresh_outcome_lost"


def test_invalid_grant_is_not_believed_while_a_stopped_holder_lands_its_reply(desk: Desk) -> None:
    link = desk.link(expires_in=-10, refresh_token="spent-by-the-stopped-holder")
    stopped = Claims(desk.store, desk.vault)
    claim = stopped.take(link, MAIN, unknown=False)
    assert claim is not None
    theirs = {"access_token": "at-landed", "refresh_token": desk.server.grant("landed"), "expires_in": 3600}
    reply = Reply(200, {}, json.dumps(theirs).encode())
    desk.clock.advance(LONG_AFTER_S)
    desk.server.before_answer = lambda: kept(desk, stopped, claim, reply) and None

    fresh = desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert fresh.open("access_token").reveal() == "at-landed"
    assert desk.server.alive(desk.refresh_token(link))
    assert fresh.status == "active"


def test_a_provider_that_is_down_at_the_end_does_not_turn_doubt_into_death(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    broken_off(desk, link, refresh.CLAIMED)
    desk.clock.advance(LONG_AFTER_S)
    desk.server.script.append(Answer(503))
    desk.server.script.append(Answer(drop=True))
    for _ in range(2):
        with pytest.raises(errors.ProviderUnavailable):
            desk.refresher.fresh(desk.now(link), deadline=desk.soon)
        desk.clock.advance(60)

    fresh = desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert fresh.generation == 2
    assert desk.server.alive(desk.refresh_token(link))


def test_a_reply_that_cannot_be_read_is_not_tried_for_ever(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    broken_off(desk, link, refresh_replies.KEPT)
    desk.set(link, refresh__reply__ciphertext="AAAA")

    with pytest.raises(errors.InvalidGrant):
        desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert desk.now(link).status_reason == "refresh_outcome_lost"


# --- the store


class FlakyStore:
    """A store that is away for some writes of links, before or after doing them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = 0
        self.field = "refresh.reply"  # what the writes that fail would set
        self.lose: Literal["request", "answer"] = "request"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def update(self, collection: str, filter: Any, update: Any, **options: Any) -> Any:  # noqa: A002
        if collection == COLLECTION and self.field in update.get("$set", {}) and self.away > 0:
            self.away -= 1
            if self.lose == "answer":
                self._store.update(collection, filter, update, **options)
            raise errors.StoreUnavailable("The store is away.")
        return self._store.update(collection, filter, update, **options)


@pytest.mark.parametrize("lose", ["request", "answer"])
@pytest.mark.parametrize("away", [1, 5])
@pytest.mark.parametrize("field", ["refresh.reply", "access_token"])
def test_a_store_that_is_away_for_a_moment_costs_no_token(desk: Desk, field: str, away: int, lose: Any) -> None:
    link = desk.link(expires_in=-10)
    flaky = FlakyStore(desk.store)
    flaky.field, flaky.away, flaky.lose = field, away, lose
    refresher = Refresher(flaky, desk.vault, desk.providers, desk.egress, pause=desk.pauses.append)  # type: ignore[arg-type]

    fresh = refresher.fresh(link, deadline=desk.soon)

    assert fresh.generation == 2
    assert desk.server.alive(desk.refresh_token(link))
    assert desk.server.revoked == []
    assert len(desk.server.token_calls) == 1
    assert desk.actions() == ["integration_linked", "integration_refreshed"]


def test_a_store_that_stays_away_hands_out_no_token_that_nobody_keeps(desk: Desk) -> None:
    link = desk.link(expires_in=600)
    flaky = FlakyStore(desk.store)
    flaky.away = 10_000
    refresher = Refresher(flaky, desk.vault, desk.providers, desk.egress, pause=desk.pauses.append)  # type: ignore[arg-type]

    with pytest.raises(errors.StoreUnavailable):
        refresher.fresh(link, deadline=desk.soon)

    assert desk.now(link).generation == 1
    assert sum(desk.pauses) < LEASE_S / 2


# --- processes


@dataclass(frozen=True)
class Window:
    """What a process dies under: the provider's policy, and whether the host has a spool."""

    replay: str
    spool: bool

    def lost(self, point: str) -> bool:
        return lost(point, self.replay, spool=self.spool)


WINDOWS = [
    pytest.param(
        Window(replay, spool),
        id=f"{replay}{'-spool' if spool else ''}",
        marks=() if (replay, spool) == ("single_use", False) else pytest.mark.proof,
    )
    for replay in POLICIES
    for spool in (False, True)
]


@pytest.fixture
def shared(
    tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress, window: Window
) -> Iterator[Desk]:
    """A desk whose time other processes share."""
    token_server.policy = "family" if window.replay == "single_use" else window.replay  # type: ignore[assignment]
    acme = described(window.replay)
    with open_desk(tmp_path, vault, token_server, token_egress, shared_clock=True, **acme) as desk:
        desk.settings = RefreshSettings(spool=tmp_path / "spool" if window.spool else None)
        yield desk


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at_a_point_leaves_what_the_next_can_go_on_with(
    shared: Desk, tmp_path: Path, loopback_tls: Loopback, point: str, window: Window
) -> None:
    link = shared.link(expires_in=-10)

    process, outcome = send(on_errand(shared, link, loopback_tls, f"{point}:kill", window))
    process.join(20)

    assert process.exitcode == -signal.SIGKILL
    outcome.close()
    shared.clock.advance(LONG_AFTER_S)
    if window.lost(point):
        with pytest.raises(errors.InvalidGrant, match="broke off"):
            shared.refresher.fresh(shared.now(link), deadline=shared.soon)
        assert shared.now(link).status_reason == "refresh_outcome_lost"
    else:
        assert shared.refresher.fresh(shared.now(link), deadline=shared.soon).generation == 2
        assert shared.server.alive(shared.refresh_token(link))
    assert not list(tmp_path.glob("spool/*"))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("point", POINTS)
def test_a_process_stopped_at_a_point_and_resumed_after_its_lease_does_no_harm(
    shared: Desk, tmp_path: Path, loopback_tls: Loopback, point: str, window: Window
) -> None:
    link = shared.link(expires_in=-10)
    process, outcome = send(on_errand(shared, link, loopback_tls, f"{point}:stop", window))
    assert process.pid is not None
    until(lambda: is_stopped(process.pid), f"the stop at {point}")
    shared.clock.advance(LONG_AFTER_S)

    taken_over = _fresh_or_code(shared, link)
    os.kill(process.pid, signal.SIGCONT)
    code, _ = outcome.recv()
    process.join(20)

    outcome.close()
    if window.lost(point):
        # the resumed holder lands the tokens that only it has; a family, though, is dead once its old token was
        # replayed
        assert (taken_over, code) == ("invalid_grant", "fresh")
    else:
        assert (taken_over, code) == ("fresh", "fresh")
        assert shared.server.alive(shared.refresh_token(link))
    assert shared.now(link).status == "active"
    assert not list(tmp_path.glob("spool/*"))


def on_errand(desk: Desk, link: Any, tls: Loopback, crash_at: str, window: Window) -> Errand:
    """The errand for a process that shares the desk's store and time."""
    assert isinstance(desk.clock, SharedClock)
    one = errand(desk, link, desk.clock.file.parent, tls.ca_file, crash_at=crash_at, **described(window.replay))
    return replace(one, spool=desk.settings.spool)


def _fresh_or_code(desk: Desk, link: Any) -> str:
    try:
        desk.refresher.fresh(desk.now(link), deadline=desk.soon)
    except errors.Flow8Error as error:
        return error.code
    return "fresh"
