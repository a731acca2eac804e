"""The operator is told of an application that a service refuses, once, and once when it works again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from credentials import events, outbox
from credentials.applications import FIRST_TRIAL_S
from credentials.audit import Audit
from credentials.refresh_settings import RefreshSettings
from credentials.rotation import DEPLOYMENT
from credentials.vault import Vault
from flow8_core import crashpoints, errors
from flow8_core.egress import Egress
from tests.counterparts.receiver import SECRET, Receiver
from tests.counterparts.token_server import Answer, Loopback, TokenServer
from tests.credentials.desk import Desk, SharedClock, open_desk, providers_at
from tests.credentials.post import Post, Round, post_of, send
from tests.docs.pages import block
from tests.processes import is_stopped, until

REFUSED = Answer(401, b'{"error": "invalid_client"}')
DEAD = Answer(400, b'{"error": "invalid_grant"}')


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        desk.settings = RefreshSettings(breaker_links=5, breaker_window_s=600)
        yield desk


@pytest.fixture
def post(desk: Desk, receiver: Receiver, receiver_egress: Egress) -> Post:
    return post_of(desk, receiver, receiver_egress)


def refuse(desk: Desk, answer: Answer = REFUSED, *, account: str = "user-1") -> None:
    """A link whose refresh the service answers so."""
    link = desk.link(expires_in=-10, account=account)
    desk.server.script.append(answer)
    with pytest.raises(errors.Flow8Error):
        desk.refresher.fresh(link, deadline=desk.soon)


def mend(desk: Desk, post: Post, *, client_secret: str = "the-secret-after-it") -> None:
    """Somebody puts another client secret into the configuration."""
    desk.providers = post.providers = providers_at(desk.server.url, client_secret=client_secret)


def test_an_application_that_is_refused_is_told_once_however_many_links_meet_it(
    desk: Desk, receiver: Receiver, post: Post
) -> None:
    for number in range(4):
        desk.link(expires_in=-10, account=f"user-{number}")
    desk.server.script.extend([REFUSED] * 4)

    for _ in range(3):
        desk.look_after()
        post.round()

    assert {link.status for link in desk.links.list()} == {"app_blocked"}
    (told,) = receiver.received
    assert told.event["type"] == "app.blocked"
    assert told.event["data"]["service"] == "acme"
    assert told.event["data"]["reason"] == "invalid_client"
    assert "oauth2.acme" in told.event["data"]["message"]
    assert receiver.refused == []


def test_an_alert_has_the_shape_of_the_contract(desk: Desk, receiver: Receiver, post: Post) -> None:
    said = json.loads(block("json", "app-event", page="docs/contracts.md"))
    refuse(desk)
    post.round()

    (told,) = receiver.received

    assert told.event.keys() == said.keys()
    assert told.event["data"].keys() == said["data"].keys()
    assert told.event["timestamp"] == told.event["data"]["since"]


def test_what_was_mended_at_the_service_is_told_as_a_recovery_and_once(
    desk: Desk, receiver: Receiver, post: Post
) -> None:
    refuse(desk)
    post.round()

    desk.clock.advance(FIRST_TRIAL_S)
    for _ in range(3):
        desk.look_after()
        post.round()

    assert receiver.types == ["app.blocked", "app.recovered"]
    assert receiver.received[1].event["data"]["reason"] is None


def test_a_mended_configuration_is_told_once_it_has_brought_a_token(desk: Desk, receiver: Receiver, post: Post) -> None:
    refuse(desk)
    post.round()

    desk.clock.advance(1)
    mend(desk, post)
    post.round()
    assert receiver.types == ["app.blocked"]
    for _ in range(3):
        desk.look_after()
        post.round()

    assert receiver.types == ["app.blocked", "app.recovered"]


def test_a_configuration_that_was_mended_wrongly_is_told_again_and_the_recovery_once(
    desk: Desk, receiver: Receiver, post: Post
) -> None:
    refuse(desk)
    post.round()
    desk.clock.advance(1)
    mend(desk, post, client_secret="wrong again")
    refuse(desk, account="user-2")
    post.round()

    desk.clock.advance(1)
    mend(desk, post)
    for _ in range(3):
        desk.look_after()
        post.round()

    assert receiver.types == ["app.blocked", "app.blocked", "app.recovered"]


def test_a_second_refusal_is_told_again(desk: Desk, receiver: Receiver, post: Post) -> None:
    refuse(desk)
    post.round()
    desk.clock.advance(FIRST_TRIAL_S)
    desk.look_after()
    post.round()

    desk.clock.advance(10)
    refuse(desk, account="user-2")
    post.round()

    assert receiver.types == ["app.blocked", "app.recovered", "app.blocked"]


def test_what_is_mended_before_anybody_was_told_concerns_nobody(desk: Desk, receiver: Receiver, post: Post) -> None:
    refuse(desk)
    mend(desk, post)

    for _ in range(3):
        desk.look_after()
        post.round()

    assert receiver.received == []


def test_a_service_that_condemns_many_links_at_once_is_told_once(desk: Desk, receiver: Receiver, post: Post) -> None:
    fleet = [desk.link(expires_in=-10, account=f"user-{number}") for number in range(8)]
    desk.clock.advance(3600)
    desk.server.script.extend([DEAD] * 8)
    for link in fleet:
        with pytest.raises(errors.Flow8Error):
            desk.refresher.fresh(link, deadline=desk.soon)
    desk.upkeep.pause_and_resume()

    for _ in range(3):
        post.round()

    assert receiver.types == ["app.disbelieved"]
    assert {link.status for link in desk.links.list()} == {"active"}


def test_without_an_endpoint_nothing_is_sent_and_what_lasts_is_told_when_there_is_one(
    desk: Desk, receiver: Receiver, receiver_egress: Egress
) -> None:
    refuse(desk)
    post_of(desk, None, receiver_egress).round()

    post_of(desk, receiver, receiver_egress).round()

    assert receiver.types == ["app.blocked"]


def test_an_alert_that_nobody_receives_is_in_the_audit_log_of_the_deployment(
    desk: Desk, receiver: Receiver, post: Post
) -> None:
    receiver.script.append(410)
    refuse(desk)

    assert post.round().dead == 1

    (entry,) = Audit(desk.store, desk.vault, DEPLOYMENT).query()
    assert (entry["action_type"], entry["resource_type"]) == ("event_undelivered", "oauth_app")


def test_no_secret_of_the_application_is_told(desk: Desk, receiver: Receiver, post: Post) -> None:
    refuse(desk)
    post.round()

    told = str(receiver.received) + str(post.items())

    assert "client-secret-of-the-tests" not in told
    assert SECRET not in told


@pytest.mark.parametrize("point", [events.MOVED, outbox.CLAIMED, outbox.DELIVERED])
def test_a_pass_that_fails_at_any_point_is_made_good_with_the_same_id(
    desk: Desk, receiver: Receiver, post: Post, point: str
) -> None:
    refuse(desk)
    crashpoints.arm(f"{point}:raise")
    with pytest.raises(crashpoints.CrashPointReached):
        post.round()
    crashpoints.arm("")

    desk.clock.advance(FIRST_TRIAL_S)
    desk.clock.advance(outbox.LEASE_S + 1)
    post.round()
    desk.look_after()
    post.round()

    assert receiver.types == ["app.blocked", "app.recovered"]


@pytest.fixture
def shared(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    """A desk whose store and time other processes share."""
    with open_desk(tmp_path, vault, token_server, token_egress, shared_clock=True) as desk:
        yield desk


@pytest.mark.parametrize("action", ["kill", "stop"])
def test_a_process_that_dies_or_stops_while_it_tells_is_made_good_under_one_id(
    shared: Desk, receiver: Receiver, receiver_egress: Egress, loopback_tls: Loopback, action: str
) -> None:
    refuse(shared)
    assert isinstance(shared.clock, SharedClock)
    folder, post = shared.clock.file.parent, post_of(shared, receiver, receiver_egress)
    ours = (folder, str(shared.company_id), shared.server.url, loopback_tls.ca_file, f"{events.MOVED}:{action}")
    process = send(Round(*ours, endpoint=receiver.url))
    if action == "kill":
        process.join(30)
        assert process.exitcode == -signal.SIGKILL
    else:
        until(lambda: is_stopped(process.pid), "the stop")

    post.round()
    if action == "stop":
        os.kill(process.pid or 0, signal.SIGCONT)
        process.join(30)
    post.round()

    assert receiver.types == ["app.blocked"]
    assert len(receiver.received) == 1
