"""What `@module` makes of a function and its two models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flow8_core.errors import InternalError, ValidationFailed
from flow8_modules import Component, Context, Effect, Field, Input, Link, OneOf, Output, module
from flow8_modules.testing import conformance, context


class Greeting(Input):
    """Whom to greet."""

    name: str = Field(description="Name.", examples=["Ada"])
    loud: bool = Field(False, description="Shout.", examples=[True])


class Greeted(Output):
    """The greeting."""

    text: str = Field(description="What was said.", examples=["Hello, Ada"])


@module("greet", version=2, needs=Link("slack", scopes={"chat:write"}), effect=Effect.READ)
def greet(inputs: Greeting, ctx: Context) -> Greeted:
    """Greet somebody by name.

    Politely.
    """
    return Greeted(text=f"Hello, {inputs.name}")


def test_a_module_is_still_its_function(tmp_path: Path) -> None:
    assert Greeted(text="Hello, Ada") == greet(Greeting(name="Ada"), context(tmp_path))


def test_names_and_texts_come_from_the_decorator_and_the_docstring() -> None:
    assert (
        greet.key,
        greet.title,
        greet.description,
    ) == ("greet@2", "Greet somebody by name", "Greet somebody by name.\n\nPolitely.")


def test_example_and_schema_come_from_the_models() -> None:
    described = greet.describe()

    assert described["args_example"] == {"name": "Ada"}
    assert described["out_example"] == {"text": "Hello, Ada"}
    assert described["input"]["required"] == ["name"]
    assert described["input"]["additionalProperties"] is False
    assert described["needs"] == [{"link": "slack", "scopes": ["chat:write"], "optional": False}]
    assert described["effect"] == "read"


def test_needs_and_effect_may_depend_on_the_call() -> None:
    either = OneOf(Component("request"), Link(None), optional=True)

    @module(
        "depends",
        needs=lambda inputs: (either, Link("slack")) if inputs.loud else None,
        effect=lambda inputs, component: Effect.KEYED if component else Effect.ONCE,
    )
    def depends(inputs: Greeting, ctx: Context) -> Greeted:
        """Do as asked."""
        return Greeted(text="")

    quiet, loud = Greeting(name="a"), Greeting(name="a", loud=True)

    assert depends.needs_of(quiet) == ()
    assert (either, Link("slack")) == depends.needs_of(loud)
    assert depends.effect_of(quiet) == Effect.ONCE
    assert depends.effect_of(quiet, {"honours": True}) == Effect.KEYED
    assert depends.describe()["effect"] == "depends on the call"


def test_outputs_leave_as_plain_json_and_only_the_declared_ones() -> None:
    assert greet.dump(Greeted(text="x")) == {"text": "x"}
    with pytest.raises(InternalError, match="greet@2 returned something else"):
        greet.dump(Greeting(name="x"))  # type: ignore[arg-type]


def test_inputs_are_parsed_with_paths() -> None:
    with pytest.raises(ValidationFailed) as caught:
        greet.parse({"nam": "Ada"})

    assert [path for path, _ in caught.value.problems] == ["input_mapping.name", "input_mapping.nam"]


def no_context(inputs: Greeting) -> Greeted:
    """Wrong."""
    raise NotImplementedError


def no_output(inputs: Greeting, ctx: Context) -> dict[str, Any]:
    """Wrong."""
    raise NotImplementedError


def no_input(inputs: dict[str, Any], ctx: Context) -> Greeted:
    """Wrong."""
    raise NotImplementedError


@pytest.mark.parametrize("function", [no_context, no_output, no_input])
def test_a_function_of_another_shape_is_no_module(function: Any) -> None:
    with pytest.raises(TypeError, match="must be"):
        module("wrong", effect=Effect.READ)(function)


@pytest.mark.parametrize("ref", ["Slack", "slack_message", "slack message", "-x", "x-", "x--y", "1x", "", "släck"])
def test_a_ref_is_kebab_case(ref: str) -> None:
    with pytest.raises(TypeError, match="kebab-case"):
        module(ref, effect=Effect.READ)


def test_versions_count_from_one() -> None:
    with pytest.raises(TypeError, match="count from 1"):
        module("x", version=0, effect=Effect.READ)


@pytest.mark.parametrize(("effect", "again"), [("read", True), ("repeatable", True), ("keyed", True), ("once", False)])
def test_only_what_happens_twice_is_not_repeated(effect: str, again: bool) -> None:
    assert again == Effect(effect).repeats_safely


class Bare(Input):
    name: str


class Half(Output):
    """What came out"""

    text: str = Field(description="no period", examples=[float("nan")])


@module("bare", effect=Effect.READ)
def bare(inputs: Bare, ctx: Context) -> Half:
    """Does things"""
    raise NotImplementedError


def test_conformance_says_what_is_missing() -> None:
    assert conformance(bare) == [
        "the first line of bare's docstring does not end with a period",
        "Bare's docstring is missing, or does not end with a period",
        "Half's docstring is missing, or does not end with a period",
        "Bare.name has no description that ends with a period",
        "Bare.name has no example",
        "Half.text has no description that ends with a period",
        "the example of Half.text is not JSON",
    ]


class Strict(Input):
    """Wants small numbers."""

    count: int = Field(le=5, description="How many.", examples=[6])


@module("strict", effect=Effect.READ)
def strict(inputs: Strict, ctx: Context) -> Greeted:
    """Count."""
    raise NotImplementedError


def test_conformance_tries_the_examples() -> None:
    assert conformance(strict) == [
        "the example of strict's inputs is refused: input_mapping.count: should be less than or equal to 5"
    ]


def test_conformance_passes_what_keeps_the_conventions() -> None:
    assert conformance(greet) == []
