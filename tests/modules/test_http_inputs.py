"""What `http-request` takes, checked before any call."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from flow8_core.errors import ValidationFailed
from flow8_modules import Component, Effect, Link, OneOf
from flow8_modules.integrations.http.request import http_request

URL = "https://api.example.com/process"


def problem(**given: Any) -> tuple[str, str]:
    with pytest.raises(ValidationFailed) as caught:
        http_request.parse({"url": URL, **given})
    [only] = caught.value.problems
    return only[0].removeprefix("input_mapping."), only[1]


def test_the_seeds_example_runs_as_it_stands() -> None:
    inputs = http_request.parse(
        {
            "url": URL,
            "method": "POST",
            "headers": {"Authorization": "Bearer token_123", "Content-Type": "application/json"},
            "body": {"document_id": "doc_001", "action": "analyze"},
        }
    )

    assert json.loads(inputs.payload[0] or b"") == {"document_id": "doc_001", "action": "analyze"}
    assert "token_123" not in repr(inputs)


def test_flow8s_other_spelling_runs_too() -> None:
    inputs = http_request.parse(
        {
            "url": URL,
            "method": "POST",
            "bodyForm": {"a": 1},
            "timeout": "30",
            "followRedirects": "false",
            "responseType": "binary",
            "basicAuth": {"user": "u", "pass": "hunter2hunter2"},
        }
    )

    assert inputs.payload == (b"a=1", "application/x-www-form-urlencoded")
    assert (inputs.timeout, inputs.redirects, inputs.response) == (30.0, 0, "base64")
    assert "hunter2" not in repr(inputs)


@pytest.mark.parametrize("method", ["GET", "get", "Post", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_the_usual_methods_are_taken_in_any_case(method: str) -> None:
    assert http_request.parse({"url": URL, "method": method}).method == method.upper()


@pytest.mark.parametrize(
    "method",
    ["CONNECT", "TRACE", "TRACK", "GET ", " GET", "GET\r\n", "G E T", "", "PROPFIND", "ＧＥＴ", 5, None, ["GET"]],
)
def test_other_methods_are_refused(method: Any) -> None:
    assert problem(method=method)[0] == "method"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Host",
            "host",
            "Content-Length",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Upgrade",
        ),
        *(
            "Expect",
            "Proxy-Authorization",
            "proxy-connection",
            "X-Forwarded-For",
            "x-forwarded-host",
            "Forwarded",
            "Via",
        ),
        "X-Real-IP",
    ],
)
def test_headers_of_the_connection_are_not_the_authors(name: str) -> None:
    field, message = problem(headers={name: "x"})

    assert field == "headers"
    assert name.lower() in message


@pytest.mark.parametrize(
    "headers",
    [
        {"X Y": "1"},
        {"X:Y": "1"},
        {"X\r\nY": "1"},
        {"": "1"},
        {"Ünder": "1"},
        {"X": "a\r\nEvil: 1"},
        {"X": "a\x00"},
        {"X": "日本"},
        {"X": "x" * 9000},
        {"X": "1", "x": "2"},
        {f"X-{n}": "1" for n in range(101)},
    ],
)
def test_headers_that_cannot_be_sent_are_refused(headers: dict[str, str]) -> None:
    assert problem(headers=headers)[0] == "headers"


@pytest.mark.parametrize(
    ("given", "body", "content_type"),
    [
        ({"body": {"a": "ü"}}, '{"a": "ü"}'.encode(), "application/json"),
        ({"body": [1]}, b"[1]", "application/json"),
        ({"body": 0}, b"0", "application/json"),
        ({"body": False}, b"false", "application/json"),
        ({"body": "hello"}, b"hello", "text/plain; charset=utf-8"),
        ({"body": ""}, b"", "text/plain; charset=utf-8"),
        ({"body": '{"a": 1}', "body_type": "json"}, b'{"a": 1}', "application/json"),
        ({"body": 7, "body_type": "text"}, b"7", "text/plain; charset=utf-8"),
        (
            {"body": {"a": [1, True], "b": None}, "body_type": "form"},
            b"a=1&a=true&b=",
            "application/x-www-form-urlencoded",
        ),
        (
            {"body": {"a": "x y"}, "headers": {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}},
            b"a=x+y",
            "application/x-www-form-urlencoded",
        ),
        (
            {"body": base64.b64encode(b"\x00\xff").decode(), "body_type": "base64"},
            b"\x00\xff",
            "application/octet-stream",
        ),
        ({"form": {"q": "ü&="}}, b"q=%C3%BC%26%3D", "application/x-www-form-urlencoded"),
        ({}, None, None),
    ],
)
def test_a_body_is_json_text_a_form_or_bytes(
    given: dict[str, Any], body: bytes | None, content_type: str | None
) -> None:
    assert http_request.parse({"url": URL, "method": "POST", **given}).payload == (body, content_type)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"method": "GET", "body": {"a": 1}}, "body"),
        ({"method": "HEAD", "form": {"a": 1}}, "form"),
        ({"method": "POST", "form": {"a": 1}, "body": "x"}, "form"),
        ({"method": "POST", "form": {"a": {"b": 1}}}, "form"),
        ({"method": "POST", "body": "{", "body_type": "json"}, "body"),
        ({"method": "POST", "body": '{"a":1,"a":2}', "body_type": "json"}, "body"),
        ({"method": "POST", "body": {"a": 1}, "body_type": "text"}, "body"),
        ({"method": "POST", "body": [1], "body_type": "form"}, "body"),
        ({"method": "POST", "body": "a b", "body_type": "base64"}, "body"),
        ({"method": "POST", "body": {"a": 1}, "body_type": "base64"}, "body"),
        ({"method": "POST", "body": "x" * 10_485_761}, "body"),
        ({"method": "POST", "body": "x", "body_type": "multipart"}, "body_type"),
        ({"query": {"a": {"b": 1}}}, "query"),
        ({"query": "a=1"}, "query"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": 1e9}, "timeout"),
        ({"timeout": "abc"}, "timeout"),
        ({"redirects": 6}, "redirects"),
        ({"redirects": -1}, "redirects"),
        ({"response": "xml"}, "response"),
        ({"response": "file"}, "save_as"),
        ({"save_as": "a"}, "save_as"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_bytes": 2**40}, "max_bytes"),
        ({"verify": False}, "verify"),
        ({"url": ""}, "url"),
        ({"url": ["https://x"]}, "url"),
        ({"bearer_token": "t", "headers": {"authorization": "Bearer x"}}, "headers"),
        ({"bearer_token": "t", "basic_auth": {"user": "u", "pass": "p"}}, "headers"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], field: str) -> None:
    assert problem(**given)[0] == field


HONOURS = {"hosts": ["api.example.com"], "honours_idempotency_key": True}


@pytest.mark.parametrize(
    ("method", "component", "effect"),
    [
        ("GET", None, Effect.READ),
        ("HEAD", None, Effect.READ),
        ("OPTIONS", HONOURS, Effect.READ),
        ("PUT", None, Effect.REPEATABLE),
        ("DELETE", HONOURS, Effect.REPEATABLE),
        ("POST", None, Effect.ONCE),
        ("PATCH", None, Effect.ONCE),
        ("POST", {"hosts": ["api.example.com"]}, Effect.ONCE),
        ("POST", {**HONOURS, "honours_idempotency_key": "yes"}, Effect.ONCE),
        ("POST", {**HONOURS, "hosts": ["other.example.com"]}, Effect.ONCE),
        ("POST", HONOURS, Effect.KEYED),
        ("PATCH", HONOURS, Effect.KEYED),
    ],
)
def test_what_repeating_does_depends_on_method_and_component(method: str, component: Any, effect: Effect) -> None:
    assert http_request.effect_of(http_request.parse({"url": URL, "method": method}), component) == effect


def test_a_component_or_a_link_of_any_provider_may_come_along() -> None:
    needs = http_request.needs_of(http_request.parse({"url": URL}))

    assert needs == (OneOf(Component("request"), Link(None), optional=True),)
