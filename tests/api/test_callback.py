"""The callback: one visit, one code, one link; and a page that says nothing of what it was asked."""

from __future__ import annotations

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

import pytest

from credentials.links import Link
from flow8_core import logging as flow8_logging
from flow8_core.errors import AccessDenied, InternalError
from tests.api.conftest import Answer, Site

UNKNOWN = "A" * 43
HOSTILE = "<script>alert(1)</script>\r\nSet-Cookie: a=b\r\n\r\n{{7*7}}'\"><img src=x onerror=alert(1)>"


def links(site: Site) -> list[str]:
    return [link.service for link in site.deployment.platform.links(site.deployment.company_id).list()]


def requires_the_headers(answer: Answer) -> None:
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "server" not in answer.headers


def test_a_visit_connects_and_leads_to_a_page_without_code_and_state(site: Site) -> None:
    arrived = site.get(site.way_back())
    shown = site.get(arrived.headers["location"])

    assert (arrived.status, arrived.headers["location"]) == (303, "/auth/connected/slack")
    assert (shown.status, "Slack is connected" in shown.text) == (200, True)
    assert links(site) == ["slack"]
    assert isinstance(site.heard[0], Link)
    requires_the_headers(arrived)
    requires_the_headers(shown)


def test_the_page_can_be_loaded_again_and_changes_nothing(site: Site) -> None:
    pages = {site.get("/auth/connected/slack").text for _ in range(2)}

    assert len(pages) == 1
    assert (links(site), site.heard) == ([], [])


def test_who_granted_less_than_was_asked_for_is_told_so(site: Site) -> None:
    site.deployment.lab.configure("slack", granted_scopes=["chat:write"])
    ids = {"company_id": site.deployment.company_id, "user_id": site.deployment.user_id}
    begun = site.deployment.platform.connect.begin("slack", **ids, scopes=["chat:write", "files:write"])
    back = urlsplit(site.deployment.lab.visit(begun.authorize_url))

    arrived = site.get(f"{back.path}?{back.query}")
    assert arrived.status == 303, arrived.text
    shown = site.get(arrived.headers["location"])

    assert arrived.headers["location"] == "/auth/connected/slack?less=1"
    assert "Not all permissions were granted" in shown.text
    assert "goes on now" not in shown.text


def test_the_page_repeats_nothing_of_its_query(site: Site) -> None:
    page = site.get(f"/auth/connected/slack?less={quote(HOSTILE)}&more=2&x={quote(HOSTILE)}")

    assert (page.status, page.text) == (200, site.get("/auth/connected/slack").text)
    assert "What waited for this account goes on now" in site.get("/auth/connected/slack?more=1").text


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("HEAD", {}, 204),
        ("GET", {"Purpose": "prefetch"}, 503),
        ("GET", {"Sec-Purpose": "prefetch;prerender"}, 503),
        ("GET", {"X-Moz": "prefetch"}, 503),
        ("POST", {}, 405),
        ("OPTIONS", {}, 405),
        ("PUT", {}, 405),
    ],
)
def test_what_is_no_visit_uses_nothing_up(site: Site, method: str, headers: dict[str, str], status: int) -> None:
    back = site.way_back()

    looked = site.get(back, method=method, headers=headers)
    arrived = site.get(back)

    assert looked.status == status
    requires_the_headers(looked)
    assert arrived.status == 303
    assert links(site) == ["slack"]


def test_a_second_visit_with_the_same_state_is_refused(site: Site) -> None:
    back = site.way_back()
    site.get(back)

    again = site.get(back)

    assert again.status == 403
    assert "connect again" in again.text
    assert site.deployment.lab.requests("slack", "token.exchange")["count"] == 1
    assert links(site) == ["slack"]


def test_fifty_visits_at_once_with_one_state_are_one_exchange(site: Site) -> None:
    back = site.way_back()

    with ThreadPoolExecutor(50) as pool:
        statuses = Counter(pool.map(lambda _: site.get(back).status, range(50)))

    assert statuses == {303: 1, 403: 49}
    assert site.deployment.lab.requests("slack", "token.exchange")["count"] == 1
    assert links(site) == ["slack"]


