"""Connections are kept, replaced when they are dead, and never make a request happen twice."""

from __future__ import annotations

import multiprocessing
import os
import select
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flow8_core.clock import Deadline, ManualClock
from flow8_core.egress import Egress
from flow8_core.egress.wire import Wire
from flow8_core.errors import ProviderUnavailable
from tests.egress.conftest import within
from tests.egress.servers import Peer, Server, always, echo

EgressTo = Callable[..., Egress]
Serve = Callable[..., Server]
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


def idle_wires(egress: Egress) -> list[Wire]:
    shelf = egress._pool._shelf
    return [connection.wire for row in shelf.idle.values() for connection in row]


def wait_until_readable(egress: Egress) -> None:
    """Wait for the peer's FIN or RST on the one idle connection, without taking it."""
    (wire,) = idle_wires(egress)
    assert select.select([wire._sock.fileno()], [], [], 5)[0]


@pytest.mark.parametrize("status", [200, 204, 302, 404, 503])
def test_one_connection_serves_many_calls(egress_to: EgressTo, serve: Serve, soon: Deadline, status: int) -> None:
    server = serve(always(status, b"" if status == 204 else b"body"))
    egress = egress_to(server)

    for method in ("GET", "HEAD", "POST", "DELETE") * 2:
        server_says_nothing = method == "HEAD" or status == 204
        server.handler = always(status)
        egress.send(method, server.url(), deadline=soon)
        assert len(idle_wires(egress)) == 1 or not server_says_nothing

    assert server.accepted <= 2


