"""The laboratory's HTTP server, spoken to on a bare TLS connection."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from tests.counterparts.lab import Lab

Exchange = Callable[[bytes], bytes]
END = b"Connection: close\r\n\r\n"


@pytest.fixture
def exchange(lab: Lab) -> Iterator[Exchange]:
    """Send bytes to the web vendor and read until it closes."""
    host, _, port = lab.services["web"]["base_url"].removeprefix("https://").partition(":")
    context = ssl.create_default_context(cafile=lab.ca_file)
    plain = socket.create_connection((host, int(port)), timeout=10)
    with context.wrap_socket(plain, server_hostname=host) as secured:

        def run(sent: bytes) -> bytes:
            secured.sendall(sent)
            return b"".join(iter(lambda: secured.recv(65_536), b""))

        yield run


def body_of(answer: bytes) -> dict[str, object]:
    return dict(json.loads(answer.rpartition(b"\r\n\r\n")[2]))


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET http://else.example/ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: yes\r\n\r\n",
        b"GET / HTTP/1.1\r\nName : space\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"x" * 70_000,
    ],
)
def test_what_is_no_request_is_answered_400_and_closed(exchange: Exchange, request_bytes: bytes) -> None:
    assert exchange(request_bytes).startswith(b"HTTP/1.1 400 ")


def test_pipelined_requests_are_answered_in_order(exchange: Exchange) -> None:
    requests = b"".join(
        b"GET /echo?n=%d HTTP/1.1\r\n%b\r\n" % (n, b"Connection: close\r\n" * (n == 2)) for n in range(3)
    )

    answer = exchange(requests)

    positions = [answer.find(b'"n":"%d"' % n) for n in range(3)]
    assert -1 < positions[0] < positions[1] < positions[2]


def test_a_chunked_body_is_put_together(exchange: Exchange) -> None:
    head = b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + END

    answer = exchange(head + b"3\r\nabc\r\n2;name=value\r\nde\r\n0\r\nTrailer: x\r\n\r\n")

    assert body_of(answer)["body"] == "abcde"


def test_a_client_that_waits_for_leave_gets_it(exchange: Exchange) -> None:
    answer = exchange(b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + END + b"ab")

    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


def test_head_has_the_length_and_no_body(exchange: Exchange) -> None:
    answer = exchange(b"HEAD /invoices/1 HTTP/1.1\r\n" + END)

    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length: 4" in answer


def test_the_old_protocol_is_closed_after_one_answer(exchange: Exchange) -> None:
    assert exchange(b"GET /echo HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
