"""From an input mapping to a model: all faults at once, each with its path, and no value repeated."""

from __future__ import annotations

import time
from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator, model_validator

from flow8_core.errors import ValidationFailed
from flow8_modules import Fault, Field, Input, read_json
from flow8_modules.parsing import MAX_DEPTH, MAX_VALUES, parse

CANARY = "xoxb-canary-7f3a"


class Person(Input):
    """Somebody."""

    address: str = Field(max_length=20)


class Everything(Input):
    """One field of each kind."""

    text: str = ""
    count: int = 0
    share: float = 0.0
    wanted: bool = False
    people: tuple[Person, ...] = ()
    names: dict[str, str] = Field(default={})
    free: Any = None
    quoted: Annotated[str, BeforeValidator(lambda value: int(value) and value)] = "1"

    @model_validator(mode="after")
    def _fits(self) -> Everything:
        if self.wanted and not self.text:
            raise Fault("is required where wanted is true", field="text")
        return self


def faults(mapping: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationFailed) as caught:
        parse(Everything, mapping)
    assert CANARY not in caught.value.message
    assert CANARY not in repr(caught.value.problems)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"count": "200"}, 200),
        ({"count": 200}, 200),
        ({"share": "0.5"}, 0.5),
        ({"wanted": "false"}, False),
        ({"wanted": "true", "text": "x"}, True),
        ({"text": 5}, "5"),
        ({"text": 1.5}, "1.5"),
    ],
)
def test_scalars_are_read_from_the_text_that_flow8_renders(given: dict[str, Any], read: Any) -> None:
    inputs = parse(Everything, given)

    assert read == getattr(inputs, next(iter(given)))


def test_all_faults_are_told_at_once_with_their_paths() -> None:
    problems = faults(
        {
            "count": CANARY,
            "people": [{"address": "a"}, {"address": CANARY * 3}, CANARY],
            "names": {"ok": "x", "bad": [CANARY]},
            "nothing": CANARY,
        }
    )

    assert [(path, message.replace("String should", "should")) for path, message in problems] == [
        ("input_mapping.count", "should be a valid integer, unable to parse string as an integer"),
        ("input_mapping.people[1].address", "should have at most 20 characters"),
        ("input_mapping.people[2]", "should be an object"),
        ("input_mapping.names.bad", "should be text"),
        ("input_mapping.nothing", "is not an input of this module"),
    ]


def test_a_fault_between_fields_names_its_field() -> None:
    assert faults({"wanted": True}) == [("input_mapping.text", "is required where wanted is true")]


def test_the_text_of_a_foreign_value_error_is_not_repeated() -> None:
    assert faults({"quoted": CANARY}) == [("input_mapping.quoted", "is not acceptable")]


def test_an_unknown_name_that_may_be_a_secret_is_not_repeated() -> None:
    assert faults({f"Bearer {CANARY} ": 1}) == [("input_mapping[?]", "is not an input of this module")]


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


HOSTILE: list[tuple[str, Any, str]] = [
    ("half a surrogate", {"free": "\ud800"}, "input_mapping.free"),
    ("half a surrogate, deep", {"free": [{"a": "x\udfff"}]}, "input_mapping.free[0].a"),
    ("not a number", {"free": float("nan")}, "input_mapping.free"),
    ("infinite", {"share": float("inf")}, "input_mapping.share"),
    ("NUL in a name", {"free": {"a\x00b": 1}}, "input_mapping.free"),
    ("a name that is no text", {"free": {1: 1}}, "input_mapping.free"),
    ("bytes", {"text": b"x"}, "input_mapping.text"),
    ("an object of Python's", {"free": object()}, "input_mapping.free"),
    ("infinite, deep", {"free": [1.5, {"a": [float("inf")]}]}, "input_mapping.free[1].a[0]"),
    ("NUL in a name, deep", {"free": ["x", {"a\x00b": 1}]}, "input_mapping.free[1]"),
    ("bytes, deep", {"free": {"a": [None, True, b"x"]}}, "input_mapping.free.a[2]"),
    ("too deep", {"free": deep(100_000)}, "input_mapping.free"),
    ("one level too deep", {"free": deep(MAX_DEPTH)}, "input_mapping.free"),
    ("too many", {"free": [0] * 1_000_000}, "input_mapping"),
    ("too many, spread", {"free": [[0] * 1000] * 200}, "input_mapping"),
    ("a list at the top", [1], "input_mapping"),
    ("a text at the top", "x", "input_mapping"),
    ("nothing at all", None, "input_mapping"),
    ("dict for text", {"text": {"$ne": None}}, "input_mapping.text"),
    ("a boolean for text", {"text": True}, "input_mapping.text"),
    ("a number too long", {"count": "9" * 5000}, "input_mapping.count"),
    ("text for a list", {"people": "x"}, "input_mapping.people"),
    ("null for text", {"text": None}, "input_mapping.text"),
]


@pytest.mark.parametrize(("what", "mapping", "path"), HOSTILE, ids=[row[0] for row in HOSTILE])
def test_hostile_values_are_refused_quickly(what: str, mapping: Any, path: str) -> None:
    began = time.perf_counter()
    problems = faults(mapping)
    took = time.perf_counter() - began

    assert problems[0][0].startswith(path)
    assert took < 0.1


def test_a_hundred_faults_do_not_make_an_endless_error() -> None:
    assert len(faults({"free": ["\ud800"] * 1000})) <= 20


def test_values_at_the_limits_are_taken() -> None:
    assert deep(MAX_DEPTH - 2) == parse(Everything, {"free": deep(MAX_DEPTH - 2)}).free
    assert len(parse(Everything, {"free": [0] * (MAX_VALUES - 3)}).free) == MAX_VALUES - 3


@pytest.mark.parametrize(
    "text",
    ["", "{", "nul", "[1,]", '{"a":1,"a":2}', "NaN", "[Infinity]", "1e999", '"\\ud800"', "[" * 5000, "1 2", "9" * 5000],
)
def test_json_inside_an_input_is_read_strictly(text: str) -> None:
    with pytest.raises(Fault) as caught:
        read_json(text)

    assert text not in caught.value.message or not text


def test_json_inside_an_input_is_read() -> None:
    assert read_json('{"a": [1, null, "\\u00fc"]}') == {"a": [1, None, "ü"]}


def test_inputs_cannot_be_changed() -> None:
    inputs = parse(Everything, {"text": "a"})

    with pytest.raises(ValueError, match="frozen"):
        inputs.text = "b"  # type: ignore[misc]
