"""The deadline is total: whatever a server does, a call ends at it, and says whether it may have had an effect."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flow8_core.egress import Egress
from flow8_core.errors import ExecutionTimeout, Flow8Error, ProviderUnavailable
from tests.egress.conftest import within
from tests.egress.servers import Peer, Server

EgressTo = Callable[..., Egress]
Serve = Callable[..., Server]
LIMIT_S = 0.15
SLACK_S = 3.0  # for a busy machine; the goal is less than a second


def warmed(handler: Callable[[Peer], object]) -> Callable[[Peer], None]:
    """Answers one request well, so that connecting is no part of what a test measures."""

    def handle(peer: Peer) -> None:
        peer.request()
        peer.reply(200)
        handler(peer)

    return handle


def drip(head: bytes, drop: bytes) -> Callable[[Peer], None]:
    """Sends `head`, then `drop` for ever, a drop every 20 ms."""

    def handle(peer: Peer) -> None:
        peer.request()
        peer.send(head)
        while not peer.server.done.wait(0.02):
            peer.send(drop)

    return handle


def silent(peer: Peer) -> None:
    peer.request()
    peer.server.done.wait(10)


def deaf(peer: Peer) -> None:
    peer.server.done.wait(10)


DRIPS = {
    "says nothing": silent,
    "drips its status line": drip(b"", b"H"),
    "drips its headers": drip(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
    "drips one header": drip(b"HTTP/1.1 200 OK\r\nA: ", b"b"),
    "drips its body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
    "drips chunks": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "drips a chunk size": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "drips trailers": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
    "drips interim answers": drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "stops in its body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", b""),
}


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("fault", DRIPS)
def test_a_server_that_drips_is_left_in_time(
    *, egress_to: EgressTo, serve: Serve, fault: str, secure: bool, server_tls: Any, ca_file: Any
) -> None:
    server = serve(warmed(DRIPS[fault]), tls=server_tls if secure else None)
    egress = egress_to(server, ca_file=ca_file)
    egress.send("GET", server.url(), deadline=within(10))
    started = time.monotonic()

    with pytest.raises(ExecutionTimeout) as late:
        egress.send("POST", server.url(), body=b"x", deadline=within(LIMIT_S))

    assert LIMIT_S <= time.monotonic() - started < LIMIT_S + SLACK_S
    assert late.value.ambiguous


def test_what_only_reads_is_never_ambiguous(egress_to: EgressTo, serve: Serve) -> None:
    server = serve(silent)

    with pytest.raises(ExecutionTimeout) as late:
        egress_to(server).send("GET", server.url(), deadline=within(LIMIT_S))

    assert not late.value.ambiguous


def test_a_stream_is_under_the_deadline_of_its_call(egress_to: EgressTo, serve: Serve) -> None:
    server = serve(DRIPS["drips its body"])
    started = time.monotonic()

    with egress_to(server).open("GET", server.url(), deadline=within(LIMIT_S)) as answer:
        with pytest.raises(ExecutionTimeout):
            answer.read()

        assert answer.closed

    assert time.monotonic() - started < LIMIT_S + SLACK_S


def test_a_deadline_that_is_over_sends_nothing(egress_to: EgressTo, serve: Serve, connects: list[Any]) -> None:
    server = serve(silent)

    with pytest.raises(ExecutionTimeout) as late:
        egress_to(server).send("POST", server.url(), body=b"x", deadline=within(0))

    assert not late.value.ambiguous
    assert server.heads == []


@pytest.mark.parametrize("deadline_s", [LIMIT_S, 10.0], ids=["the deadline", "the connect timeout"])
@pytest.mark.parametrize("stage", ["look-up", "TCP", "TLS"])
def test_connecting_is_bounded(egress_to: EgressTo, serve: Serve, stage: str, deadline_s: float, ca_file: Any) -> None:
    server = serve(deaf)
    stuck = threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, _filled(full):
        port = full.getsockname()[1] if stage == "TCP" else server.port
        options: dict[str, Any] = {"resolve": lambda *_, **__: stuck.wait(10)} if stage == "look-up" else {}
        egress = egress_to(f"127.0.0.1:{port}", ca_file=ca_file, connect_timeout_s=LIMIT_S, **options)
        url = f"https://{'stuck.example' if stage == 'look-up' else '127.0.0.1'}:{port}/"
        started = time.monotonic()

        with pytest.raises(Flow8Error) as failed:
            egress.send("POST", url, body=b"x", deadline=within(deadline_s))

        elapsed = time.monotonic() - started
        stuck.set()
    assert (ExecutionTimeout if deadline_s == LIMIT_S else ProviderUnavailable) is type(failed.value)
    assert not failed.value.ambiguous
    assert elapsed < LIMIT_S + SLACK_S


class _filled:  # noqa: N801  # reads like a function
    """Fills a listener's queue, so that further connections get no answer."""

    def __init__(self, listener: socket.socket) -> None:
        self._address = listener.getsockname()
        self._held: list[socket.socket] = []

    def __enter__(self) -> None:
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(self._address)
            self._held.append(sock)

    def __exit__(self, *_: object) -> None:
        for sock in self._held:
            sock.close()


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("body", ["bytes", "file", "chunks"])
def test_an_upload_that_nobody_reads_is_given_up(
    *, egress_to: EgressTo, serve: Serve, body: str, secure: bool, server_tls: Any, ca_file: Any
) -> None:
    server = serve(warmed(deaf), tls=server_tls if secure else None)
    data = b"x" * (32 << 20)
    content = {"bytes": data, "file": io.BytesIO(data), "chunks": iter([data])}[body]
    egress = egress_to(server, ca_file=ca_file)
    egress.send("GET", server.url(), deadline=within(10))
    started = time.monotonic()

    with pytest.raises(ExecutionTimeout) as late:
        egress.send("PUT", server.url(), body=content, deadline=within(LIMIT_S))

    assert time.monotonic() - started < LIMIT_S + SLACK_S
    assert late.value.ambiguous


def test_all_hops_of_a_redirect_share_one_deadline(egress_to: EgressTo, serve: Serve) -> None:
    def slow(peer: Peer) -> None:
        while peer.request() is not None and not peer.server.done.wait(0.08):
            peer.reply(302, Location="/again")

    server = serve(slow)
    started = time.monotonic()

    with pytest.raises(ExecutionTimeout):
        egress_to(server).send("GET", server.url(), deadline=within(LIMIT_S), redirects=5)

    assert time.monotonic() - started < LIMIT_S + SLACK_S


def test_more_stuck_look_ups_than_slots_wait_no_longer(egress_to: EgressTo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flow8_core.egress.resolver.LOOKUPS", 1)
    stuck = threading.Event()
    egress = egress_to(resolve=lambda *_, **__: stuck.wait(10))
    started = time.monotonic()

    for _ in range(2):
        with pytest.raises(ExecutionTimeout):
            egress.send("GET", "https://stuck.example/", deadline=within(LIMIT_S))

    stuck.set()
    assert time.monotonic() - started < 2 * LIMIT_S + SLACK_S


def test_a_body_that_comes_too_slowly_is_not_waited_for_beyond_its_next_block(
    egress_to: EgressTo, serve: Serve
) -> None:
    server = serve(silent)

    def slowly() -> Iterator[bytes]:
        while True:
            threading.Event().wait(0.05)
            yield b"x" * 20_000

    started = time.monotonic()
    with pytest.raises(ExecutionTimeout):
        egress_to(server).send("PUT", server.url(), body=slowly(), deadline=within(LIMIT_S))

    assert time.monotonic() - started < LIMIT_S + SLACK_S
