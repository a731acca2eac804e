"""Filters: when a step runs, and what counts as equal."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from flow8_core.errors import ValidationFailed
from flow8_runtime.filters import Filter, FilterGroup, equal, passes
from flow8_runtime.scope import Scope

SCOPE = Scope(
    args={"paid": True, "lang": "en"},
    outputs={"fetch": {"status_code": 200, "body": {"ok": False}}},
    states={"fetch": "DONE"},
)
TRUE = Filter("{{ $prev.args.paid }}", True)
FALSE = Filter("$prev.fetch.status_code", 404)


@pytest.mark.parametrize(
    ("operator", "filters", "expected"),
    [
        ("AND", (), True),
        ("OR", (), True),
        ("AND", (TRUE, TRUE), True),
        ("AND", (TRUE, FALSE), False),
        ("OR", (FALSE, TRUE), True),
        ("OR", (FALSE, FALSE), False),
    ],
)
def test_a_group_holds_by_its_operator(
    operator: Literal["AND", "OR"], filters: tuple[Filter, ...], expected: bool
) -> None:
    assert passes(FilterGroup(operator, filters), SCOPE) is expected


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (200, "200", True),
        ("200", 200, True),
        (200.0, "200", True),
        (1.5, "1.5", True),
        (False, "false", True),
        (True, "true", True),
        (True, "True", False),
        (True, "1", False),
        (True, 1, False),
        (0, False, False),
        (1, 1.0, True),
        (None, None, True),
        (None, "", False),
        (None, "null", False),
        ("a", "a", True),
        ("a", "A", False),
        ([1, "2"], [1, "2"], True),
        ([1, 2], [1, "2"], False),
        ([1], [True], False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (200, "2e2", True),
        (200, "two hundred", False),
        (5, "5" * 5000, False),
        ([], "", False),
    ],
)
def test_values_are_compared_as_flow8s_own_flows_write_them(left: Any, right: Any, expected: bool) -> None:
    assert equal(left, right) is expected
    assert equal(right, left) is expected


def test_a_path_that_leads_nowhere_counts_as_null() -> None:
    group = FilterGroup("AND", (Filter("{{ $prev.fetch.body.missing }}", None), Filter("$prev.nobody.x", None)))

    assert passes(group, SCOPE)


def test_a_filter_may_ask_how_a_step_ended_and_compare_with_an_expression() -> None:
    group = FilterGroup(
        "AND", (Filter("{{ $prev.fetch.state }}", "DONE"), Filter("{{ $prev.args.lang }}", "{{ $prev.args.lang }}"))
    )

    assert passes(group, SCOPE)


def test_what_is_no_expression_is_refused_with_its_place() -> None:
    group = FilterGroup("OR", (TRUE, Filter("prev.status == 200", True)))

    with pytest.raises(ValidationFailed) as caught:
        passes(group, SCOPE)

    assert caught.value.path == "filters.filters[1].expression"
