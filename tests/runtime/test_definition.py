"""Flow definitions: both spellings, every fault at once, files in JSON and YAML."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow8_core.errors import NotFound, ValidationFailed
from flow8_runtime import notation
from flow8_runtime.definition import Flow, RetryPolicy
from flow8_runtime.filters import Filter, FilterGroup
from flow8_runtime.pasted_secrets import pasted_secrets

SEED = {
    "name": "invoice",
    "priority": "high",
    "steps": [
        {
            "name": "fetch",
            "module_ref": "http-request",
            "order": 1,
            "input_mapping": {"url": "https://api.example.com/{{ $prev.args.id }}"},
            "component_config_ids": {"request": "65f000000000000000000001"},
            "filters": {"operator": "AND", "filters": [{"expression": "{{ $prev.args.go }}", "value": True}]},
            "timeout": 30,
            "retry": {
                "max_retries": 3, "initial_delay_ms": 1000, "max_delay_ms": 9000, "backoff_multiplier": 3,
                "jitter_fraction": 0.2,
            },
            "on_error": "continue",
            "defer_after_ms": 250,
            "priority": "low",
        },
        {
            "name": "tell",
            "module_ref": "slack-message@1",
            "order": 2,
            "input_mapping": {"link_id": "65f0", "channel": "#x", "message": "{{ $prev.fetch.status_code }}"},
            "on_unknown": "retry",
            "queue": "slow",
        },
    ],
}  # fmt: skip

OTHER_SPELLING = {
    "name": "invoice",
    "priority": "high",
    "flowlets": [
        {
            "ref": "fetch",
            "appId": "http-request",
            "order": 1,
            "args": {"url": "https://api.example.com/{{ $prev.args.id }}"},
            "componentConfigIds": {"request": "65f000000000000000000001"},
            "filters": {"filters": [{"leftValue": "{{ $prev.args.go }}", "operator": "eq", "rightValue": True}]},
            "timeout": 30,
            "retry": {"count": 3, "delayMs": 1000, "maxDelayMs": 9000, "backoffMultiplier": 3.0, "jitter": True},
            "onError": "continue",
            "deferAfterMs": 250,
            "priority": "low",
        },
        {
            "ref": "tell",
            "appId": "slack-message@1",
            "order": 2,
            "args": {"link_id": "65f0", "channel": "#x", "message": "{{ $prev.fetch.status_code }}"},
            "onUnknown": "retry",
            "queue": "slow",
        },
    ],
}


LAUGHS = "a0: &a0 [l, l]\n" + "".join(f"a{i}: &a{i} [" + f"*a{i - 1}, " * 9 + "l]\n" for i in range(1, 9))


def flow_with(**changes: Any) -> dict[str, Any]:
    """One step, changed."""
    return {"name": "f", "steps": [{"name": "a", "module_ref": "slack-message", **changes}]}


def problems_of(document: Any) -> dict[str, str]:
    with pytest.raises(ValidationFailed) as caught:
        Flow.parse(document)
    return dict(caught.value.problems)


def test_a_definition_becomes_what_the_runtime_goes_by() -> None:
    flow = Flow.parse(SEED)

    fetch, tell = flow.steps
    assert (flow.name, flow.groups) == ("invoice", (("fetch",), ("tell",)))
    assert fetch.retry == RetryPolicy(3, 1000, 9000, 3.0, 0.2)
    assert fetch.filters == FilterGroup("AND", (Filter("{{ $prev.args.go }}", True),))
    assert (fetch.timeout_s, fetch.on_error, fetch.defer_after_ms) == (30.0, "continue", 250)
    assert (tell.link_id, tell.on_unknown, tell.queue) == ("65f0", "retry", "slow")
    assert (fetch.priority, tell.priority) == ("low", "high")  # its own, and the flow's
    assert tell.input_mapping == {"channel": "#x", "message": "{{ $prev.fetch.status_code }}"}


def test_both_of_flow8s_spellings_mean_the_same_flow() -> None:
    assert Flow.parse(OTHER_SPELLING) == Flow.parse(SEED)
    assert Flow.parse(OTHER_SPELLING).digest() == Flow.parse(SEED).digest()


def test_the_canonical_document_reads_as_the_same_flow() -> None:
    flow = Flow.parse(SEED)

    assert Flow.parse(flow.document()) == flow
    assert Flow.stored(flow.text) == flow
    assert json.loads(flow.text) == flow.document()


def test_a_flow_that_has_no_such_priority_is_told_so() -> None:
    with pytest.raises(ValidationFailed) as caught:
        Flow.parse({**SEED, "priority": "urgent"})

    assert [(path, message) for path, message in caught.value.problems] == [("priority", "must be normal, high or low")]


def test_a_flow_of_one_line_has_flow8s_defaults() -> None:
    (step,) = Flow.parse(flow_with()).steps

    assert (step.timeout_s, step.retry.max_retries, step.on_error, step.on_unknown) == (300.0, 0, "fail", "fail")
    assert (step.filters, step.defer_after_ms, step.queue, step.link_id) == (None, 0, "default", None)
    assert step.priority == "normal"


def test_without_orders_steps_run_as_they_stand_and_with_equal_ones_together() -> None:
    def groups(*orders: int | None) -> tuple[tuple[str, ...], ...]:
        steps = [
            {"name": f"s{index}", "module_ref": "x"} | ({} if order is None else {"order": order})
            for index, order in enumerate(orders)
        ]
        return Flow.parse({"name": "f", "steps": steps}).groups

    assert groups(None, None, None) == (("s0",), ("s1",), ("s2",))
    assert groups(2, 1, 2) == (("s1",), ("s0", "s2"))


def test_all_faults_are_said_at_once_with_their_paths() -> None:
    document = {
        "name": "",
        "stesp": [],
        "steps": [
            {"name": "a b", "module_ref": "../x", "order": "1", "timeout": 0, "on_error": "panic", "colour": "red"},
            {"name": "ok", "module_ref": "x", "order": 2, "retry": {"max_retries": -1, "tries": 3}},
            {
                "name": "ok2",
                "module_ref": "x",
                "order": 3,
                "filters": {"operator": "XOR", "filters": [{"expression": "a == b"}]},
            },
            7,
        ],
    }

    assert set(problems_of(document)) == {
        "stesp", "name", "steps[0].name", "steps[0].module_ref", "steps[0].order", "steps[0].timeout",
        "steps[0].on_error", "steps[0].colour", "steps[1].retry.max_retries", "steps[1].retry.tries",
        "steps[2].filters.operator", "steps[2].filters.filters[0].expression",
        "steps[2].filters.filters[0].value", "steps[3]",
    }  # fmt: skip


def test_paths_are_in_the_authors_own_spelling() -> None:
    document = {
        "name": "f",
        "flowlets": [
            {"ref": "a!", "appId": 7, "args": {"m": "{{ $prev.b.x }}", "link_id": {"$ne": None}}, "onError": "x"}
        ],
    }

    assert set(problems_of(document)) == {
        "flowlets[0].ref", "flowlets[0].appId", "flowlets[0].args.link_id", "flowlets[0].onError"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"name": "x" * 65}, "steps[0].name"),
        ({"name": "args"}, "steps[0].name"),
        ({"name": "a.b"}, "steps[0].name"),
        ({"name": "a:b"}, "steps[0].name"),
        ({"name": "é"}, "steps[0].name"),
        ({"name": None}, "steps[0].name"),
        ({"module_ref": "Slack-Message"}, "steps[0].module_ref"),
        ({"module_ref": "slack-message@0"}, "steps[0].module_ref"),
        ({"module_ref": "slack-message@latest"}, "steps[0].module_ref"),
        ({"module_ref": "ѕlack-message"}, "steps[0].module_ref"),
        ({"module_ref": "slack-message\n"}, "steps[0].module_ref"),
        ({"module_ref": "x" * 101}, "steps[0].module_ref"),
        ({"order": True}, "steps[0].order"),
        ({"order": 1.5}, "steps[0].order"),
        ({"order": 10**9}, "steps[0].order"),
        ({"input_mapping": []}, "steps[0].input_mapping"),
        ({"input_mapping": {"link_id": {"$ne": None}}}, "steps[0].input_mapping.link_id"),
        ({"input_mapping": {"link_id": ""}}, "steps[0].input_mapping.link_id"),
        ({"component_config_ids": {"storage": {"$gt": ""}}}, "steps[0].component_config_ids.storage"),
        ({"component_config_ids": ["x"]}, "steps[0].component_config_ids"),
        ({"timeout": -1}, "steps[0].timeout"),
        ({"timeout": 1e9}, "steps[0].timeout"),
        ({"timeout": "30s"}, "steps[0].timeout"),
        ({"timeout": True}, "steps[0].timeout"),
        ({"retry": 3}, "steps[0].retry"),
        ({"retry": {"jitter_fraction": 1.1}}, "steps[0].retry.jitter_fraction"),
        ({"retry": {"count": 1, "max_retries": 2}}, "steps[0].retry.max_retries"),
        ({"ref": "b"}, "steps[0].ref"),
        ({"filters": {"filters": {}}}, "steps[0].filters.filters"),
        ({"filters": {"filters": [{"expression": "{{ $prev.args.x }}"}]}}, "steps[0].filters.filters[0].value"),
        ({"defer_after_ms": -1}, "steps[0].defer_after_ms"),
        ({"priority": "urgent"}, "steps[0].priority"),
        ({"priority": 1}, "steps[0].priority"),
        ({"queue": "a b"}, "steps[0].queue"),
        ({"needs_approval": True}, "steps[0].needs_approval"),
        ({"input_mapping": {"x": float("nan")}}, "$.steps[0].input_mapping.x"),
        ({"input_mapping": {"x": 2**63}}, "$.steps[0].input_mapping.x"),
        ({"input_mapping": {"x": "\ud800"}}, "$.steps[0].input_mapping.x"),
        ({"input_mapping": {"x": "a\x00"}}, "$.steps[0].input_mapping.x"),
        ({"input_mapping": {"x": b"bytes"}}, "$.steps[0].input_mapping.x"),
        ({"input_mapping": {7: "x"}}, "$.steps[0].input_mapping"),
    ],
)
def test_what_is_wrong_is_refused_where_it_stands(changes: dict[Any, Any], path: str) -> None:
    assert path in problems_of(flow_with(**changes))


def test_no_message_echoes_a_value() -> None:
    canary = "xoxb-canary-secret"
    document = flow_with(
        module_ref=canary, input_mapping={"a": "{{ " + canary, "link_id": [canary]}, on_error=canary, timeout=canary
    )
    document["steps"].append({"name": canary + "!", "module_ref": "x", "retry": canary, "queue": canary + " "})

    problems = problems_of(document)

    assert not [message for message in problems.values() if canary in message]


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        ([("a", 1, "{{ $prev.a.x }}")], "steps[0].input_mapping.v"),
        ([("a", 1, "{{ $prev.b.x }}"), ("b", 2, "")], "steps[0].input_mapping.v"),
        ([("a", 1, ""), ("b", 1, "{{ $prev.a.x }}")], "steps[1].input_mapping.v"),
        ([("a", 1, "{{ $prev.nobody.x }}")], "steps[0].input_mapping.v"),
        ([("a", 1, "{{ 7*7 }}")], "steps[0].input_mapping.v"),
    ],
)
def test_an_expression_names_only_steps_that_run_before_its_own(steps: list[tuple[str, int, str]], path: str) -> None:
    document = {
        "name": "f",
        "steps": [{"name": n, "module_ref": "x", "order": o, "input_mapping": {"v": v}} for n, o, v in steps],
    }

    assert set(problems_of(document)) == {path}


def test_references_are_checked_wherever_expressions_may_stand() -> None:
    document = flow_with(
        input_mapping={"deep": [{"x": "{{ $prev.one.x }}"}], "link_id": "{{ $prev.two.x }}"},
        component_config_ids={"storage": "{{ $prev.three.x }}"},
        filters={"filters": [{"expression": "$prev.four.x", "value": "{{ $prev.five.x }}"}]},
    )

    assert set(problems_of(document)) == {
        "steps[0].input_mapping.deep[0].x", "steps[0].input_mapping.link_id", "steps[0].component_config_ids.storage",
        "steps[0].filters.filters[0].expression", "steps[0].filters.filters[0].value",
    }  # fmt: skip


def test_steps_outside_of_the_definition_may_be_named_where_they_are_said() -> None:
    document = flow_with(input_mapping={"v": "{{ $prev.outside.x }}"})

    flow = Flow.parse(document, previous=("outside",))

    assert Flow.stored(flow.text) == flow
    assert problems_of(document)


def test_two_steps_of_one_name_and_an_order_for_some_are_refused() -> None:
    twice = {"name": "f", "steps": [{"name": "a", "module_ref": "x"}, {"name": "a", "module_ref": "x"}]}
    some = {"name": "f", "steps": [{"name": "a", "module_ref": "x"}, {"name": "b", "module_ref": "x", "order": 1}]}

    assert set(problems_of(twice)) == {"steps[1].name"}
    assert set(problems_of(some)) == {"steps[0].order"}


@pytest.mark.parametrize(
    "document", [None, [], "x", 7, {}, {"name": "f"}, {"name": "f", "steps": []}, {"name": "f", "steps": {}}]
)
def test_what_is_no_flow_is_refused(document: Any) -> None:
    assert problems_of(document)


def test_too_many_steps_too_much_depth_and_too_much_text_are_refused_fast() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    begun = time.monotonic()

    assert "steps" in problems_of({"name": "f", "steps": [{"name": f"s{i}", "module_ref": "x"} for i in range(201)]})
    assert problems_of(flow_with(input_mapping={"x": deep}))
    assert problems_of(flow_with(input_mapping={"x": "y" * 2_000_000}))
    assert problems_of({"name": "f", "steps": [0] * 1_000_000})

    assert time.monotonic() - begun < 2
    while isinstance(deep, list):  # or its end overflows the interpreter's stack
        deep = deep[0]


def test_an_unset_retry_of_an_engine_in_go_repeats_nothing() -> None:
    zero = {"max_retries": 0, "initial_delay_ms": 0, "max_delay_ms": 0, "backoff_multiplier": 0, "jitter_fraction": 0}

    (step,) = Flow.parse(flow_with(retry=zero)).steps

    assert step.retry == RetryPolicy(0, 0, 60_000, 2.0, 0.0)


def test_a_retry_without_a_count_repeats_three_times() -> None:
    (step,) = Flow.parse(flow_with(retry={"delayMs": 5, "jitter": False})).steps

    assert step.retry == RetryPolicy(3, 5, 60_000, 2.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"input_mapping": {"link_id": "7"}}, "link:7"),
        ({"input_mapping": {"link_id": "{{ $prev.args.l }}"}}, None),
        ({"component_config_ids": {"storage": "8"}}, "component:8"),
        ({}, None),
    ],
)
def test_the_credential_is_known_early_where_the_definition_names_it(changes: dict[str, Any], hint: str | None) -> None:
    (step,) = Flow.parse(flow_with(**changes)).steps

    assert step.credential_hint == hint


def test_digests_differ_where_flows_do() -> None:
    digests = {
        Flow.parse(flow_with(**changes)).digest() for changes in ({}, {"timeout": 5}, {"queue": "q"}, {"order": 3})
    }

    assert len(digests) == 4
    assert Flow.parse(flow_with(timeout=300)).digest() == Flow.parse(flow_with()).digest()


def test_a_step_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound):
        Flow.parse(flow_with()).step("b")


@pytest.mark.parametrize(
    ("text", "suspect"),
    [
        ("xoxb-123456789012-abcdefghijkl", True),
        ("Bearer token_123", True),
        ("AKIAIOSFODNN7ABCDEFG", True),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", True),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQ", True),
        ("Invoice #001 processed", False),
        ("{{ $prev.args.token }}", False),
    ],
)
def test_a_secret_that_was_pasted_into_a_flow_is_noticed_and_not_echoed(text: str, suspect: bool) -> None:
    flow = Flow.parse(flow_with(input_mapping={"headers": [{"x y": text}]}))

    warnings = pasted_secrets(flow)

    assert [path for path, _ in warnings] == (['steps[0].input_mapping.headers[0]["x y"]'] if suspect else [])
    assert not [message for _, message in warnings if text in message]


# ---- Files


def test_a_yaml_and_a_json_file_hold_the_same_flow(tmp_path: Path) -> None:
    (tmp_path / "flow.json").write_text(json.dumps(SEED))
    (tmp_path / "flow.yaml").write_text(
        """
        name: invoice
        priority: high
        steps:
          - name: fetch
            module_ref: http-request
            order: 1
            input_mapping: {url: "https://api.example.com/{{ $prev.args.id }}"}
            component_config_ids: {request: "65f000000000000000000001"}
            filters: {operator: AND, filters: [{expression: "{{ $prev.args.go }}", value: true}]}
            timeout: 30
            retry: {max_retries: 3, max_delay_ms: 9000, backoff_multiplier: 3}
            on_error: continue
            defer_after_ms: 250
            priority: low
          - name: tell
            module_ref: slack-message@1
            order: 2
            input_mapping: {link_id: 65f0, channel: "#x", message: "{{ $prev.fetch.status_code }}"}
            on_unknown: retry
            queue: slow
        """
    )

    assert Flow.load(tmp_path / "flow.json") == Flow.load(tmp_path / "flow.yaml") == Flow.parse(SEED)


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.yaml", tmp_path):
        with pytest.raises(NotFound):
            Flow.load(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no", {"a": "no"}),
        ("a: on", {"a": "on"}),
        ("a: 12:30:00", {"a": "12:30:00"}),
        ("a: 2026-04-05", {"a": "2026-04-05"}),
        ("a: 010", {"a": 10}),
        ("a: 0x1F", {"a": "0x1F"}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: True", {"a": True}),
        ("a: =", {"a": "="}),
        ("a: 1.2.3", {"a": "1.2.3"}),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("{a: 1, b: [x]}\n", None),
        ('{"a": 1}', {"a": 1}),
        ('\ufeff{"a": 1}', {"a": 1}),
        ("- 1\n- two", [1, "two"]),
    ],
)
def test_yaml_is_read_by_its_core_schema(text: str, value: Any) -> None:
    if value is None:
        assert notation.read(text, form="yaml") == {"a": 1, "b": ["x"]}
    else:
        assert notation.read(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 2}}',
        "a: 1\na: 2",
        "a: {b: 1, 'b': 2}",
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 5000 + "}",
        "a: " + "9" * 5000,
        '{"a": 1} trailing',
        '{"a": "\\ud800"}',
        '{"a": "\\u0000"}',
        "[" * 100_000,
        "[" * 60 + "]" * 60,
        "a: " + "[" * 2000 + "]" * 2000,
        "a: !!python/object/apply:os.system ['true']",
        "a: !!binary aGk=",
        "a: !!set {x}",
        "? [1, 2]\n: x",
        "1: x",
        "a: *nobody",
        "a: &a [*a]",
        "a: \x01",
        "---\na: 1\n---\nb: 2",
        "a: [",
        b"\xff\xfe\x00a",
        b"\x80",
        "a: .nan: x",
        LAUGHS,
        "a" * 1_100_000,
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_two_readers_would_take_in_two_ways_is_refused_fast(text: str | bytes) -> None:
    begun = time.monotonic()

    with pytest.raises(ValidationFailed):
        notation.read(text)

    assert time.monotonic() - begun < 2


@given(data=st.binary(max_size=60) | st.text(alphabet='{}[]":,-&*!|>#%?\n \t09.eEabnulrtf\\ud\x00é', max_size=60))
def test_no_text_raises_anything_but_a_validation_error(data: bytes | str) -> None:
    for form in ("json", "yaml", None):
        try:
            value = notation.read(data, form=form)  # type: ignore[arg-type]
        except ValidationFailed:
            continue
        assert json.loads(notation.dumps(value)) == value


flow_likes = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["{{ $prev.a.x }}", "fail", "AND"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "steps", "module_ref", "order", "input_mapping", "retry", "filters", "ref", "args", "zzz"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(document=flow_likes)
def test_no_document_raises_anything_but_a_validation_error(document: Any) -> None:
    try:
        flow = Flow.parse(document)
    except ValidationFailed as error:
        assert error.problems  # noqa: PT017
    else:
        assert Flow.parse(flow.document()) == flow
