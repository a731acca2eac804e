"""A token server on loopback that does what a test tells it: rotation and replay policies, faults, dropped answers.

Not a stand-in for a vendor (see the laboratory) nor proof of the protocol (see oauth.py): it makes windows that no real
server opens on demand.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import secrets
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote_plus

import pytest
import trustme

from flow8_core.egress import Egress, EgressSettings

_ENDPOINTS = ("/token", "/userinfo", "/revoke", "/keys")  # wherever a vendor has them

Policy = Literal["reusable", "grace", "single_use", "family"]


@dataclass(frozen=True)
class Answer:
    """A scripted answer in place of the usual one. With `commit` the request takes effect first. `drop`: hang up.
    `edit` changes the usual reply's fields."""

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    commit: bool = False
    drop: bool = False
    edit: Callable[[dict[str, Any]], Any] | None = None


@dataclass(frozen=True)
class Call:
    """One request as it arrived; `basic` is the pair of an Authorization: Basic header."""

    path: str
    form: dict[str, str]
    headers: dict[str, str]
    body: str = ""

    @property
    def basic(self) -> tuple[str, str] | None:
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        if kind != "Basic":
            return None
        name, _, secret = base64.b64decode(value).decode().partition(":")
        return unquote_plus(name), unquote_plus(secret)

    @property
    def bearer(self) -> str | None:
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        return value if kind == "Bearer" else None


class TokenServer:
    """`/token`, `/userinfo`, `/revoke`, `/keys` and `/.well-known/openid-configuration`, over TLS where it is given."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._scheme = "http" if tls is None else "https"
        self._lock = threading.Lock()
        self.reset()
        self._server = _Quiet(("127.0.0.1", 0), _handler(self))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """As at the start."""
        self.policy: Policy = "single_use"
        self.expires_in = 3600
        self.scope = "read write"
        self.script: deque[Answer] = deque()  # for the next token calls
        self.fault: Callable[[Call], Answer | None] = lambda _: None  # of token calls for which nothing is scripted
        self.policy_of: Callable[[str], Policy] = lambda _: self.policy  # of a grant
        self.grace_s = float("inf")
        self.now: Callable[[], float] = time.monotonic
        self.refused: list[str] = []  # grants of which a refresh token was presented that does not work
        self.script_revoke: deque[Answer] = deque()  # for the next calls that give a token back
        self.calls: list[Call] = []
        self.refresh_tokens: dict[str, str] = {}  # token -> its grant
        self.spent: dict[str, str] = {}
        self.used_at: dict[str, float] = {}  # of tokens that go on for a grace
        self.dead_grants: set[str] = set()
        self.codes: dict[str, dict[str, Any]] = {}
        self.userinfo: dict[str, Any] = {"sub": "user-1", "email": "user@example.test", "name": "User One"}
        self.metadata: dict[str, Any] = {}
        self.pages: dict[str, tuple[int, Any]] = {}  # what else it serves, by path
        self.keys: tuple[int, dict[str, Any]] = (404, {})  # status and body of its key set
        self.revoked: list[str] = []
        self.before_answer: Callable[[], None] = lambda: None

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.place}"

    @property
    def token_calls(self) -> list[Call]:
        return [call for call in self.calls if call.path == "/token"]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def grant(self, name: str = "g1") -> str:
        """A new refresh token of a grant."""
        token = f"rt-{name}-{secrets.token_hex(8)}"
        self.refresh_tokens[token] = name
        return token

    def alive(self, refresh_token: str) -> bool:
        """Whether a refresh token would be accepted, without using it."""
        with self._lock:
            works = self.refresh_tokens.get(refresh_token, "") not in {"", *self.dead_grants}
            return works and not self._past_grace(refresh_token)

    def answer(self, call: Call) -> tuple[int, dict[str, str], bytes] | None:
        """Status, headers and body for a call; None to hang up."""
        with self._lock:
            self.calls.append(call)
            script = {"/token": self.script, "/revoke": self.script_revoke}.get(call.path)
            scripted = script.popleft() if script else self.fault(call) if call.path == "/token" else None
            if scripted is not None and not scripted.commit and scripted.edit is None:
                return None if scripted.drop else (scripted.status, scripted.headers, scripted.body or b"{}")
            status, fields = self._routed(call)
        self.before_answer()
        if scripted is None:
            return status, {}, json.dumps(fields).encode()
        if scripted.drop:
            return None
        if scripted.edit is not None:
            fields = scripted.edit(fields) or fields
        return (
            scripted.status,
            scripted.headers,
            json.dumps(fields).encode() if scripted.body is None else scripted.body,
        )

    def _routed(self, call: Call) -> tuple[int, Any]:
        if call.path in self.pages:
            return self.pages[call.path]
        match call.path:
            case "/token":
                return self._token(call.form)
            case "/userinfo":
                return 200, self.userinfo
            case "/revoke":
                self.revoked.append(call.form.get("token") or call.bearer or "")
                return 200, {"ok": True, "revoked": True}
            case "/keys":
                return self.keys
            case "/.well-known/openid-configuration":
                return 200, self._discovery()
        return 404, {"error": "not_found"}

    def _token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if form.get("grant_type") == "refresh_token":
            return self._refreshed(form.get("refresh_token", ""))
        code = self.codes.pop(form.get("code", ""), None)
        if code is None:
            return 400, {"error": "invalid_grant"}
        return 200, {**self._issued("connected"), **code}

    def _refreshed(self, token: str) -> tuple[int, dict[str, Any]]:
        grant = self.refresh_tokens.get(token)
        if grant is None or grant in self.dead_grants or self._past_grace(token):
            reused = self.spent.get(token)
            self.refused.append(reused or grant or "")
            if reused is not None and self.policy_of(reused) == "family":
                self.dead_grants.add(reused)
            return 400, {"error": "invalid_grant", "error_description": "secret words of the vendor"}
        policy = self.policy_of(grant)
        if policy in ("single_use", "family"):
            self.spent[token] = self.refresh_tokens.pop(token)
        elif policy == "grace":
            self.used_at.setdefault(token, self.now())
        return 200, self._issued(grant)

    def _past_grace(self, token: str) -> bool:
        return token in self.used_at and self.now() > self.used_at[token] + self.grace_s

    def _issued(self, grant: str) -> dict[str, Any]:
        return {
            "access_token": f"at-{grant}-{secrets.token_hex(8)}",
            "refresh_token": self.grant(grant),
            "token_type": "Bearer",
            "expires_in": self.expires_in,
            "scope": self.scope,
        }

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "revocation_endpoint": f"{self.url}/revoke",
            **self.metadata,
        }


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed hang up."""


