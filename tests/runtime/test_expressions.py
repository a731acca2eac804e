"""Expressions: what a path gives, what is refused, and that no text does anything else."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow8_core.errors import ValidationFailed
from flow8_runtime import expressions
from flow8_runtime.expressions import EXPRESSION_LIMIT, lookup, references, resolve
from flow8_runtime.scope import Scope

SCOPE = Scope(
    args={"who": "Ada", "n": 3, "none": None, "yes": True, "list": [10, {"deep": "x"}], "odd.key": 1, "": "empty"},
    outputs={"fetch": {"status_code": 200, "body": {"items": ["a", "b"], "@odata.type": "#e"}}, "empty": {}},
    states={"fetch": "DONE", "empty": "SKIP", "broken": "FAIL"},
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("{{ $prev.args.n }}", 3),
        ("{{$prev.args.n}}", 3),
        ("{{ $prev.args.yes }}", True),
        ("{{ $prev.args.none }}", None),
        ("{{ $prev.args.list }}", [10, {"deep": "x"}]),
        ("{{ $prev.args.list.1.deep }}", "x"),
        ("{{ $prev.args.list[1].deep }}", "x"),
        ('{{ $prev.args["odd.key"] }}', 1),
        ('{{ $prev.args[""] }}', "empty"),
        ('{{ $prev.fetch.body["@odata.type"] }}', "#e"),
        ("{{ $prev.fetch.body.items[0] }}", "a"),
        ("{{ $prev.fetch }}", SCOPE.outputs["fetch"]),
        ("{{ $prev.fetch.state }}", "DONE"),
        ("{{ $prev.empty.state }}", "SKIP"),
        ("{{ $prev.broken.state }}", "FAIL"),
        ("Hi {{ $prev.args.who }}!", "Hi Ada!"),
        ("{{ $prev.args.who }}{{ $prev.args.n }}", "Ada3"),
        ("<{{ $prev.args.none }}>", "<>"),
        ("{{ $prev.args.yes }}, {{ $prev.args.n }}", "true, 3"),
        ("see {{ $prev.args.list }}", 'see [10,{"deep":"x"}]'),
        ('{"a":{{ $prev.args.n }}}', '{"a":3}'),
        ("} } }} {", "} } }} {"),
    ],
)
def test_an_expression_gives_what_its_path_leads_to(text: str, value: object) -> None:
    found = resolve(text, SCOPE)

    assert (found, type(found)) == (value, type(value))


def test_a_value_is_resolved_at_any_depth_and_left_as_it_was() -> None:
    given_value = {"a": ["{{ $prev.args.n }}", {"b": "{{ $prev.args.who }}"}], "c": 1}

    found = resolve(given_value, SCOPE)

    assert found == {"a": [3, {"b": "Ada"}], "c": 1}
    assert given_value == {"a": ["{{ $prev.args.n }}", {"b": "{{ $prev.args.who }}"}], "c": 1}


def test_what_a_value_brings_along_is_never_read_as_an_expression() -> None:
    scope = Scope(args={"text": "{{ $prev.args.secret }}", "secret": "s"}, outputs={})

    found = resolve(["{{ $prev.args.text }}", "x {{ $prev.args.text }}"], scope)

    assert found == ["{{ $prev.args.secret }}", "x {{ $prev.args.secret }}"]


@pytest.mark.parametrize(
    "text",
    [
        "{{ $prev.args.n",
        "{{}}",
        "{{ }}",
        "{{7*7}}",
        "{{ args.n }}",
        "{{ $prev }}",
        "{{ $prev. }}",
        "{{ $prev.args. }}",
        "{{ $prev.args..n }}",
        "{{ $prev.args.n() }}".replace("()", "[x]"),
        "{{ $prev.args[-1] }}",
        "{{ $prev.args['n'] }}",
        '{{ $prev.args["\\q"] }}',
        "{{ $prev.args.a b }}",
        "{{ $prev.args.n | upper }}",
        "{{ {{ $prev.args.n }} }}",
        "{{" * 100,
        "{{ $kv.get 'name' }}",
        "{{ $prev." + "x" * 65 + " }}",
        "{{ $prev.args." + "x" * EXPRESSION_LIMIT + " }}",
        "{{ $prev.args.n }}" * 300,
    ],
)
def test_what_is_no_expression_is_refused_with_its_path(text: str) -> None:
    for read in (
        lambda: resolve({"a": [text]}, SCOPE, path="input_mapping"),
        lambda: references({"a": [text]}, path="input_mapping"),
    ):
        with pytest.raises(ValidationFailed) as caught:
            read()
        assert caught.value.path == "input_mapping.a[0]"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ $prev.args.nobody }}", "arguments"),
        ("{{ $prev.args.n.real }}", "arguments"),
        ("{{ $prev.args.who.__class__ }}", "arguments"),
        ("{{ $prev.args.who.0 }}", "arguments"),
        ("{{ $prev.args.list[999999999] }}", "arguments"),
        ("{{ $prev.args.list.-1 }}", "arguments"),
        ("{{ $prev.args.list.9999999999999999 }}", "arguments"),
        ("{{ $prev.args.state }}", "arguments"),
        ("{{ $prev.fetch.headers }}", "output of step fetch"),
        ("{{ $prev.empty.x }}", "ended as SKIP"),
        ("{{ $prev.broken }}", "ended as FAIL"),
        ("{{ $prev.nobody.x }}", "no earlier step nobody"),
        ("{{ $prev.__class__ }}", "no earlier step __class__"),
    ],
)
def test_a_path_that_leads_nowhere_says_so(text: str, says: str) -> None:
    with pytest.raises(ValidationFailed, match=says) as caught:
        resolve({"x": text}, SCOPE)

    assert caught.value.path == "$.x"


def test_a_few_lines_of_flow_do_not_become_gigabytes() -> None:
    scope = Scope(args={"big": "x" * 1_000_000}, outputs={})

    for value in (["{{ $prev.args.big }}"] * 20, ["{{ $prev.args.big }}!" * 20], ["{{ $prev.args }}"] * 20):
        with pytest.raises(ValidationFailed, match="more than"):
            resolve(value, scope)


def test_nesting_beyond_reason_is_refused() -> None:
    value: Any = "x"
    for _ in range(5000):
        value = [value]

    for read in (lambda: resolve(value, SCOPE), lambda: references(value)):
        with pytest.raises(ValidationFailed, match="nested"):
            read()


def test_all_texts_that_are_no_expressions_are_named_at_once() -> None:
    with pytest.raises(ValidationFailed) as caught:
        references({"a": "{{ x }}", "b": ["ok", "{{"]})

    assert [path for path, _ in caught.value.problems] == ["$.a", "$.b[1]"]


def test_references_name_the_step_and_where_it_is_named() -> None:
    found = references({"a": "{{ $prev.one.x }} and {{ $prev.two }}", "b": ["{{ $prev.args.y }}"], "c": "plain"})

    assert found == {("one", "$.a"), ("two", "$.a"), ("args", "$.b[0]")}


def test_looking_up_takes_a_path_with_or_without_braces_and_gives_null_for_nowhere() -> None:
    assert [lookup(text, SCOPE) for text in ("$prev.args.n", " {{ $prev.args.n }} ", "$prev.nobody.x")] == [3, 3, None]
    with pytest.raises(ValidationFailed):
        lookup("1 == 1", SCOPE)


# ---- Properties

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
pieces = st.sampled_from(
    [
        "{{",
        "}}",
        "$prev",
        ".",
        "args",
        "fetch",
        "[",
        "]",
        '"',
        "\\",
        "0",
        "-1",
        "__class__",
        " ",
        "$",
        "{",
        "}",
        "items",
        "é",
    ]
)
hostile = st.lists(pieces | st.text(max_size=3), max_size=12).map("".join)


class Untouchable:
    """Fails the test as soon as anything looks at an attribute of it."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"somebody asked for {name}")


