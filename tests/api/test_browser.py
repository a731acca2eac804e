"""Connections that begin in a browser end in it, and in no other one."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi import Request, Response

from flow8_api import browser
from flow8_api.app import make_app
from flow8_api.server import listen, make_server
from tests import processes
from tests.api.conftest import Answer, Site
from tests.core.test_logging import _logging_restored  # noqa: F401  # a fixture
from tests.services import missing


@pytest.fixture
def bound(site: Site) -> Iterator[Site]:
    """The application with a page of a user's session on it, from which connections begin; at the address that vendors
    send browsers back to."""
    deployment = site.deployment
    app = make_app(deployment.platform, heard=site.heard.append)

    @app.get("/begin/{service}")
    def begin(request: Request, service: str) -> Response:
        ids = {"company_id": deployment.company_id, "user_id": deployment.user_id}
        return browser.begin(request, service, **ids)

    with listen("127.0.0.1", deployment.platform.settings.callback_port) as listener:
        server = make_server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        processes.until(lambda: server.started, "the start of the server")
        yield replace(site, port=listener.getsockname()[1])
        server.should_exit = True
        thread.join(10)


def cookie_of(answer: Answer) -> str:
    """What the browser would send back."""
    (morsel,) = SimpleCookie(answer.headers["set-cookie"]).values()
    return f"{morsel.key}={morsel.value}"


def way_back(site: Site, begun: Answer) -> str:
    back = urlsplit(site.deployment.lab.visit(begun.headers["location"]))
    return f"{back.path}?{back.query}"


def links(site: Site) -> list[str]:
    return [link.service for link in site.deployment.platform.links(site.deployment.company_id).list()]


def test_the_browser_that_began_ends_it(bound: Site) -> None:
    begun = bound.get("/begin/slack")

    arrived = bound.get(way_back(bound, begun), headers={"Cookie": cookie_of(begun)})

    assert (begun.status, arrived.status, links(bound)) == (303, 303, ["slack"])
    told = begun.headers["set-cookie"].lower()
    assert all(word in told for word in ("httponly", "samesite=lax", "path=/", "max-age=600"))
    (state,) = bound.deployment.platform.store.find("oauth_states", {}) or [{}]
    assert cookie_of(begun).partition("=")[2] not in str(state)


@pytest.mark.parametrize("cookie", ["", "flow8-connect=", "flow8-connect=" + "A" * 43, "flow8-connect=<script>", "x=y"])
def test_another_browser_gets_nothing_and_uses_the_state_up(bound: Site, cookie: str) -> None:
    begun = bound.get("/begin/slack")
    back = way_back(bound, begun)

    arrived = bound.get(back, headers={"Cookie": cookie} if cookie else {})
    later = bound.get(back, headers={"Cookie": cookie_of(begun)})

    assert (arrived.status, later.status, links(bound)) == (403, 403, [])
    assert "Another browser" in arrived.text
    assert bound.deployment.lab.requests("slack", "token.exchange")["count"] == 0


def test_one_browser_may_begin_several_connections(bound: Site) -> None:
    first = bound.get("/begin/slack")
    cookie = {"Cookie": cookie_of(first)}
    second = bound.get("/begin/microsoft", headers=cookie)
    assert cookie_of(second) == cookie_of(first)

    answers = [bound.get(way_back(bound, begun), headers=cookie).status for begun in (second, first)]

    assert answers == [303, 303]
    assert sorted(links(bound)) == ["microsoft", "slack"]


def test_a_value_that_is_none_of_ours_is_replaced(bound: Site) -> None:
    planted = bound.get("/begin/slack", headers={"Cookie": "flow8-connect=x"})

    assert cookie_of(planted) != "flow8-connect=x"


def test_a_connection_of_the_command_line_is_bound_to_no_browser(bound: Site) -> None:
    assert bound.get(bound.way_back(), headers={"Cookie": "flow8-connect=" + "A" * 43}).status == 303


def test_behind_tls_the_cookie_belongs_to_this_very_host(bound: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = bound.deployment.platform
    secure = platform.settings.model_copy(update={"public_url": "https://flow8.example"})
    monkeypatch.setattr(platform, "settings", secure)

    told = bound.get("/begin/slack").headers["set-cookie"]

    assert told.startswith("__Host-flow8-connect=")
    assert "secure" in told.lower()
    assert "domain" not in told.lower()


def test_a_real_browser_comes_back_with_its_cookie_and_sees_the_end(bound: Site, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or missing("chromium")
    command = [
        str(chromium), "--headless", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors", "--no-first-run",
        "--disable-background-networking", f"--user-data-dir={tmp_path}", "--dump-dom",
        f"http://127.0.0.1:{bound.port}/begin/slack",
    ]  # fmt: skip

    seen = subprocess.run(command, capture_output=True, text=True, timeout=100)

    assert "Slack is connected" in seen.stdout, seen.stderr[-2000:]
    assert links(bound) == ["slack"]
