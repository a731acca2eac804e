"""npm's oidc-provider: a certified OAuth2 and OpenID server that is not ours, with rotation and reuse detection.

Presenting a rotated refresh token kills the whole grant there, so a link that survives was refreshed once at a time.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin

import pytest

from tests import processes
from tests.counterparts.token_server import Loopback
from tests.services import missing

CLIENT_ID, CLIENT_SECRET = "flow8", "flow8-secret-of-the-tests"
CALLBACK = "https://flow8.example/auth/callback/oidc"
PACKAGE = "oidc-provider@9"

_HERE = Path(__file__).parent / "oauth"
_HOME = Path(__file__).parents[2] / ".counterparts" / "oauth"
_PAGES = 12  # login, consent and the redirects between them


class _Stay(urllib.request.HTTPRedirectHandler):
    """Redirects are looked at, not followed."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass
class OidcProvider:
    """The running server. `issuer` is its address; `ca_file` makes it trusted."""

    issuer: str
    ca_file: Path

    @property
    def place(self) -> str:
        return self.issuer.removeprefix("https://")

    def control(self, **knobs: Any) -> dict[str, Any]:
        """Change `accessTtl`, `refreshTtl` (seconds), `rotate`, `delayMs`, `fail {error|body, status, headers, times}`,
        or `revokeGrantOf` a refresh token; gives all of them with `tokenCalls`."""
        status, _, text = self._opened(self._opener(), f"{self.issuer}/__control", json.dumps(knobs).encode())
        assert status == 200, text
        found: dict[str, Any] = json.loads(text)
        return found

    @property
    def token_calls(self) -> int:
        return int(self.control()["tokenCalls"])

    def introspect(self, token: str) -> bool:
        """Whether the server takes a token to be good."""
        pair = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        url, form = f"{self.issuer}/token/introspection", urlencode({"token": token}).encode()
        request = urllib.request.Request(url, form, {"Authorization": f"Basic {pair}"})
        with self._opener().open(request) as response:
            return bool(json.load(response)["active"])

    def drive_login(self, authorize_url: str, *, user: str = "alice", deny: bool = False) -> str:
        """What a person does in the browser, from our redirect to the address that the server sends the browser to."""
        browser = self._opener()
        status, url, text = self._opened(browser, authorize_url)
        for _ in range(_PAGES):
            while status in (302, 303):
                target = urljoin(url, text)
                if target.startswith(CALLBACK):
                    return target
                status, url, text = self._opened(browser, target)
            if deny:
                (abort,) = re.findall(r'href="([^"]+/abort)"', text)
                status, url, text = self._opened(browser, urljoin(url, abort))
                continue
            form = re.search(r'<form[^>]+action="([^"]+)"', text)
            prompt = re.search(r'name="prompt" value="(\w+)"', text)
            assert form is not None, text[:500]
            assert prompt is not None, text[:500]
            answer = {"prompt": prompt[1]} | ({"login": user, "password": "x"} if prompt[1] == "login" else {})
            status, url, text = self._opened(browser, urljoin(url, html.unescape(form[1])), urlencode(answer).encode())
        raise AssertionError("the login led nowhere")

    def _opener(self) -> urllib.request.OpenerDirector:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        handlers = (urllib.request.HTTPSHandler(context=context), urllib.request.ProxyHandler({}), _Stay())
        return urllib.request.build_opener(*handlers, urllib.request.HTTPCookieProcessor(CookieJar()))

    def _opened(
        self, opener: urllib.request.OpenerDirector, url: str, data: bytes | None = None
    ) -> tuple[int, str, str]:
        """Status, address, and the page or, for a redirect, where it leads."""
        try:
            with opener.open(urllib.request.Request(url, data)) as response:
                return response.status, url, response.read().decode()
        except HTTPError as error:
            with error:
                return error.code, url, error.headers.get("Location") or error.read().decode()


@pytest.fixture(scope="session")
def oidc_server(loopback_tls: Loopback, session_tmp: Path) -> Iterator[OidcProvider]:
    """One server for the session; it is installed from npm where it is missing."""
    node = shutil.which("node")
    if node is None:
        missing("node is not installed (apt-get install nodejs npm)")
    _install()
    log = session_tmp / "oidc-provider.log"
    names = {"TLS_CERT": loopback_tls.cert_file, "TLS_KEY": loopback_tls.key_file, "NODE_MODULES_DIR": _HOME}
    env = {**os.environ, **{name: str(path) for name, path in names.items()}, "REDIRECT_URIS": CALLBACK}
    process = processes.spawn([node, _HERE / "op.mjs"], output=log, env=env)

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        return "READY " in log.read_text()

    processes.until(ready, "the start of oidc-provider")
    issuer = re.search(r"READY (\S+)", log.read_text())
    assert issuer is not None
    yield OidcProvider(issuer[1], loopback_tls.ca_file)
    processes.stop(process)


@pytest.fixture
def oidc_provider(oidc_server: OidcProvider) -> OidcProvider:
    """The server as at its start, except that it remembers earlier logins."""
    oidc_server.control(reset=True)
    return oidc_server


def _install() -> None:
    if (_HOME / "node_modules" / "oidc-provider").is_dir():
        return
    npm = shutil.which("npm")
    if npm is None:
        missing("oidc-provider is not there and npm is not installed (apt-get install npm)")
    # several test processes may come here at once: each installs into a folder of its own, and one rename stays
    own = _HOME.with_name(f"oauth-{os.getpid()}")
    own.mkdir(parents=True)
    argv = [npm, "install", "--prefix", own, "--no-audit", "--no-fund", "--loglevel=error", PACKAGE]
    subprocess.run([str(part) for part in argv], check=True, timeout=300)
    if (_HOME / "node_modules").exists():
        shutil.rmtree(own)
    else:
        shutil.rmtree(_HOME, ignore_errors=True)
        own.rename(_HOME)