@given(text=hostile, args=st.dictionaries(st.text(max_size=6), json_values, max_size=4))
def test_no_text_raises_anything_but_a_validation_error(text: str, args: dict[str, Any]) -> None:
    scope = Scope(args=args, outputs={"fetch": args})

    for read in (
        lambda: resolve({"x": [text]}, scope),
        lambda: lookup(text, scope),
        lambda: references({"x": text}),
    ):
        with suppress(ValidationFailed):
            read()


@given(keys=st.lists(st.text(min_size=1, max_size=6), max_size=5))
def test_walking_never_touches_an_attribute(keys: list[str]) -> None:
    path = "".join(f"[{json.dumps(key)}]" for key in keys)
    scope = Scope(args={"x": Untouchable()}, outputs={"fetch": Untouchable()})

    assert lookup(f"$prev.args.x{path}.__class__.mro", scope) is None
    assert lookup(f"$prev.fetch{path}.__globals__", scope) is None


@given(value=json_values)
def test_a_whole_expression_gives_the_very_value(value: Any) -> None:
    assert resolve("{{ $prev.args.v }}", Scope(args={"v": value}, outputs={})) == value


@given(keys=st.lists(st.text(max_size=12), max_size=5), value=json_values)
def test_every_key_can_be_reached_in_its_quoted_form(keys: list[str], value: Any) -> None:
    path = "".join(f"[{json.dumps(key)}]" for key in keys)
    nested = value
    for key in reversed(keys):
        nested = {key: nested}

    if "}}" not in path and len(path) < EXPRESSION_LIMIT - 20:
        assert resolve(f"{{{{ $prev.args.v{path} }}}}", Scope(args={"v": nested}, outputs={})) == value


@given(value=json_values)
def test_a_value_without_expressions_is_given_back_equal(value: Any) -> None:
    text = json.dumps(value)

    if "{{" not in text:
        assert resolve(value, SCOPE) == value
        assert references(value) == set()


def test_the_words_of_flow8_are_the_ones_we_know() -> None:
    assert (expressions.ARGS, expressions.STATE) == ("args", "state")
