"""However much a server sends, memory stays small and the caller gets at most what it asked for."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from flow8_core.clock import Deadline
from flow8_core.egress import Egress
from flow8_core.errors import VendorBadResponse
from tests.egress.servers import Peer, Server, always, once

EgressTo = Callable[..., Egress]
Serve = Callable[..., Server]
MIB = 1 << 20
GZIP = 31


def _bomb(wbits: int) -> bytes:
    """A few kilobytes that become 64 MiB, and as gzip (whose members add up) 1 GiB."""
    packer = zlib.compressobj(6, zlib.DEFLATED, wbits)
    data = b"".join(packer.compress(bytes(MIB)) for _ in range(64)) + packer.flush()
    return data * 16 if wbits == GZIP else data


class _Peak:
    """How much resident memory grew at its highest (Linux: the kernel's own high-water mark, reset before)."""

    def __enter__(self) -> _Peak:
        Path("/proc/self/clear_refs").write_text("5")
        self._before = self._peak()
        return self

    def __exit__(self, *_: object) -> None:
        self.grown = self._peak() - self._before

    @staticmethod
    def _peak() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize(("coding", "wbits"), [("gzip", GZIP), ("deflate", 15), ("deflate", -15)])
def test_a_bomb_costs_little_memory(egress_to: EgressTo, serve: Serve, soon: Deadline, coding: str, wbits: int) -> None:
    server = serve(always(200, _bomb(wbits), Content_Encoding=coding))
    egress = egress_to(server)

    with _Peak() as memory, pytest.raises(VendorBadResponse, match="larger than"):
        egress.send("GET", server.url(), deadline=soon)

    assert memory.grown < 40 * MIB


READERS: dict[str, Callable[[Egress, str, Deadline], object]] = {
    "sink": lambda egress, url, deadline: egress.send("GET", url, deadline=deadline, sink=io.BytesIO()),
    "stream": lambda egress, url, deadline: list(egress.open("GET", url, deadline=deadline).stream()),
    "requests": lambda egress, url, deadline: egress.session(deadline=deadline).get(url),
}


@pytest.mark.parametrize("call", READERS)
def test_a_bomb_costs_little_memory_however_it_is_read(
    egress_to: EgressTo, serve: Serve, soon: Deadline, call: str
) -> None:
    server = serve(always(200, _bomb(GZIP), Content_Encoding="gzip"))
    egress = egress_to(server)

    with _Peak() as memory, pytest.raises(VendorBadResponse, match="larger than"):
        READERS[call](egress, server.url(), soon)

    assert memory.grown < 40 * MIB


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFF\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
    ],
    ids=["until close", "length", "one chunk", "HTTP/1.0"],
)
def test_an_endless_body_is_cut(egress_to: EgressTo, serve: Serve, soon: Deadline, head: bytes) -> None:
    def endless(peer: Peer) -> None:
        peer.request()
        peer.send(head)
        while True:
            peer.send(b"x" * 65_536)

    server = serve(endless)

    with _Peak() as memory, pytest.raises(VendorBadResponse, match="larger than 1000 bytes"):
        egress_to(server).send("GET", server.url(), deadline=soon, max_bytes=1000)

    assert memory.grown < 16 * MIB
    assert server.done.wait(5), "the connection was closed"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 " + b"x" * MIB,
        b"H" * MIB,
        b"HTTP/1.1 200 OK\r\n" + b"A: " + b"x" * MIB,
        b"HTTP/1.1 200 OK\r\n" + b"x" * MIB,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 129 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n c\r\n" * MIB,
        b"HTTP/1.1 200 OK\r\n" + (b"A: " + b"x" * 60_000 + b"\r\n") * 10 + b"\r\n",
        b"HTTP/1.1 102 Wait\r\n\r\n" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * MIB,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * MIB,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 100_000,
    ],
    ids=range(12),
)
def test_an_oversized_head_is_refused(egress_to: EgressTo, serve: Serve, soon: Deadline, head: bytes) -> None:
    server = serve(once(head))

    with pytest.raises(VendorBadResponse) as refused:
        egress_to(server).send("POST", server.url(), body=b"x", deadline=soon)

    assert refused.value.ambiguous


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_body_up_to_the_cap_is_read(
    egress_to: EgressTo, serve: Serve, soon: Deadline, size: int, coding: str
) -> None:
    body = b"x" * size
    server = serve(always(200, gzip.compress(body) if coding == "gzip" else body, Content_Encoding=coding))
    egress = egress_to(server)

    for _ in range(2):
        assert egress.send("GET", server.url(), deadline=soon, max_bytes=1000).body == body

    assert server.accepted == 1


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_one_byte_above_the_cap_is_too_much(egress_to: EgressTo, serve: Serve, soon: Deadline, coding: str) -> None:
    body = b"x" * 1001
    server = serve(always(200, gzip.compress(body) if coding == "gzip" else body, Content_Encoding=coding))

    with pytest.raises(VendorBadResponse, match="larger than 1000"):
        egress_to(server).send("POST", server.url(), deadline=soon, max_bytes=1000)


def test_the_settings_cap_bodies_where_the_caller_names_no_cap(
    egress_to: EgressTo, serve: Serve, soon: Deadline
) -> None:
    server = serve(always(200, b"x" * 101))

    with pytest.raises(VendorBadResponse, match="larger than 100 bytes"):
        egress_to(server, max_bytes=100).send("GET", server.url(), deadline=soon)


def test_a_sink_takes_a_good_body_and_leaves_an_error_to_the_response(
    egress_to: EgressTo, serve: Serve, soon: Deadline
) -> None:
    good, bad = serve(always(200, b"content")), serve(always(404, b"no such thing"))
    egress, sink = egress_to(good, bad), io.BytesIO()

    found = egress.send("GET", good.url(), deadline=soon, sink=sink)
    missed = egress.send("GET", bad.url(), deadline=soon, sink=sink)

    assert (found.body, sink.getvalue()) == (b"", b"content")
    assert missed.body == b"no such thing"
