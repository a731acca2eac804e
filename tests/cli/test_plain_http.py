"""A server of one's own on loopback may speak plain http, where the operator says so; nothing else may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests import processes
from tests.cli.kit import Home
from tests.cli.test_link import arrive, connecting
from tests.counterparts.token_server import TokenServer


@pytest.fixture
def issuer() -> Iterator[TokenServer]:
    server = TokenServer(None)
    yield server
    server.close()


def configure(home: Home, server: TokenServer, *, allow: list[str] | None = None, **app: Any) -> None:
    home.settings(
        public_url=f"http://127.0.0.1:{processes.free_port()}",
        oauth2={
            "acme": {
                "issuer": server.url, "client_id": "flow8", "client_secret": "canary-hunter2", "scopes": ["read"],
                "api_hosts": [server.place], **app,
            }
        },
        egress={"allow": [server.place] if allow is None else allow},
    )  # fmt: skip


def connected(home: Home, issuer: TokenServer) -> dict[str, Any]:
    issuer.codes["a-code"] = {}
    running, url = connecting(home, "acme")
    asked = parse_qs(urlsplit(url).query)
    page = arrive(f"{asked['redirect_uri'][0]}?state={asked['state'][0]}&code=a-code")
    done = running.done()
    assert done.code == 0, (done.said, page)
    link: dict[str, Any] = json.loads(done.stdout.splitlines()[1])["link"]
    assert url.startswith(f"{issuer.url}/authorize?")
    return link


def test_a_server_on_loopback_is_connected_asked_and_refreshed(home: Home, issuer: TokenServer) -> None:
    configure(home, issuer)
    issuer.expires_in = 30

    link = connected(home, issuer)
    tested = home.flow8("link", "test", link["id"], "--json")

    assert (link["service"], link["account"]) == ("acme", "user@example.test")
    assert (tested.code, tested.document["status"]) == (0, "ok")
    grants = [call.form["grant_type"] for call in issuer.token_calls]
    assert grants == ["authorization_code", "refresh_token"]


def test_the_egress_has_the_last_word(home: Home, issuer: TokenServer) -> None:
    configure(home, issuer, allow=[])

    done = home.flow8("link", "connect", "acme", "--json", "--no-browser", "--timeout", "1")

    assert (done.code, done.document["error"]["code"]) == (1, "egress_denied")
    assert issuer.calls == []


@pytest.mark.parametrize("url", ["http://id.example.com", "http://10.0.0.1:8080", "http://127.0.0.1.example.com"])
def test_elsewhere_it_must_be_https(home: Home, issuer: TokenServer, url: str) -> None:
    configure(home, issuer, issuer=url)

    done = home.flow8("link", "connect", "acme", "--json", "--no-browser")

    assert (done.code, done.document["error"]["path"]) == (2, "oauth2.acme.issuer")
