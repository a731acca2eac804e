"""An application that is refused pauses its links and is told once; many links condemned at once are not believed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from credentials.applications import BELIEVED_AFTER_S, CONFIRMED_BY, FIRST_TRIAL_S, RAREST_TRIAL_S
from credentials.grants import COLLECTION
from credentials.link import Link
from credentials.refresh_settings import RefreshSettings
from credentials.refresh_verdicts import DISBELIEF_S
from credentials.vault import Vault
from flow8_core import errors
from flow8_core.egress import Egress
from tests.counterparts.token_server import Answer, TokenServer
from tests.credentials.desk import Desk, open_desk, providers_at

REFUSED = Answer(401, b'{"error": "invalid_client"}')
ODD = Answer(400, b'{"error": "unauthorized_client"}')
DEAD = Answer(400, b'{"error": "invalid_grant"}')


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        desk.settings = RefreshSettings(breaker_links=5, breaker_window_s=600)
        yield desk


def links(desk: Desk, count: int, *, expires_in: float = -10) -> list[Link]:
    return [
        desk.link(expires_in=expires_in, account=f"user-{n}", refresh_token=desk.server.grant(f"g{n}"))
        for n in range(count)
    ]


def outcome(desk: Desk, link: Link) -> str:
    """The error's code, or "fresh"."""
    try:
        desk.refresher.fresh(desk.now(link), deadline=desk.soon)
    except errors.Flow8Error as error:
        return error.code
    return "fresh"


def statuses(desk: Desk) -> list[str]:
    return sorted(link.status for link in desk.links.list())


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


# --- an application that is refused


def test_one_refusal_pauses_all_links_of_the_application_and_is_told_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    paused = links(desk, 6)
    desk.server.script.extend([REFUSED] * 6)

    assert {outcome(desk, link) for link in paused} == {"provider_misconfigured"}
    desk.look_after()

    assert statuses(desk) == ["app_blocked"] * 6
    assert {link.status_reason for link in desk.links.list()} == {"invalid_client"}
    assert len(desk.server.token_calls) == 1
    assert len(alarms(caplog)) == 1
    assert "oauth2.acme" in alarms(caplog)[0]


def test_links_that_nobody_asks_for_are_paused_too_and_those_of_other_services_are_not(desk: Desk) -> None:
    first, second = links(desk, 2)
    other = desk.link("slack", account="elsewhere", refresh_token=desk.server.grant("other"))
    desk.server.script.append(REFUSED)
    outcome(desk, first)

    desk.upkeep.pause_and_resume()

    assert desk.now(second).status == "app_blocked"
    assert desk.now(other).status == "active"


