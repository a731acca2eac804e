"""`http-request` against httpbin, a server that was not written for us."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from flow8_core import errors
from flow8_core.egress import Egress, EgressSettings
from flow8_core.secret import Secret
from flow8_modules import Context
from flow8_modules.integrations.http.request import http_request
from flow8_modules.testing import context


@pytest.fixture
def way_out(httpbin: str) -> Iterator[Egress]:
    with Egress(EgressSettings(allow=(urlsplit(httpbin).netloc,))) as egress:
        yield egress


@pytest.fixture
def ctx(way_out: Egress, tmp_path: Path) -> Context:
    return context(tmp_path, egress=way_out)


def call(ctx: Context, url: str, **inputs: Any) -> Any:
    return http_request(http_request.parse({"url": url, **inputs}), ctx)


@pytest.mark.parametrize("status", [200, 201, 204, 304, 400, 401, 404, 429, 500, 503])
def test_any_status_is_an_answer(ctx: Context, httpbin: str, status: int) -> None:
    assert call(ctx, f"{httpbin}/status/{status}").status_code == status


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_answer_is_unpacked(ctx: Context, httpbin: str, encoding: str) -> None:
    assert call(ctx, f"{httpbin}/{encoding}").body["deflated" if encoding == "deflate" else "gzipped"] is True


@pytest.mark.parametrize(
    ("inputs", "part", "seen"),
    [
        ({"body": {"a": "ü"}}, "json", {"a": "ü"}),
        ({"body": "text", "headers": {"Content-Type": "text/plain"}}, "data", "text"),
        ({"form": {"a": "1 2", "b": "&"}}, "form", {"a": "1 2", "b": "&"}),
        ({"query": {"q": ["x y", "2"], "w": True}}, "args", {"q": ["x y", "2"], "w": "true"}),
    ],
)
def test_what_is_sent_arrives(ctx: Context, httpbin: str, inputs: dict[str, Any], part: str, seen: Any) -> None:
    assert call(ctx, f"{httpbin}/anything", method="POST", **inputs).body[part] == seen


@pytest.mark.parametrize(
    ("path", "auth"),
    [
        ("/basic-auth/who/pass-of-who", {"type": "basic", "username": "who", "password": Secret("pass-of-who")}),
        ("/bearer", {"type": "bearer", "value": Secret("a-token-for-httpbin")}),
    ],
)
def test_a_component_is_let_in(
    way_out: Egress, tmp_path: Path, httpbin: str, path: str, auth: Mapping[str, Any]
) -> None:
    component = {"request": {"hosts": [urlsplit(httpbin).netloc], "auth": auth}}
    trusted = context(tmp_path, egress=way_out, components=component)

    assert call(context(tmp_path, egress=way_out), f"{httpbin}{path}").status_code == 401
    assert call(trusted, f"{httpbin}{path}").status_code == 200


def test_redirects_are_followed_five_times_and_no_more(ctx: Context, httpbin: str) -> None:
    assert call(ctx, f"{httpbin}/redirect/5").status_code == 200
    with pytest.raises(errors.Flow8Error):
        call(ctx, f"{httpbin}/redirect/6")


def test_a_stream_without_a_length_ends_at_the_cap_or_in_a_file(ctx: Context, httpbin: str, tmp_path: Path) -> None:
    with pytest.raises(errors.VendorBadResponse):
        call(ctx, f"{httpbin}/stream-bytes/20000?seed=1", max_bytes=10_000)
    answer = call(ctx, f"{httpbin}/stream/100", response="file", save_as="stream.json")

    whole = (tmp_path / "stream.json").read_bytes()
    assert answer.size == len(whole)
    assert [json.loads(line)["id"] for line in whole.splitlines()] == list(range(100))


def test_a_slow_answer_is_given_the_time_that_the_step_allows(ctx: Context, httpbin: str) -> None:
    with pytest.raises(errors.ExecutionTimeout):
        call(ctx, f"{httpbin}/drip?duration=5&numbytes=5", timeout=1)
