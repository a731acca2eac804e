"""An endpoint that receives signed events, over TLS, as a customer of ours would write it: by the public specification
of Standard Webhooks and nothing of our code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from flow8_core.egress import Egress, EgressSettings
from tests.counterparts.token_server import Loopback

SECRET = "whsec_" + base64.b64encode(b"a signing key of the receiver...").decode()
TOLERANCE_S = 300


@dataclass
class Received:
    """One message whose signature was right."""

    id: str
    event: dict[str, Any]


@dataclass
class Receiver:
    """What arrived. `script` holds the statuses of the next answers (200 otherwise), `headers` what goes along."""

    url: str = ""
    secret: str = SECRET
    script: deque[int] = field(default_factory=deque)
    headers: dict[str, str] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    body: bytes = b""
    hold: threading.Event = field(default_factory=threading.Event)
    now: Callable[[], float] = time.time

    def reset(self) -> None:
        """As at the start."""
        self.secret, self.body, self.now = SECRET, b"", time.time
        self.script.clear()
        self.headers.clear()
        self.received.clear()
        self.refused.clear()
        self.hold.set()

    @property
    def place(self) -> str:
        return self.url.removeprefix("https://").partition("/")[0]

    @property
    def types(self) -> list[str]:
        """What was told, in order, a thing that was told twice once."""
        once = {one.id: one.event["type"] for one in self.received}
        return list(once.values())

    def verify(self, headers: dict[str, str], body: bytes) -> str | None:
        """Why a message is refused; None for one that is ours."""
        message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not timestamp.isdigit() or abs(self.now() - int(timestamp)) > TOLERANCE_S:
            return "timestamp"
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        mac = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        expected = "v1," + base64.b64encode(mac).decode()
        given = headers.get("webhook-signature", "").split(" ")
        return None if any(hmac.compare_digest(expected, one) for one in given) else "signature"


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed hang up."""


def _handler(receiver: Receiver) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.hold.wait(20)
            fault = receiver.verify(headers, body)
            status = receiver.script.popleft() if receiver.script else 200
            if fault is not None:
                receiver.refused.append(fault)
                status = 401
            else:
                receiver.received.append(Received(headers["webhook-id"], json.loads(body)))
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(receiver.body)))
            self.end_headers()
            self.wfile.write(receiver.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Quiet."""

    return Handler


@pytest.fixture(scope="session")
def receiver_process(loopback_tls: Loopback) -> Iterator[Receiver]:
    """The session's receiver."""
    receiver = Receiver()
    server = _Quiet(("127.0.0.1", 0), _handler(receiver))
    context: ssl.SSLContext = loopback_tls.context()
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver.url = f"https://127.0.0.1:{server.server_address[1]}/hooks"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield receiver
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def receiver(receiver_process: Receiver) -> Receiver:
    """The receiver as at its start."""
    receiver_process.reset()
    return receiver_process


@pytest.fixture(scope="session")
def receiver_egress(receiver_process: Receiver, loopback_tls: Loopback) -> Iterator[Egress]:
    """An egress that may reach the receiver, and nothing else on this machine."""
    with Egress(EgressSettings(allow=(receiver_process.place,), ca_file=loopback_tls.ca_file)) as egress:
        yield egress