def _handler(server: TokenServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            form = {name: values[-1] for name, values in parse_qs(body, keep_blank_values=True).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            path = self.path.partition("?")[0]
            path = next((end for end in _ENDPOINTS if path.endswith(end)), path)
            answer = server.answer(Call(path, form, headers, body))
            if answer is None:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            status, extra, content = answer
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **extra}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Quiet."""

    return Handler


@dataclass(frozen=True)
class Loopback:
    """A certificate authority for servers on 127.0.0.1, and one certificate of it."""

    authority: trustme.CA
    ca_file: Path
    cert_file: Path
    key_file: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


@pytest.fixture(scope="session")
def loopback_tls(session_tmp: Path) -> Loopback:
    """TLS for loopback servers of a test: `ca_file` goes into the egress settings."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1", "localhost")
    paths = [session_tmp / name for name in ("loopback-ca.pem", "loopback-cert.pem", "loopback-key.pem")]
    authority.cert_pem.write_to_path(str(paths[0]))
    leaf.private_key_pem.write_to_path(str(paths[2]))
    for blob in leaf.cert_chain_pems:
        blob.write_to_path(str(paths[1]), append=True)
    return Loopback(authority, *paths)


@pytest.fixture(scope="session")
def token_server_process(loopback_tls: Loopback) -> Iterator[TokenServer]:
    """The session's token server."""
    server = TokenServer(loopback_tls.context())
    yield server
    server.close()


@pytest.fixture
def token_server(token_server_process: TokenServer) -> TokenServer:
    """The token server as at its start: `single_use` unless its `policy` is set."""
    token_server_process.reset()
    return token_server_process


@pytest.fixture(scope="session")
def token_egress(token_server_process: TokenServer, loopback_tls: Loopback) -> Iterator[Egress]:
    """An egress that may reach the token server, and nothing else on this machine."""
    with Egress(EgressSettings(allow=(token_server_process.place,), ca_file=loopback_tls.ca_file)) as egress:
        yield egress
