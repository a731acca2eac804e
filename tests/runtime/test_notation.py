"""Strict JSON: what is sound is told so quickly, and nothing else is."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flow8_runtime import notation
from flow8_runtime.notation import Limits

SMALL = Limits(depth=3, nodes=8, size=60)

TEXTS = st.text(st.characters(codec=None), max_size=6) | st.sampled_from(["\x00", "\ud800", "ä", "x" * 61])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.sampled_from([2**63, -(2**63), b"x", (1,), {1}])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(TEXTS | st.integers(), inner, max_size=9),
    max_leaves=20,
)


@given(VALUES)
@example([[[]]])
@example([[[[]]]])
@example([[["x"]]])
@example({"a": {"b": {"c": 1}}})
@example({"a": {"b": {"c": [1]}}})
@example({1: "x"})
@example(math.nan)
@example(1e300)
def test_a_value_is_sound_exactly_where_the_long_way_finds_no_fault(value: Any) -> None:
    for limits in (SMALL, Limits()):
        assert notation.faults(value, limits=limits) == notation._Inspection(limits).run(value, "$")


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        ([[[0]]], Limits(depth=3)),
        (list(range(8)), Limits(nodes=8)),
        ("x" * 60, Limits(size=60)),
        ({"ä": "ä" * 28}, Limits(size=58)),
        (-(2**63), Limits()),
        (2**63 - 1, Limits()),
    ],
    ids=str,
)
def test_what_reaches_a_limit_and_no_more_is_sound(value: Any, limits: Limits) -> None:
    assert notation.faults(value, limits=limits) == []
    assert notation._sound(value, limits)


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        ([[[[]]]], Limits(depth=3)),
        (list(range(9)), Limits(nodes=8)),
        ("x" * 61, Limits(size=60)),
        ({"ä": "ä" * 28}, Limits(size=57)),
        (2**63, Limits()),
    ],
    ids=str,
)
def test_one_more_than_a_limit_is_a_fault(value: Any, limits: Limits) -> None:
    assert notation.faults(value, limits=limits) != []