def test_eight_processes_that_are_refused_at_once_tell_it_once(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    paused = links(desk, 8)
    desk.server.script.extend([REFUSED] * 8)

    with ThreadPoolExecutor(8) as pool:
        outcomes = set(pool.map(lambda link: outcome(desk, link), paused))

    assert outcomes == {"provider_misconfigured"}
    assert len(alarms(caplog)) == 1


def test_a_paused_link_is_used_while_its_access_token_lasts(desk: Desk) -> None:
    (link,) = links(desk, 1, expires_in=FIRST_TRIAL_S + 59)
    desk.server.script.append(REFUSED)

    assert outcome(desk, link) == "fresh"
    assert desk.now(link).status == "app_blocked"
    assert outcome(desk, link) == "fresh"

    desk.clock.advance(FIRST_TRIAL_S - 1)
    assert outcome(desk, link) == "provider_misconfigured"
    assert len(desk.server.token_calls) == 1


def mended(desk: Desk) -> None:
    """Somebody puts another client secret into the configuration."""
    desk.providers = providers_at(desk.server.url, client_secret="the-secret-after-it")


def test_a_mended_configuration_lets_all_links_go_on_without_anybody_doing_more(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    paused = links(desk, 4)
    desk.server.script.append(REFUSED)
    outcome(desk, paused[0])
    desk.look_after()

    mended(desk)
    desk.look_after()
    desk.look_after()

    assert statuses(desk) == ["active"] * 4
    assert {link.generation for link in desk.links.list()} == {2}
    assert len(alarms(caplog)) == 1


def test_a_step_that_comes_first_after_the_mending_is_served_at_once(desk: Desk) -> None:
    (link,) = links(desk, 1)
    desk.server.script.append(REFUSED)
    outcome(desk, link)

    mended(desk)

    assert outcome(desk, link) == "fresh"
    assert desk.now(link).status == "active"


def test_a_configuration_that_was_mended_wrongly_is_told_again(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    (link,) = links(desk, 1)
    desk.server.script.extend([REFUSED, REFUSED])
    outcome(desk, link)
    mended(desk)

    assert outcome(desk, link) == "provider_misconfigured"
    assert len(alarms(caplog)) == 2


def test_what_was_mended_at_the_provider_shows_in_a_trial(desk: Desk) -> None:
    paused = links(desk, 3)
    desk.server.script.append(REFUSED)
    outcome(desk, paused[0])
    desk.look_after()
    desk.clock.advance(FIRST_TRIAL_S - 1)
    desk.look_after()
    assert len(desk.server.token_calls) == 1

    desk.clock.advance(1)
    desk.look_after()
    desk.look_after()

    assert statuses(desk) == ["active"] * 3
    assert {link.generation for link in desk.links.list()} == {2}


def test_trials_become_rarer_and_never_cease(desk: Desk) -> None:
    links(desk, 3)
    desk.server.script.extend([REFUSED] * 1000)
    desk.look_after()

    for _ in range(48):
        desk.clock.advance(600)
        desk.look_after()

    assert 8 * 3600 / RAREST_TRIAL_S <= len(desk.server.token_calls) <= 24
    assert statuses(desk) == ["app_blocked"] * 3


@pytest.mark.parametrize("answer", [REFUSED, Answer(503)])
def test_a_trial_that_fails_mends_nothing_though_the_access_token_lasts(desk: Desk, answer: Answer) -> None:
    (link,) = links(desk, 1, expires_in=600)
    desk.server.script.extend([REFUSED, answer])
    assert outcome(desk, link) == "fresh"
    desk.clock.advance(FIRST_TRIAL_S)

    assert outcome(desk, link) == "fresh"

    assert len(desk.server.token_calls) == 2
    assert desk.applications.refusal(desk.providers.get("acme")) == "invalid_client"
    assert desk.now(link).status == "app_blocked"


def test_a_trial_with_a_dead_link_shows_that_the_application_is_well(desk: Desk) -> None:
    first, second = links(desk, 2)
    desk.server.script.append(REFUSED)
    outcome(desk, first)
    desk.upkeep.pause_and_resume()
    desk.clock.advance(FIRST_TRIAL_S)
    desk.server.script.append(DEAD)

    assert outcome(desk, first) == "invalid_grant"
    desk.look_after()

    assert desk.now(first).status == "needs_reconnect"
    assert desk.now(second).status == "active"


@pytest.mark.parametrize(
    "answer",
    [Answer(401, b'{"error": "unauthorized_client"}'), Answer(200, b'{"ok": false, "error": "bad_client_secret"}')],
)
def test_what_surely_means_the_application_needs_no_second_link(desk: Desk, answer: Answer) -> None:
    link = desk.link("slack", expires_in=-10)
    desk.server.script.append(answer)

    assert outcome(desk, link) == "provider_misconfigured"
    assert desk.now(link).status == "app_blocked"


def test_a_refusal_that_may_be_one_accounts_affair_pauses_nobody_else(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    first, *others = links(desk, 4)
    desk.server.script.append(ODD)

    assert outcome(desk, first) == "provider_misconfigured"
    desk.upkeep.pause_and_resume()

    assert statuses(desk) == ["active"] * 4
    assert [outcome(desk, link) for link in others] == ["fresh"] * 3
    assert alarms(caplog) == []


def test_a_refusal_that_several_links_meet_is_the_applications(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    several = links(desk, CONFIRMED_BY)
    for link in several:
        desk.set(link, issued_at=None)  # connected long ago
    desk.server.script.extend([ODD] * CONFIRMED_BY)

    for link in several:
        outcome(desk, link)
    desk.upkeep.pause_and_resume()

    assert statuses(desk) == ["app_blocked"] * CONFIRMED_BY
    assert len(alarms(caplog)) == 1


def test_nothing_in_the_store_tells_the_secret_of_an_application(desk: Desk) -> None:
    (link,) = links(desk, 1)
    desk.server.script.append(REFUSED)
    outcome(desk, link)

    (row,) = desk.store.find("oauth_apps", {})

    assert row["_id"].startswith("acme:")
    assert "secret" not in str(row)


# --- many links condemned at once


def connected_long_ago(desk: Desk, count: int) -> list[Link]:
    found = links(desk, count)
    desk.clock.advance(3600)
    return found


def test_many_links_condemned_within_a_window_are_not_marked_as_dead_and_it_is_told_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = connected_long_ago(desk, 10)
    desk.server.script.extend([DEAD] * 10)

    outcomes = [outcome(desk, link) for link in fleet]
    desk.upkeep.pause_and_resume()

    assert outcomes == ["invalid_grant"] * 4 + ["provider_unavailable"] * 6
    assert statuses(desk) == ["active"] * 10
    assert len(alarms(caplog)) == 1
    assert "condemns" in alarms(caplog)[0]


def test_they_all_live_when_the_provider_comes_to_its_senses(desk: Desk) -> None:
    fleet = connected_long_ago(desk, 12)
    desk.server.script.extend([DEAD] * 12)
    for link in fleet:
        outcome(desk, link)

    for _ in range(4):
        desk.clock.advance(DISBELIEF_S / 2)
        desk.look_after()

    assert statuses(desk) == ["active"] * 12
    assert {link.generation for link in desk.links.list()} == {2}
    assert not [row for row in desk.store.find(COLLECTION, {}) if "refused_at" in row]


def test_a_link_that_is_condemned_for_a_day_is_dead_whatever_happens_to_others(desk: Desk) -> None:
    fleet = connected_long_ago(desk, 8)
    desk.server.script.extend([DEAD] * 1000)

    for hours in range(6):
        assert "active" in statuses(desk), hours
        for link in fleet:
            outcome(desk, link)
        desk.upkeep.pause_and_resume()
        desk.clock.advance(BELIEVED_AFTER_S / 5)

    assert set(statuses(desk)) == {"needs_reconnect"}


def test_a_few_dead_links_among_many_that_are_renewed_are_dead(desk: Desk) -> None:
    alive, dead = connected_long_ago(desk, 14)[:8], [f"user-{n}" for n in range(8, 14)]
    for link in alive:
        assert outcome(desk, link) == "fresh"
    desk.server.script.extend([DEAD] * 6)

    for link in desk.links.list():
        if link.provider_user_id in dead:
            assert outcome(desk, link) == "invalid_grant"

    assert statuses(desk) == ["active"] * 8 + ["needs_reconnect"] * 6


def test_links_that_die_one_by_one_over_a_long_time_are_dead(desk: Desk) -> None:
    for link in connected_long_ago(desk, 10):
        desk.server.script.append(DEAD)
        assert outcome(desk, link) == "invalid_grant"
        desk.clock.advance(200)

    desk.upkeep.pause_and_resume()

    assert statuses(desk) == ["needs_reconnect"] * 10


def test_a_condemned_link_whose_access_token_lasts_is_used_meanwhile(desk: Desk) -> None:
    fleet = links(desk, 10, expires_in=7200)
    desk.clock.advance(7200 - 900)
    desk.server.script.extend([DEAD] * 10)

    outcomes = [outcome(desk, link) for link in fleet]

    assert outcomes == ["invalid_grant"] * 4 + ["fresh"] * 6
