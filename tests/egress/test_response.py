"""`Response`: text and strictly read JSON."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow8_core.egress import Response, strict_json
from flow8_core.egress.headers import Headers
from flow8_core.errors import VendorBadResponse


def response(body: bytes, content_type: str = "application/json", method: str = "GET") -> Response:
    headers = Headers([("Content-Type", content_type)])
    return Response(200, headers, body, "https://api.example/x?key=c4nary", 1, method)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, 2.5, true, null, "\\u00fc"]}', {"a": [1, 2.5, True, None, "ü"]}),
        (b'\xef\xbb\xbf{"bom": 1}', {"bom": 1}),
        (b" [] \n", []),
        (b'"text"', "text"),
        (b"9007199254740993", 2**53 + 1),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'{"": 1, "$where": 2, "__proto__": 3}', {"": 1, "$where": 2, "__proto__": 3}),
        (b"[" * 64 + b"]" * 64, eval("[" * 64 + "]" * 64)),
        (b"[" + b"[],{}," * 500 + b"0]", [[], {}] * 500 + [0]),
    ],
)
def test_json_is_read(body: bytes, value: Any) -> None:
    assert response(body).json() == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html>c4nary</html>",
        b"{",
        b'{"a": 1} c4nary',
        b"{'a': 1}",
        b'{"a": 1,}',
        b"NaN",
        b'{"a": Infinity}',
        b"-Infinity",
        b"1e999",
        b"[-1e999]",
        b'{"c4nary": 1, "c4nary": 2}',
        b'[{"a": {"b": 1, "b": 1}}]',
        b"1" * 5000,
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'"\\ud800"',
        b'{"\\udfff": 1}',
        b'["\\ud800\\ud800"]',
        '{"a": "ü"}'.encode("latin-1"),
        '{"a": 1}'.encode("utf-16"),
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"line\nbreak"',
        b"\x00",
    ],
    ids=range(28),
)
@pytest.mark.parametrize(("method", "ambiguous"), [("GET", False), ("POST", True)])
def test_what_is_not_json_is_a_bad_response_that_quotes_nothing(body: bytes, method: str, ambiguous: bool) -> None:
    with pytest.raises(VendorBadResponse) as refused:
        response(body, method=method).json()

    assert refused.value.ambiguous == ambiguous
    assert "c4nary" not in str(refused.value)
    assert refused.value.message.startswith("api.example answered 200 with a body that cannot be used as JSON: ")


@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:0123e.\\unatrlfs', max_size=40).map(str.encode))
def test_no_body_fails_in_another_way(body: bytes) -> None:
    try:
        strict_json.loads(body)
    except ValueError as error:
        assert not isinstance(error, UnicodeError)  # noqa: PT017


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain; charset=latin-1", b"\xfc", "ü"),
        ("text/plain; charset=UTF-8", "ü".encode(), "ü"),
        ("text/plain", "ü".encode(), "ü"),
        ("", "ü".encode(), "ü"),
        ("text/plain", b"\xff!", "\ufffd!"),
        ("text/plain; charset=no-such", "ü".encode(), "ü"),
        ("text/plain; charset=base64", b"plain", "plain"),
        ('text/plain; charset="utf-16"', "ü".encode("utf-16"), "ü"),
        ("text/plain; charset=\x00", b"x", "x"),
        ("garbage;;=;", b"x", "x"),
    ],
)
def test_text_is_decoded_as_far_as_it_goes(content_type: str, body: bytes, text: str) -> None:
    assert response(body, content_type).text == text


def test_a_response_does_not_show_what_it_holds() -> None:
    assert "c4nary" not in repr(response(b"c4nary"))