def test_send_open_and_session_share_the_pool(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(echo)
    egress = egress_to(server)

    egress.send("POST", server.url(), body=b"a", deadline=soon)
    egress.session(deadline=soon).post(server.url(), data=b"b")
    egress.open("POST", server.url(), body=b"c", deadline=soon).read()

    assert [seen.body for seen in server.seen] == [b"a", b"b", b"c"]
    assert server.accepted == 1


@pytest.mark.parametrize("how", ["closes", "resets", "says something unasked"])
def test_a_connection_that_died_while_idle_is_replaced_before_anything_is_sent(
    egress_to: EgressTo, serve: Serve, soon: Deadline, how: str
) -> None:
    answered = threading.Event()

    def handle(peer: Peer) -> None:
        peer.request()
        peer.reply(200)
        answered.wait(5)
        if how == "resets":
            peer.reset()
        if how == "says something unasked":
            peer.send(FORGED)
            peer.request()

    server = serve(handle)
    egress = egress_to(server)
    egress.send("POST", server.url("/1"), body=b"x", deadline=soon)
    answered.set()
    wait_until_readable(egress)

    response = egress.send("POST", server.url("/2"), body=b"x", deadline=soon)

    assert (response.status, response.body) == (200, b"")
    assert [seen.target for seen in server.seen] == ["/1", "/2"]


def test_an_answer_that_brings_a_second_one_along_ends_the_connection(
    egress_to: EgressTo, serve: Serve, soon: Deadline
) -> None:
    server = serve(lambda peer: (peer.request(), peer.send(b"HTTP/1.1 204 None\r\n\r\n" + FORGED), peer.request()))
    egress = egress_to(server)

    first = egress.send("GET", server.url("/1"), deadline=soon)
    second = egress.send("GET", server.url("/2"), deadline=soon)

    assert (first.body, second.body) == (b"", b"")
    assert server.accepted == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_that_was_sent_into_a_closing_connection_is_not_sent_again(
    egress_to: EgressTo, serve: Serve, soon: Deadline, method: str
) -> None:
    def handle(peer: Peer) -> None:
        peer.request()
        peer.reply(200)
        peer.request()  # and says nothing to it

    server = serve(handle)
    egress = egress_to(server)
    egress.send(method, server.url("/1"), deadline=soon)

    with pytest.raises(ProviderUnavailable) as failed:
        egress.send(method, server.url("/2"), deadline=soon)

    assert failed.value.ambiguous == (method == "POST")
    assert [seen.target for seen in server.seen] == ["/1", "/2"]


@pytest.mark.parametrize("body", [b"x" * 10, b"x" * 100_000])
def test_a_reset_in_the_blink_before_sending_is_no_loss(
    *, egress_to: EgressTo, serve: Serve, soon: Deadline, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    resets = iter([True, False])

    def handle(peer: Peer) -> None:
        peer.request()
        peer.reply(200)
        peer.reset() if next(resets) else peer.request()

    server = serve(handle)
    egress = egress_to(server)
    egress.send("POST", server.url("/1"), deadline=soon)
    wait_until_readable(egress)
    monkeypatch.setattr(Wire, "stale", lambda _self: False)  # as if it came just after the look

    assert egress.send("POST", server.url("/2"), body=body, deadline=soon).status == 200
    assert [("/1", 0), ("/2", len(body))] == [(seen.target, len(seen.body)) for seen in server.seen]


def test_a_reset_takes_a_body_that_was_read_already_with_it(
    egress_to: EgressTo, serve: Serve, soon: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda peer: (peer.request(), peer.reply(200), peer.reset()))
    egress = egress_to(server)
    egress.send("POST", server.url("/1"), deadline=soon)
    wait_until_readable(egress)
    monkeypatch.setattr(Wire, "stale", lambda _self: False)

    with pytest.raises(ProviderUnavailable) as failed:
        egress.send("POST", server.url("/2"), body=iter([b"x" * 100_000]), deadline=soon)

    assert not failed.value.ambiguous


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({}, True),
        ({"Connection": "keep-alive"}, True),
        ({"Connection": "close"}, False),
        ({"Connection": "Close, x"}, False),
        ({"Keep_Alive": "timeout=5, max=100"}, True),
        ({"Keep_Alive": "timeout=1"}, False),
        ({"Keep_Alive": "timeout=0"}, False),
    ],
)
def test_a_connection_is_kept_as_the_server_wishes(
    *, egress_to: EgressTo, serve: Serve, soon: Deadline, headers: dict[str, str], kept: bool
) -> None:
    server = serve(always(200, b"x", **headers))
    egress = egress_to(server)

    for _ in range(2):
        egress.send("GET", server.url(), deadline=soon)

    assert server.accepted == (1 if kept else 2)


