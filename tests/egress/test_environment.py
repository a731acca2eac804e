"""Nothing comes from the environment."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from flow8_core.clock import Deadline
from flow8_core.egress import Egress
from flow8_core.errors import InternalError, ProviderUnavailable
from tests.egress.adapters import CALLS
from tests.egress.servers import Server, always, echo

EgressTo = Callable[..., Egress]
Serve = Callable[..., Server]
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with a netrc for every host."""
    (tmp_path / ".netrc").write_text("default login thief password c4nary\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    return tmp_path


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.usefixtures("home")
def test_proxies_and_netrc_are_ignored(
    *, egress_to: EgressTo, serve: Serve, soon: Deadline, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, server = serve(echo), serve(always(200, b'{"ok":true}', Content_Type="application/json"))
    for name in PROXIES:
        monkeypatch.setenv(name, proxy.url())
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    CALLS[call](egress_to(server, proxy), server.url(), soon)

    assert proxy.accepted == 0
    assert "c4nary" not in str(server.seen[0].headers)
    assert not str(server.seen[0].headers["Authorization"] or "").startswith("Basic")


@pytest.mark.usefixtures("home")
def test_the_trap_is_armed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = serve(echo), serve(echo)

    requests.get(server.url(), timeout=5)
    monkeypatch.setenv("HTTP_PROXY", proxy.url())
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    requests.get(server.url(), timeout=5)

    assert server.seen[0].headers["Authorization"].startswith("Basic")
    assert proxy.accepted == 1


@pytest.mark.parametrize("variable", BUNDLES)
@pytest.mark.parametrize("call", CALLS)
def test_ca_bundles_of_the_environment_add_no_trust(
    *,
    egress_to: EgressTo,
    serve: Serve,
    server_tls: ssl.SSLContext,
    ca_file: Path,
    soon: Deadline,
    call: str,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(echo, tls=server_tls)
    monkeypatch.setenv(variable, str(ca_file))
    monkeypatch.setenv("SSL_CERT_DIR", str(ca_file.parent))

    with pytest.raises(ProviderUnavailable, match="certificate"):
        CALLS[call](egress_to(server), server.url(), soon)


def test_tls_keys_are_not_logged(
    *,
    egress_to: EgressTo,
    serve: Serve,
    server_tls: ssl.SSLContext,
    ca_file: Path,
    soon: Deadline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(echo, tls=server_tls)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

    egress_to(server, ca_file=ca_file).send("GET", server.url(), deadline=soon)

    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("proxies", [{"http": "http://127.0.0.1:1"}, {"all": "socks5://127.0.0.1:1"}])
def test_a_session_takes_no_proxy(egress_to: EgressTo, serve: Serve, soon: Deadline, proxies: dict[str, Any]) -> None:
    server = serve(echo)

    with pytest.raises(InternalError):
        egress_to(server).session(deadline=soon).get(server.url(), proxies=proxies)

    assert server.accepted == 0
