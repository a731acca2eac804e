"""Loopback servers, a certificate authority, and an egress that may reach them."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from flow8_core.clock import Deadline, SystemClock
from flow8_core.egress import Egress, EgressSettings
from tests.egress.servers import Handler, Server

_CONNECTS: list[tuple[int, Any]] = []


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        _CONNECTS.append((threading.get_ident(), args[1]))


sys.addaudithook(_audit)


@pytest.fixture
def connects() -> list[tuple[int, Any]]:
    """Every address that this process tries to connect a socket to from now on, whichever library does it."""
    _CONNECTS.clear()
    return _CONNECTS


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts a server with a handler; closed at the end."""
    servers: list[Server] = []

    def start(handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Server:
        servers.append(Server(handler, tls=tls, host=host))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def egress_to() -> Iterator[Callable[..., Egress]]:
    """An egress whose allow-list names these servers; closed at the end."""
    made: list[Egress] = []

    def make(*servers: Server | str, resolve: Any = socket.getaddrinfo, clock: Any = None, **settings: Any) -> Egress:
        allow = tuple(server if isinstance(server, str) else server.place for server in servers)
        made.append(Egress(EgressSettings(allow=allow, **settings), resolve=resolve, clock=clock))
        return made[-1]

    yield make
    for egress in made:
        egress.close()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority of our own."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context with a good certificate for 127.0.0.1 and localhost."""
    return server_context(authority.issue_cert("127.0.0.1", "localhost", "api.example.test"))


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def soon() -> Deadline:
    """Ten seconds: no test comes near it unless it hangs."""
    return Deadline.after(10.0, SystemClock())


def within(seconds: float) -> Deadline:
    return Deadline.after(seconds, SystemClock())


def answers(*addresses: str) -> Callable[..., list[tuple[Any, ...]]]:
    """A `getaddrinfo` that always answers with these addresses."""

    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    return resolve