def test_the_answer_at_another_services_address_is_refused_and_the_code_not_exchanged(site: Site) -> None:
    back = site.way_back().replace("/auth/callback/slack", "/auth/callback/microsoft")

    answer = site.get(back)

    assert answer.status == 403
    assert site.deployment.lab.requests("slack", "token.exchange")["count"] == 0
    assert links(site) == []


def test_the_address_without_a_service_serves_all(site: Site) -> None:
    assert site.get(site.way_back().replace("/auth/callback/slack", "/auth/callback")).status == 303


def test_whoever_declines_is_told_how_to_go_on(site: Site) -> None:
    answer = site.get(f"/auth/callback/slack?state={site.state()}&error=access_denied")

    assert answer.status == 403
    assert "Not connected" in answer.text
    assert isinstance(site.heard[0], AccessDenied)
    assert links(site) == []


QUERIES = [
    "",
    "?state=x&code=y",
    f"?state={UNKNOWN}",
    f"?state={UNKNOWN}&code=y",
    f"?state={UNKNOWN}&code=y&error=z",
    f"?state={UNKNOWN}&state={UNKNOWN}&code=y",
    f"?state={UNKNOWN}&code={quote(HOSTILE)}",
    f"?state={UNKNOWN}&error={quote(HOSTILE)}&error_description={quote(HOSTILE)}",
    f"?state={quote(HOSTILE)}&code=y",
    f"?{quote(HOSTILE)}={quote(HOSTILE)}",
    f"?state={UNKNOWN}&code={'c' * 5000}",
    "?%ff%fe=%00&state=%00",
    "?" + "&".join(f"a{number}=b" for number in range(2000)),
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query[:40])
def test_what_no_vendor_sends_is_refused_and_never_repeated(site: Site, query: str) -> None:
    answer = site.get(f"/auth/callback/slack{query}")

    assert answer.status in (400, 403)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not any(word in answer.text for word in ("script", "alert", "onerror", "7*7", "49'"))
    assert not any("a=b" in value for value in answer.headers.values())
    requires_the_headers(answer)
    assert links(site) == []


@pytest.mark.parametrize("error", [quote(HOSTILE), "server_error", "temporarily_unavailable"])
def test_a_vendors_error_is_told_in_our_words(site: Site, error: str) -> None:
    state = site.state()

    answer = site.get(f"/auth/callback/slack?state={state}&error={error}&error_description={quote(HOSTILE)}")

    assert answer.status >= 400
    assert "script" not in answer.text
    assert state not in answer.text


@pytest.mark.parametrize(
    "path", [f"/auth/callback/{quote(HOSTILE, safe='')}?state={UNKNOWN}&code=y", "/auth/callback/a/b"]
)
def test_a_service_in_the_path_is_never_repeated(site: Site, path: str) -> None:
    answer = site.get(path)

    assert answer.status in (403, 404)
    assert "script" not in answer.text
    requires_the_headers(answer)


@pytest.mark.parametrize("service", ["unknown", "..", quote(HOSTILE, safe="")])
def test_a_page_of_no_service_of_ours_is_not_there(site: Site, service: str) -> None:
    answer = site.get(f"/auth/connected/{service}")

    assert answer.status == 404
    assert "script" not in answer.text
    assert "is connected" not in answer.text


def test_a_fault_of_ours_shows_nothing_of_itself(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("canary-hunter2")

    monkeypatch.setattr(site.deployment.platform.connect, "complete", broken)

    answer = site.get(f"/auth/callback/slack?state={UNKNOWN}&code=y")

    assert answer.status == 500
    assert "canary" not in answer.text
    assert isinstance(site.heard[0], InternalError)


def test_no_log_holds_a_code_or_a_state(site: Site) -> None:
    written = io.StringIO()
    flow8_logging.configure(level="DEBUG", stream=written)
    back = site.way_back()
    secrets = [part.partition("=")[2] for part in back.partition("?")[2].split("&")]

    site.get(back)
    site.get(back)
    site.get(f"/auth/callback?state={UNKNOWN}&error=x")

    assert len(secrets) == 2
    assert not any(secret in written.getvalue() for secret in (*secrets, UNKNOWN))


def test_health_says_whose_answer_it_is_and_there_are_no_other_pages(site: Site) -> None:
    health = site.get("/health")

    assert health.status == 200
    assert '"service":"flow8-modules"' in health.text
    for path in ("/", "/docs", "/redoc", "/openapi.json", "/metrics"):
        assert site.get(path).status == 404
