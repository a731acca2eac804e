"""Every registered crash point is visited by kill, stop and raise: this table says by which tests."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.environment import rounds

ROOT = Path(__file__).parents[1]
ROOMS = ("flow8_core", "credentials", "flow8_modules", "flow8_runtime", "flow8_api", "flow8_cli")

BOTH = (
    "test_a_reconnect_that_is_broken_off_leaves_a_link_that_lives",
    "test_a_key_that_changes_while_refreshes_are_in_doubt_costs_no_link",
)
VISITED_BY = {
    "kill": (
        "tests.flows.test_kills:test_so_it_is_where_a_pool_process_dies_alone",
        "tests.credentials.test_refresh_windows:test_a_process_killed_at_a_point_leaves_what_the_next_can_go_on_with",
        "tests.credentials.test_connect_windows:test_a_process_killed_at_a_point_leaves_no_half_link",
        "tests.flows.test_park_and_release:test_an_api_killed_before_it_has_woken_anybody_loses_no_play",
        "tests.credentials.test_rotation_windows:test_a_process_killed_at_a_point_of_a_rotation_is_made_good_by_the_next",
        "tests.credentials.test_post_windows:test_unlinking_that_is_killed_at_a_point_ends_at_the_vendor",
        "tests.credentials.test_post_windows:test_telling_that_is_killed_or_stopped_at_a_point_arrives_under_one_id",
    ),
    "stop": (
        "tests.flows.test_kills:test_so_it_is_in_embedded_mode",
        "tests.credentials.test_refresh_windows:test_a_process_stopped_at_a_point_and_resumed_after_its_lease_does_no_harm",
        "tests.credentials.test_connect_windows:test_a_process_stopped_at_a_point_ends_as_it_would_have",
        "tests.flows.test_park_and_release:test_an_api_stopped_before_it_has_woken_anybody_does_no_harm_later",
        "tests.credentials.test_rotation_windows:test_a_process_stopped_at_a_point_of_a_rotation_and_resumed_after_the_next_does_no_harm",
        "tests.credentials.test_post_windows:test_unlinking_that_is_stopped_at_a_point_ends_at_the_vendor_whoever_goes_on_first",
        "tests.credentials.test_post_windows:test_telling_that_is_killed_or_stopped_at_a_point_arrives_under_one_id",
    ),
    "raise": (
        "tests.runtime.test_step_points:test_a_failure_at_a_point_of_a_step_costs_an_attempt_and_no_step",
        "tests.credentials.test_refresh_windows:test_a_refresh_broken_off_at_any_point_is_made_good_where_that_is_possible",
        "tests.credentials.test_connect:test_a_connection_broken_off_leaves_no_half_link_and_is_simply_made_again",
        "tests.credentials.test_connect:test_a_connection_broken_off_at_its_very_end_is_there[connect.stored]",
        "tests.flows.test_park_and_release:test_a_failure_before_anybody_was_woken_leaves_the_link_and_its_play_to_the_sweep",
        "tests.credentials.test_rotation_windows:test_a_rotation_that_fails_at_a_point_is_made_good_by_the_next",
        "tests.credentials.test_post_windows:test_unlinking_that_fails_at_a_point_can_be_done_again",
        "tests.credentials.test_events:test_a_pass_that_fails_at_any_point_is_made_good_with_the_same_id",
    ),
}


# What the crash points of links are visited under: how servers treat a refresh token that was used. The names say in
# which parameter a test has it.
POLICIES = {"single_use", *("reusable", "grace")[: rounds(2, short=0)]}
UNDER_POLICIES = {
    "kill": (
        "tests.credentials.test_refresh_windows:test_a_process_killed_at_a_point_leaves_what_the_next_can_go_on_with",
        "tests.credentials.test_post_windows:test_unlinking_that_is_killed_at_a_point_ends_at_the_vendor",
        *("tests.credentials.test_policy_windows:" + test for test in BOTH),
    ),
    "stop": (
        "tests.credentials.test_refresh_windows:test_a_process_stopped_at_a_point_and_resumed_after_its_lease_does_no_harm",
        "tests.credentials.test_post_windows:test_unlinking_that_is_stopped_at_a_point_ends_at_the_vendor_whoever_goes_on_first",
        *("tests.credentials.test_policy_windows:" + test for test in BOTH),
    ),
    "raise": (
        "tests.credentials.test_refresh_windows:test_a_refresh_broken_off_at_any_point_is_made_good_where_that_is_possible",
        "tests.credentials.test_post_windows:test_unlinking_that_fails_at_a_point_can_be_done_again",
        *("tests.credentials.test_policy_windows:" + test for test in BOTH),
    ),
}
OF_LINKS = ("connect.", "refresh.", "unlink.", "outbox.", "revocation.", "rotation.", "retire.")


def registered() -> set[str]:
    """The points that the source registers."""
    found: set[str] = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            found |= set(re.findall(r'crashpoints\.register\(\s*"([^"]+)"', path.read_text()))
    return found


def points_of(test: str) -> Iterator[str]:
    """The points that a test's parameters name, as `point` or within a `row`; in brackets the one of a test without."""
    place, _, only = test.removesuffix("]").partition("[")
    module, _, name = place.partition(":")
    function: Any = getattr(importlib.import_module(module), name)
    if only:
        yield only
    for mark in getattr(function, "pytestmark", ()):
        if mark.name == "parametrize" and mark.args[0] in ("point", "row"):
            for value in mark.args[1]:
                value = value.values[0] if hasattr(value, "values") else value
                yield getattr(value, "point", value)


def values_of(test: str, parameter: str) -> set[str]:
    """The values of one of a test's parameters; of a `window` its policy."""
    module, _, name = test.partition(":")
    found: set[str] = set()
    for mark in getattr(getattr(importlib.import_module(module), name), "pytestmark", ()):
        if mark.name == "parametrize" and mark.args[0] == parameter:
            for value in mark.args[1]:
                value = value.values[0] if hasattr(value, "values") else value
                found.add(getattr(value, "replay", value))
    return found


@pytest.mark.parametrize("action", UNDER_POLICIES)
def test_every_crash_point_of_a_links_life_is_visited_under_every_policy(action: str) -> None:
    visited = set()
    for test in UNDER_POLICIES[action]:
        assert (values_of(test, "replay") or values_of(test, "window")) >= POLICIES, test
        assert values_of(test, "action") in (set(), set(VISITED_BY)), test
        visited |= set(points_of(test))

    assert visited == {point for point in registered() if point.startswith(OF_LINKS)}


@pytest.mark.parametrize("action", VISITED_BY)
def test_every_crash_point_is_visited(action: str) -> None:
    visited = {point for test in VISITED_BY[action] for point in points_of(test)}

    assert visited == registered()
