"""`http-request` against a real HTTP server: the laboratory's general vendor."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from flow8_core import errors
from flow8_core.egress import Egress, EgressSettings
from flow8_core.secret import Secret
from flow8_lab.client import Lab
from flow8_modules import Context
from flow8_modules.integrations.http.request import http_request
from flow8_modules.testing import Noted, context

Make = Callable[..., Context]


@pytest.fixture
def base(lab: Lab) -> str:
    return lab.services["web"]["base_url"]


@pytest.fixture
def ctx(make: Make) -> Context:
    return make(key="play:step")


def call(ctx: Context, url: str, **inputs: Any) -> Any:
    return http_request(http_request.parse({"url": url, **inputs}), ctx)


def failure(ctx: Context, url: str, **inputs: Any) -> errors.Flow8Error:
    with pytest.raises(errors.Flow8Error) as caught:
        call(ctx, url, **inputs)
    return caught.value


def component(base: str, auth: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"request": {"hosts": [urlsplit(base).netloc], "auth": auth or {"type": "none"}, **more}}


def test_an_answer_is_given_in_all_its_parts(ctx: Context, base: str) -> None:
    answer = call(ctx, f"{base}/invoices/7")

    assert (answer.status_code, answer.body["number"], answer.body_type) == (200, "INV-7", "json")
    assert answer.headers["content-type"].startswith("application/json")
    assert (answer.url, answer.file) == (f"{base}/invoices/7", None)
    assert answer.duration_ms >= 0
    assert answer.size == int(answer.headers["content-length"])
    json.dumps(http_request.dump(answer), allow_nan=False)


@pytest.mark.parametrize("status", [201, 204, 400, 401, 404, 418, 429, 500, 503])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_any_answer_is_a_result(ctx: Context, base: str, method: str, status: int) -> None:
    assert call(ctx, f"{base}/status/{status}", method=method).status_code == status


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_body_goes_along(ctx: Context, base: str, method: str) -> None:
    echo = call(
        ctx, f"{base}/echo", method=method, body={"a": "ü"}, headers={"X-One": "1"}, query={"q": ["x y", 2]}
    ).body

    assert (echo["method"], echo["json"], echo["headers"]["x-one"]) == (method, {"a": "ü"}, "1")
    assert echo["headers"]["content-type"] == "application/json"
    assert echo["query"]["q"] in ("2", ["x y", "2"])


def test_the_authors_content_type_stands(ctx: Context, base: str) -> None:
    echo = call(ctx, f"{base}/echo", method="POST", body="<a/>", headers={"content-TYPE": "application/xml"}).body

    assert (echo["headers"]["content-type"], echo["body"]) == ("application/xml", "<a/>")


@pytest.mark.parametrize(
    ("url", "query", "seen"),
    [
        ("/echo", {"a": 1}, {"a": "1"}),
        ("/echo?b=2", {"a": "x&y"}, {"b": "2", "a": "x&y"}),
        ("/echo?b=2#part", {"a": True}, {"b": "2", "a": "true"}),
        ("/echo?", {"a": "ü"}, {"a": "ü"}),
    ],
)
def test_a_query_is_added_to_the_url(ctx: Context, base: str, url: str, query: Any, seen: Any) -> None:
    assert call(ctx, base + url, query=query).body["query"] == seen


# How the answer's body is given


@pytest.mark.parametrize(
    ("path", "wanted", "given"),
    [
        ("/html", "auto", ("text", "<!doctype html><title>Hello</title>")),
        ("/html", "json", ("text", "<!doctype html><title>Hello</title>")),
        ("/html", "base64", ("base64", "PCFkb2N0eXBlIGh0bWw+PHRpdGxlPkhlbGxvPC90aXRsZT4=")),
        ("/bytes/4", "auto", ("base64", "AAECAw==")),
        ("/bytes/0", "auto", ("none", None)),
        ("/status/200", "text", ("text", '{"status":200}')),
        ("/status/200", "auto", ("json", {"status": 200})),
    ],
)
def test_a_body_is_given_as_asked_or_as_it_is(ctx: Context, base: str, path: str, wanted: str, given: Any) -> None:
    answer = call(ctx, base + path, response=wanted)

    assert (answer.body_type, answer.body) == given


def test_a_body_that_is_too_large_is_refused(ctx: Context, base: str) -> None:
    assert len(call(ctx, f"{base}/gzip/1000", max_bytes=1000).body) == 1000
    for path in ("/bytes/1001", "/gzip/1001"):
        failed = failure(ctx, base + path, max_bytes=1000)

        assert (failed.code, failed.ambiguous) == ("vendor_bad_response", False)


def test_ten_mebibytes_are_the_most_unless_more_is_asked_for(ctx: Context, base: str) -> None:
    most = 10 * 1024 * 1024

    assert failure(ctx, f"{base}/gzip/{most + 1}").code == "vendor_bad_response"
    assert call(ctx, f"{base}/gzip/{most + 1}", max_bytes=most + 1).size == most + 1


def test_a_body_may_go_into_a_file_of_the_workspace(ctx: Context, base: str, tmp_path: Path) -> None:
    answer = call(ctx, f"{base}/bytes/3000000", response="file", save_as="/tmp/out.bin")

    content = (tmp_path / "tmp" / "out.bin").read_bytes()
    assert (answer.body, answer.body_type, answer.file, answer.size) == (None, "file", "/tmp/out.bin", 3_000_000)
    assert hashlib.sha256(content).digest() == hashlib.sha256((bytes(range(256)) * 11_719)[:3_000_000]).digest()


def test_an_error_page_is_no_file(ctx: Context, base: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")

    answer = call(ctx, f"{base}/invoices/unknown", response="file", save_as="out")

    assert (answer.status_code, answer.file, answer.body["error"]) == (404, None, "not_found")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_bytes() == b"old"


@pytest.mark.parametrize("save_as", ["../out", "", "folder/", "link/out"])
def test_a_file_outside_the_workspace_is_refused_before_the_call(
    ctx: Context, base: str, lab: Lab, tmp_path: Path, save_as: str
) -> None:
    (tmp_path / "link").symlink_to("..")

    failed = failure(ctx, f"{base}/bytes/10", response="file", save_as=save_as)

    assert failed.path == "input_mapping.save_as"
    assert lab.requests("web")["count"] == 0


def test_a_file_that_breaks_off_leaves_nothing(ctx: Context, base: str, lab: Lab, tmp_path: Path) -> None:
    lab.fault("web", "truncate", "invoices.document")

    failed = failure(ctx, f"{base}/invoices/7/document", response="file", save_as="out")

    assert failed.code == "vendor_bad_response"
    assert list(tmp_path.iterdir()) == []


# Credentials


def auths(lab: Lab) -> dict[str, dict[str, Any]]:
    web = lab.services["web"]
    return {
        "header": {"type": "header", "name": "X-Api-Key", "value": Secret(web["api_key"])},
        "query": {"type": "query", "name": "api_key", "value": Secret(web["api_key"])},
        "basic": {"type": "basic", "username": web["username"], "password": Secret(web["password"])},
        "bearer": {"type": "bearer", "value": Secret(web["bearer"])},
    }


@pytest.mark.parametrize("kind", ["header", "query", "basic", "bearer"])
def test_a_component_brings_each_kind_of_credential(make: Make, base: str, lab: Lab, kind: str) -> None:
    url = f"{base}/secure/{kind}/invoices/7"

    without = call(make(), url)
    answer = call(make(components=component(base, auths(lab)[kind])), url)

    assert (without.status_code, answer.status_code) == (401, 200)


@pytest.mark.parametrize("kind", ["header", "query", "basic", "bearer"])
def test_a_server_that_echoes_the_credential_does_not_put_it_into_the_outputs(
    make: Make, base: str, lab: Lab, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    ctx = make(components=component(base, auths(lab)[kind]))

    with caplog.at_level(logging.DEBUG):
        answer = call(ctx, f"{base}/secure/{kind}/echo")

    dumped = json.dumps(http_request.dump(answer))
    assert answer.status_code == 200
    assert "[secret]" in dumped
    for secret in lab.secrets():
        assert secret not in dumped
        assert secret not in caplog.text


def test_a_file_that_echoes_the_credential_holds_a_mask_in_its_place(
    make: Make, base: str, lab: Lab, tmp_path: Path
) -> None:
    ctx = make(components=component(base, auths(lab)["bearer"]))

    answer = call(ctx, f"{base}/secure/bearer/echo", response="file", save_as="echo.json")

    (written,) = tmp_path.rglob("echo.json")
    assert b"[secret]" in written.read_bytes()
    assert [secret for secret in lab.secrets() if secret.encode() in written.read_bytes()] == []
    assert answer.size == written.stat().st_size


@pytest.mark.parametrize("kind", ["header", "query", "basic", "bearer"])
def test_a_component_is_for_its_hosts_alone_and_no_other_is_even_called(
    make: Make, base: str, lab: Lab, kind: str
) -> None:
    ctx = make(components={"request": {"hosts": ["api.example.com"], "auth": auths(lab)[kind]}})

    failed = failure(ctx, f"{base}/echo")

    assert (failed.code, failed.path) == ("egress_denied", "input_mapping.url")
    assert urlsplit(base).netloc in failed.message
    assert lab.requests("web") == {"count": 0, "connections": 0, "operations": {}, "items": []}


def test_a_default_component_is_left_out_for_other_hosts(make: Make, base: str, lab: Lab) -> None:
    parts = {"request": {"hosts": ["api.example.com"], "auth": auths(lab)["bearer"]}}
    ctx = make(components=parts, defaults=frozenset({"request"}))

    echo = call(ctx, f"{base}/echo").body

    assert "authorization" not in echo["headers"]


def test_a_default_component_is_used_for_its_own_hosts(make: Make, base: str, lab: Lab) -> None:
    ctx = make(components=component(base, auths(lab)["bearer"]), defaults=frozenset({"request"}))

    assert call(ctx, f"{base}/secure/bearer/invoices/7").status_code == 200


def test_a_link_of_any_provider_may_be_used_at_its_hosts(linked: Make, lab: Lab) -> None:
    ctx = linked("microsoft", scopes=["User.Read"])

    answer = call(ctx, f"{lab.services['microsoft']['base_url']}me")

    assert (answer.status_code, answer.body["mail"]) == (200, "user@company.com")


def test_a_links_token_goes_nowhere_else(linked: Make, base: str, lab: Lab) -> None:
    failed = failure(linked("slack", scopes=["chat:write"]), f"{base}/echo")

    assert (failed.code, failed.path) == ("egress_denied", "input_mapping.url")
    assert "slack link" in failed.message
    assert lab.requests("web")["connections"] == 0


def test_a_link_and_a_component_at_once_are_one_too_many(linked: Make, base: str) -> None:
    assert (
        failure(linked("slack", scopes=["chat:write"], components=component(base)), f"{base}/echo").code == "conflict"
    )


@pytest.mark.parametrize("kind", ["header", "basic"])
def test_a_header_that_the_component_brings_is_not_the_authors(make: Make, base: str, lab: Lab, kind: str) -> None:
    name = {"header": "x-API-key", "basic": "authorization"}[kind]
    ctx = make(components=component(base, auths(lab)[kind]))

    failed = failure(ctx, f"{base}/echo", headers={name: "mine"})

    assert failed.code == "validation_error"
    assert lab.requests("web")["count"] == 0


def test_the_seeds_literal_header_works_and_is_remarked_upon(ctx: Context, base: str, lab: Lab, noted: Noted) -> None:
    token = lab.services["web"]["bearer"]

    answer = call(ctx, f"{base}/secure/bearer/invoices/7", headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code == 200
    assert [level for level, _, _ in noted.events] == ["warning"]
    assert token not in str(noted.events)


def test_flow8s_own_credential_arguments_work(ctx: Context, base: str, lab: Lab) -> None:
    web = lab.services["web"]

    by_token = call(ctx, f"{base}/secure/bearer/invoices/7", bearerToken=web["bearer"])
    by_password = call(
        ctx, f"{base}/secure/basic/invoices/7", basicAuth={"user": web["username"], "pass": web["password"]}
    )

    assert (by_token.status_code, by_password.status_code) == (200, 200)


@pytest.mark.parametrize("auth", [{"type": "digest"}, {"type": "bearer"}, {"type": "basic", "password": "x"}])
def test_a_component_whose_credential_is_incomplete_is_told(make: Make, base: str, auth: dict[str, Any]) -> None:
    assert failure(make(components=component(base, auth)), f"{base}/echo").code == "invalid_credentials"


def test_a_user_name_may_be_the_whole_credential(make: Make, base: str) -> None:
    ctx = make(components=component(base, {"type": "basic", "username": Secret("key-as-user-name")}))

    echo = call(ctx, f"{base}/echo").body

    assert echo["headers"]["authorization"] == "Basic [secret]"


@pytest.mark.parametrize(
    ("auth", "parts"),
    [
        ({"type": "query", "name": "key", "value": Secret("a1/b2+c3 d4=e5")}, ["b2+c3", "b2%2Bc3", "d4=e5", "d4%3De5"]),
        ({"type": "header", "name": "X-Key", "value": Secret("id=left-half, sig=right-half")}, ["left-half"]),
        ({"type": "bearer", "value": Secret("bearer-canary-1")}, ["bearer-canary-1"]),
        ({"type": "basic", "username": Secret("name-of-it"), "password": Secret("word-of-it")}, ["word-of-it"]),
    ],
)
@pytest.mark.parametrize("wanted", ["auto", "text", "base64"])
def test_nor_does_it_in_another_form_than_it_was_sent_in(
    make: Make, base: str, auth: dict[str, Any], parts: list[str], wanted: str
) -> None:
    ctx = make(components=component(base, auth))

    answer = call(ctx, f"{base}/echo", query={"q": "1"}, response=wanted)

    body = base64.b64decode(answer.body).decode() if wanted == "base64" else json.dumps(answer.body)
    shown = [body, answer.url, json.dumps(answer.headers)]
    pair = base64.b64encode(b"name-of-it:word-of-it").decode()
    assert not [part for part in [*parts, pair] if any(part in text for text in shown)]


# Redirects


def test_redirects_are_followed_for_get_up_to_five(ctx: Context, base: str) -> None:
    assert call(ctx, f"{base}/redirects/5").url == f"{base}/echo"
    assert failure(ctx, f"{base}/redirects/6").code == "vendor_bad_response"


@pytest.mark.parametrize("given", [{"redirects": 0}, {"followRedirects": False}])
def test_redirects_can_be_left_to_the_flow(ctx: Context, base: str, given: dict[str, Any]) -> None:
    answer = call(ctx, f"{base}/redirects/1", **given)

    assert (answer.status_code, answer.headers["location"]) == (302, "/echo")


def test_a_post_is_not_redirected(ctx: Context, base: str) -> None:
    assert call(ctx, f"{base}/redirect?status=307", method="POST", body={}).status_code == 307


def test_a_redirect_to_another_host_takes_no_credential_along(make: Make, base: str, lab: Lab) -> None:
    graph = f"{lab.services['microsoft']['base_url']}me"
    ctx = make(components=component(base, auths(lab)["bearer"]))

    answer = call(ctx, f"{base}/redirect", query={"to": graph}, headers={"X-Private": "1"})

    [seen] = lab.requests("microsoft")["items"]
    assert answer.status_code == 401
    assert not {"authorization", "x-private"} & set(seen["headers"])


# Idempotency-Key


def test_the_key_goes_along_where_the_host_honours_it(make: Make, base: str, lab: Lab) -> None:
    ctx = make(components=component(base, honours_idempotency_key=True), key="play:step")

    first = call(ctx, f"{base}/charges", method="POST", body={"amount": 1})
    again = call(ctx, f"{base}/charges", method="POST", body={"amount": 1})

    assert first.body["id"] == again.body["id"]
    assert lab.effects("web")["keys"] == {"play:step": 1}


def test_the_key_stays_here_otherwise(ctx: Context, make: Make, base: str, lab: Lab) -> None:
    quiet = make(components=component(base))
    elsewhere = make(
        components={"request": {"hosts": ["api.example.com"], "honours_idempotency_key": True}},
        defaults=frozenset({"request"}),
    )
    for each in (ctx, quiet, elsewhere):
        call(each, f"{base}/charges", method="POST", body={"amount": 1})

    assert (lab.effects("web")["count"], lab.effects("web")["keys"]) == (3, {})


def test_the_authors_own_key_stands(make: Make, base: str, lab: Lab) -> None:
    ctx = make(components=component(base, honours_idempotency_key=True))

    call(ctx, f"{base}/charges", method="POST", body={}, headers={"idempotency-key": "mine"})

    assert lab.effects("web")["keys"] == {"mine": 1}


# What fails


PRIVATE = ("http://127.0.0.1/", "http://localhost/", "http://169.254.169.254/latest/meta-data/", "http://[::1]/")
NO_ADDRESS = (
    *("http://2130706433/", "http://127.1/", "file:///etc/passwd", "gopher://x/", "ftp://x/", "//x/", "x", "https://"),
    *(
        "http://user:pw@example.com/",
        "https://ex ample.com/",
        "http://evil.com\\@127.0.0.1/",
        "http://h:0/",
        " https://x/",
    ),
)


@pytest.mark.parametrize(
    ("url", "code"),
    [*((url, "egress_denied") for url in PRIVATE), *((url, "validation_error") for url in NO_ADDRESS)],
)
def test_addresses_that_may_not_be_reached_are_refused_with_their_path(ctx: Context, url: str, code: str) -> None:
    failed = failure(ctx, url)

    assert (failed.code, failed.path) == (code, "input_mapping.url")
    assert "pw" not in failed.message


def test_a_slow_server_is_given_the_steps_time_at_most(ctx: Context, base: str) -> None:
    failed = failure(ctx, f"{base}/slow?bytes=100&pause_ms=50", timeout=0.3)

    assert (failed.code, failed.ambiguous) == ("execution_timeout", False)


def test_the_components_timeout_holds_where_the_step_names_none(make: Make, base: str) -> None:
    ctx = make(components=component(base, timeout_seconds=0.2))

    assert failure(ctx, f"{base}/slow?bytes=100&pause_ms=50").code == "execution_timeout"


@pytest.mark.parametrize(
    ("fault", "ambiguous"),
    [("GET drop_answer", False), ("POST drop_answer", True), ("POST truncate", True), ("PUT drop_request", True)],
)
def test_a_lost_answer_is_doubtful_where_it_wrote(
    ctx: Context, base: str, lab: Lab, fault: str, ambiguous: bool
) -> None:
    method, kind = fault.split()
    lab.fault("web", kind, "echo", times=None)

    failed = failure(ctx, f"{base}/echo", method=method)

    assert failed.ambiguous is ambiguous
    assert lab.requests("web", "echo")["count"] == 1


def test_a_server_with_a_strange_certificate_is_not_talked_to(tmp_path: Path, base: str) -> None:
    with Egress(EgressSettings(allow=(urlsplit(base).netloc,))) as distrusting:
        failed = failure(context(tmp_path, egress=distrusting), f"{base}/echo", method="POST")

    assert (failed.code, failed.ambiguous) == ("provider_unavailable", False)
    assert "certificate" in failed.message


def test_nothing_of_the_environment_goes_along(
    ctx: Context, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login u password netrc-secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")

    echo = call(ctx, f"{base}/echo").body

    assert "authorization" not in echo["headers"]
