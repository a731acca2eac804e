"""What servers say that is not HTTP, and what is HTTP though it is unusual."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow8_core.clock import Deadline, SystemClock
from flow8_core.egress import Egress, EgressSettings
from flow8_core.errors import ProviderUnavailable, VendorBadResponse
from tests.egress.servers import Peer, Server, always, once

EgressTo = Callable[..., Egress]
Serve = Callable[..., Server]
OK = b"HTTP/1.1 200 OK\r\n"

GARBAGE = (
    b"\x00\x01\x02\x03",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"220 mail.example ESMTP\r\n",
    b"-ERR unknown command 'POST'\r\n",
    b"<html>it works</html>",
    b"\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/0.9 200 OK\r\n\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 \r\n\r\n",
    b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 OK 200\r\n\r\n",
    b"HTTP/1.1 -20 OK\r\n\r\n",
    b"HTTP/1.1 099 OK\r\n\r\n",
    b"HTTP/1.1 \xb2\xb0\xb0 OK\r\n\r\n",
    b"http/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    OK + b"no colon\r\n\r\n",
    OK + b": no name\r\n\r\n",
    OK + b"Name : space\r\n\r\n",
    OK + b" folded: first\r\n\r\n",
    OK + b"Nul: a\x00b\r\n\r\n",
    OK + b"Cr: a\rb\r\n\r\n",
    OK + b"N\xc3\xa4me: x\r\n\r\n",
    OK + b"Cut: of",
    OK,
    OK + b"Content-Length: -1\r\n\r\n",
    OK + b"Content-Length: +1\r\n\r\nx",
    OK + b"Content-Length: 1_0\r\n\r\n0123456789",
    OK + b"Content-Length: 0x1\r\n\r\nx",
    OK + b"Content-Length: one\r\n\r\nx",
    OK + b"Content-Length: \x0b1\xa0\r\n\r\nx",
    OK + b"Content-Length: \xb2\r\n\r\nxx",
    OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    OK + b"Content-Length: 1, 2\r\n\r\nxx",
    OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nx",
    OK + b"Content-Length: 9\r\n\r\nshort",
    OK + b"Transfer-Encoding: gzip\r\n\r\nx",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx",
    OK + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n +5\r\nhello\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 70_000 + b"\r\nhello\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!!0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFFFF\r\nx",
    OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
    OK + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain",
    OK + b"Content-Encoding: deflate\r\nContent-Length: 5\r\n\r\nplain",
    OK + b"Content-Encoding: br\r\nContent-Length: 5\r\n\r\nplain",
    OK + b"Content-Encoding: zstd\r\nContent-Length: 5\r\n\r\nplain",
    OK + b"Content-Encoding: gzip, gzip\r\nContent-Length: 5\r\n\r\nplain",
    OK + b"Content-Encoding: rot13\r\nContent-Length: 5\r\n\r\nplain",
    OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"half of this" * 99)[:-9],
    OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(b"half of this" * 99)[:-9],
    OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"a") + gzip.compress(b"b" * 999)[:-9],
    OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"wrong sum")[:-8] + b"\0" * 8,
)


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_an_answer_that_makes_no_sense_is_the_vendors_fault(
    egress_to: EgressTo, serve: Serve, soon: Deadline, data: bytes
) -> None:
    server = serve(once(data))
    egress = egress_to(server)

    with pytest.raises(VendorBadResponse) as written:
        egress.send("POST", server.url(), body=b"x", deadline=soon)
    with pytest.raises(VendorBadResponse) as read:
        egress.send("GET", server.url(), deadline=soon)

    assert (written.value.ambiguous, read.value.ambiguous) == (True, False)
    assert written.value.message.startswith(f"The answer of {server.place} cannot be used: ")


@pytest.mark.parametrize("hang_up", [Peer.close, Peer.reset])
def test_no_answer_at_all_leaves_a_write_open(
    egress_to: EgressTo, serve: Serve, soon: Deadline, hang_up: Callable[[Peer], None]
) -> None:
    server = serve(lambda peer: (peer.request(), hang_up(peer)))

    with pytest.raises(ProviderUnavailable) as failed:
        egress_to(server).send("POST", server.url(), body=b"x", deadline=soon)

    assert failed.value.ambiguous
    assert len(server.seen) == 1, "and it is not sent again"


UNUSUAL = (
    (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    (b"HTTP/1.1 299 Gr\xfc\xdfe\nContent-Length: 2\n\nhi", 299, b"hi"),
    (b"HTTP/1.0 200 OK\r\n\r\nhi", 200, b"hi"),
    (b"HTTP/1.1 200 OK\r\n\r\nhi", 200, b"hi"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi", 200, b"hi"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 200, b"hi"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\nTrailer: x\r\n\r\n", 200, b"hi"),
    (b"HTTP/1.1 200 OK\r\nFolded: a\r\n b\r\n\tc\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 OK\r\nContent-Length: 2\r\n\r\nhi", 201, b"hi"),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, b""),
    (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, b""),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b""),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", 200, b""),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 0\r\n\r\n", 200, b""),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: GZIP\r\n\r\n" + gzip.compress(b"hi"), 200, b"hi"),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"h") + gzip.compress(b"i"), 200, b"hi"),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"hi") + b"\0\0\0", 200, b"hi"),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n" + zlib.compress(b"hi"), 200, b"hi"),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n" + zlib.compress(b"hi", wbits=-15), 200, b"hi"),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\n\r\nhi", 200, b"hi"),
    (b"HTTP/1.1 599 Odd\r\nContent-Length: 2\r\n\r\nhi", 599, b"hi"),
)


@pytest.mark.parametrize(("data", "status", "body"), UNUSUAL, ids=range(len(UNUSUAL)))
def test_an_unusual_answer_is_read(
    *, egress_to: EgressTo, serve: Serve, soon: Deadline, data: bytes, status: int, body: bytes
) -> None:
    server = serve(once(data))

    response = egress_to(server).send("GET", server.url(), deadline=soon)

    assert (response.status, response.body) == (status, body)


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_it_does_not_matter_how_an_answer_is_cut_into_packets(
    egress_to: EgressTo, serve: Serve, soon: Deadline, cut: int
) -> None:
    data = OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    for byte in gzip.compress(b"hello world"):
        data += b"1\r\n" + bytes([byte]) + b"\r\n"
    data += b"0\r\n\r\n"

    def handle(peer: Peer) -> None:
        peer.request()
        for start in range(0, len(data), cut):
            peer.send(data[start : start + cut])

    server = serve(handle)

    assert egress_to(server).send("GET", server.url(), deadline=soon).body == b"hello world"


def test_headers_ignore_case_and_repeated_ones_are_joined(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(once(OK + b"X-One: a\r\nx-one: b\r\nFolded: c \t\r\n  d\r\nLatin: \xfc\r\n\r\n"))

    headers = egress_to(server).send("GET", server.url(), deadline=soon).headers

    assert (headers["X-ONE"], headers["folded"], headers["Latin"]) == ("a, b", "c d", "\xfc")
    assert dict(headers.items()) == {"X-One": "a, b", "Folded": "c d", "Latin": "\xfc"}
    assert ("x-one" in headers, "x-two" in headers, headers.get("x-two", "none")) == (True, False, "none")


@pytest.mark.parametrize(
    "line",
    [b"A: x" + b" " * 60_000 + b"y\r\n", b"A: x\r\n" + b" " * 60_000 + b"y\r\n", b"A: x\r\n" + b" " * 70_000],
)
def test_a_header_of_blanks_costs_no_more_time_than_another(
    egress_to: EgressTo, serve: Serve, soon: Deadline, line: bytes
) -> None:
    server = serve(once(OK + line + b"Content-Length: 0\r\n\r\n"))
    egress = egress_to(server)

    began = time.process_time()
    with suppress(VendorBadResponse):
        egress.send("GET", server.url(), deadline=soon)

    assert time.process_time() - began < 1.0


def test_folded_lines_count_among_the_headers(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(once(OK + b"A: x\r\n" + b" y\r\n" * 1000 + b"Content-Length: 0\r\n\r\n"))

    with pytest.raises(VendorBadResponse, match="too many headers"):
        egress_to(server).send("GET", server.url(), deadline=soon)


def test_cookies_are_not_kept(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(always(200, Set_Cookie="a=b; Path=/"))
    egress = egress_to(server)
    session = egress.session(deadline=soon)

    for _ in range(2):
        egress.send("GET", server.url(), deadline=soon)
        session.get(server.url())

    assert not any("Cookie" in seen.headers for seen in server.seen)
    assert len(session.cookies) == 0


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), head=st.sampled_from([b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"]))
def test_no_bytes_make_it_fail_in_another_way(serve: Serve, data: bytes, head: bytes) -> None:
    server = serve(once(head + data))
    deadline = Deadline.after(2.0, SystemClock())

    with Egress(EgressSettings(allow=(server.place,))) as egress, suppress(VendorBadResponse, ProviderUnavailable):
        egress.send("GET", server.url(), deadline=deadline)

    server.close()