OLD = b"HTTP/1.0 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (OLD + b"Content-Length: 1\r\n\r\nx", False),
        (OLD + b"Connection: keep-alive\r\nContent-Length: 1\r\n\r\nx", True),
        (OLD + b"Connection: keep-alive, close\r\nContent-Length: 1\r\n\r\nx", False),
        (OLD + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", False),
    ],
)
def test_a_connection_of_http_1_0_is_kept_only_where_the_server_says_so_and_frames_are_sound(
    *, egress_to: EgressTo, serve: Serve, soon: Deadline, answer: bytes, kept: bool
) -> None:
    def handle(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(answer)

    server = serve(handle)
    egress = egress_to(server)

    for _ in range(2):
        assert egress.send("GET", server.url(), deadline=soon).body == b"x"

    assert server.accepted == (1 if kept else 2)


@pytest.mark.parametrize(
    ("announced", "idle_s", "kept"), [(None, 29, True), (None, 31, False), (5, 3, True), (5, 5, False)]
)
def test_an_idle_connection_is_left_before_the_server_leaves_it(
    *, egress_to: EgressTo, serve: Serve, soon: Deadline, announced: int | None, idle_s: float, kept: bool
) -> None:
    clock = ManualClock()
    server = serve(always(200, **({"Keep_Alive": f"timeout={announced}"} if announced else {})))
    egress = egress_to(server, clock=clock)

    egress.send("GET", server.url(), deadline=soon)
    clock.advance(idle_s)
    egress.send("GET", server.url(), deadline=soon)

    assert server.accepted == (1 if kept else 2)


def test_connections_to_places_that_are_not_called_any_more_are_closed(
    egress_to: EgressTo, serve: Serve, soon: Deadline
) -> None:
    clock = ManualClock()
    once, often = serve(echo), serve(echo)
    egress = egress_to(once, often, clock=clock)

    egress.send("GET", once.url(), deadline=soon)
    clock.advance(31)
    egress.send("GET", often.url(), deadline=soon)

    assert once.done.wait(5)
    assert len(idle_wires(egress)) == 1


def test_the_pool_keeps_no_more_than_it_is_told(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(echo)
    egress = egress_to(server, pool_size=2)

    open_ones = [egress.open("GET", server.url(), deadline=soon) for _ in range(5)]
    for answer in open_ones:
        answer.read()

    assert server.accepted == 5
    assert len(idle_wires(egress)) == 2


def test_an_answer_that_is_closed_unread_costs_its_connection_and_nothing_else(
    egress_to: EgressTo, serve: Serve, soon: Deadline
) -> None:
    server = serve(always(200, b"unread"))
    egress = egress_to(server)

    egress.open("GET", server.url("/1"), deadline=soon).close()
    second = egress.send("GET", server.url("/2"), deadline=soon)

    assert (second.body, server.accepted) == (b"unread", 2)


def test_an_egress_that_was_closed_keeps_nothing(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(echo)
    egress = egress_to(server)
    egress.send("GET", server.url(), deadline=soon)

    egress.close()

    assert server.done.wait(5)
    assert idle_wires(egress) == []


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_64_threads_get_their_own_answers(
    *, egress_to: EgressTo, serve: Serve, secure: bool, server_tls: Any, ca_file: Any
) -> None:
    server = serve(echo, tls=server_tls if secure else None)
    egress = egress_to(server, ca_file=ca_file)
    deadline = within(15)
    start = threading.Barrier(64)

    def work(number: int) -> bool:
        start.wait(10)
        bodies = [f"{number}-{call}".encode() * 50 for call in range(10)]
        return all(egress.send("POST", server.url(), body=body, deadline=deadline).body == body for body in bodies)

    with ThreadPoolExecutor(64) as pool:
        right = list(pool.map(work, range(64)))

    assert all(right)
    assert len(server.seen) == 640
    assert server.accepted <= 64


def _child(egress: Egress, url: str, pipe: Any) -> None:
    try:
        answers = [egress.send("POST", url, body=f"child {n}".encode(), deadline=within(5)).text for n in range(3)]
        pipe.send(answers)
    except BaseException as error:  # noqa: BLE001  # the parent shows it
        pipe.send(repr(error))
    finally:
        os._exit(0)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_shares_no_connection(
    *, egress_to: EgressTo, serve: Serve, server_tls: Any, ca_file: Any, soon: Deadline
) -> None:
    server = serve(echo, tls=server_tls)
    egress = egress_to(server, ca_file=ca_file)
    egress.send("POST", server.url(), body=b"parent", deadline=soon)
    ours, theirs = multiprocessing.Pipe()

    child = multiprocessing.get_context("fork").Process(target=_child, args=(egress, server.url(), theirs))
    child.start()
    assert ours.poll(10)
    answers = ours.recv()
    child.join(10)
    after = egress.send("POST", server.url(), body=b"parent again", deadline=soon).text

    assert answers == ["child 0", "child 1", "child 2"]
    assert after == "parent again"
    assert server.accepted == 2, "one connection of the parent's, one of the child's"


def test_an_answer_that_nobody_reads_or_closes_leaves_no_open_socket(
    egress_to: EgressTo, serve: Serve, soon: Deadline
) -> None:
    server = serve(always(200, b"x" * 100))

    egress_to(server).open("GET", server.url(), deadline=soon)

    assert server.done.wait(5)
