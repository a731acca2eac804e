"""Bodies that are streamed, and servers that answer before they have them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flow8_core.clock import Deadline
from flow8_core.egress import Egress
from flow8_core.errors import ProviderUnavailable, ValidationFailed
from tests.egress.conftest import within
from tests.egress.servers import Peer, Server, echo

EgressTo = Callable[..., Egress]
Serve = Callable[..., Server]
LARGE = b"0123456789abcdef" * (1 << 17)  # 2 MiB: worth asking first
EXPECT = {"Expect": "100-continue"}


class Unseekable(io.RawIOBase):
    """A pipe: length unknown."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(buffer)


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, 65_536, 300_000])
@pytest.mark.parametrize(
    ("kind", "framing"),
    [("bytes", "length"), ("bytearray", "length"), ("file", "length"), ("chunks", "chunked"), ("pipe", "chunked")],
)
def test_every_kind_of_body_arrives_whole(
    *, egress_to: EgressTo, serve: Serve, soon: Deadline, kind: str, framing: str, size: int
) -> None:
    data = (b"0123456789" * (size // 10 + 1))[:size]
    content: Any = {
        "bytes": data,
        "bytearray": bytearray(data),
        "file": io.BytesIO(data),
        "chunks": (data[i : i + 7000] for i in range(0, size, 7000)),
        "pipe": Unseekable(data),
    }[kind]
    server = serve(echo)

    response = egress_to(server).send("PUT", server.url(), body=content, deadline=soon)

    headers = server.seen[0].headers
    assert response.body == data
    assert headers["Content-Length"] == (str(size) if framing == "length" else None)
    assert headers["Transfer-Encoding"] == ("chunked" if framing == "chunked" else None)


@pytest.mark.parametrize(
    ("method", "length"),
    [("GET", None), ("HEAD", None), ("OPTIONS", None), ("DELETE", None), ("POST", "0"), ("PUT", "0"), ("PATCH", "0")],
)
def test_no_body_is_announced_where_one_is_usual(
    *, egress_to: EgressTo, serve: Serve, soon: Deadline, method: str, length: str | None
) -> None:
    server = serve(echo)

    egress_to(server).send(method, server.url(), deadline=soon)

    assert server.seen[0].headers["Content-Length"] == length
    assert server.seen[0].headers["Transfer-Encoding"] is None


def test_empty_chunks_do_not_end_a_body(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(echo)

    assert egress_to(server).send("POST", server.url(), body=iter([b"a", b"", b"b"]), deadline=soon).body == b"ab"


def test_a_file_is_sent_from_where_it_stands(egress_to: EgressTo, serve: Serve, soon: Deadline, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"skip this, send that")
    server = serve(echo)

    with (tmp_path / "file").open("rb") as file:
        file.seek(11)
        response = egress_to(server).send("POST", server.url(), body=file, deadline=soon)

    assert response.body == b"send that"


def test_a_file_that_grows_is_cut_where_it_ended(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    class Growing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size) or b"more"

    server = serve(echo)

    assert egress_to(server).send("POST", server.url(), body=Growing(b"data"), deadline=soon).body == b"data"


class Shrinking(io.BytesIO):
    """Ends earlier than it said."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(2) if self.tell() == 0 else b""


class Failing(io.BytesIO):
    """A disk that breaks."""

    def read(self, size: int | None = -1) -> bytes:
        raise OSError("c4nary: input/output error")


@pytest.mark.parametrize(
    "content", [Shrinking(b"data"), Failing(b"data"), iter(["text"])], ids=["shrinks", "fails", "text"]
)
def test_a_body_that_cannot_be_sent_whole_is_the_steps_fault(
    egress_to: EgressTo, serve: Serve, soon: Deadline, content: Any
) -> None:
    server = serve(echo)

    with pytest.raises(ValidationFailed) as failed:
        egress_to(server).send("POST", server.url(), body=content, deadline=soon)

    assert failed.value.path == "body"
    assert "c4nary" not in str(failed.value)
    assert server.seen == []


def test_a_fault_of_the_caller_is_not_made_a_fault_of_the_network(
    egress_to: EgressTo, serve: Serve, soon: Deadline
) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise KeyError("bug")

    server = serve(echo)

    with pytest.raises(KeyError):
        egress_to(server).send("POST", server.url(), body=broken(), deadline=soon)

    assert server.done.wait(5), "its connection is closed"


@pytest.mark.parametrize("body", ["text", {"a": 1}.__str__()])
def test_text_is_not_a_body(egress_to: EgressTo, serve: Serve, soon: Deadline, body: Any) -> None:
    server = serve(echo)

    with pytest.raises(ValidationFailed):
        egress_to(server).send("POST", server.url(), body=body, deadline=soon)


def asks(peer: Peer) -> None:
    """Answers 100 to whoever expects it, and then as `echo` does."""
    while (seen := peer.head()) is not None:
        if "Expect" in seen.headers:
            peer.send(b"HTTP/1.1 102 Processing\r\nA: b\r\n\r\nHTTP/1.1 100 Continue\r\nC: d\r\n\r\n")
        peer.reply(200, peer.body(seen))


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("content", [LARGE, iter([LARGE])], ids=["length", "chunked"])
def test_a_large_body_waits_for_the_servers_word(
    *, egress_to: EgressTo, serve: Serve, soon: Deadline, secure: bool, content: Any, server_tls: Any, ca_file: Any
) -> None:
    server = serve(asks, tls=server_tls if secure else None)
    egress = egress_to(server, ca_file=ca_file)
    body = LARGE if isinstance(content, bytes) else iter([LARGE])

    assert egress.send("PUT", server.url(), headers=EXPECT, body=body, deadline=soon).body == LARGE
    assert egress.send("PUT", server.url(), headers=EXPECT, body=b"small", deadline=soon).body == b"small"

    assert [head.headers["Expect"] for head in server.heads] == ["100-continue", None]
    assert server.accepted == 1


@pytest.mark.parametrize("status", [200, 307, 403, 412, 417])
def test_a_final_answer_instead_of_a_word_keeps_the_body_here(
    egress_to: EgressTo, serve: Serve, soon: Deadline, status: int
) -> None:
    taken = []

    def refuse(peer: Peer) -> None:
        if peer.head() is not None:
            peer.reply(status, b"no")
            taken.append(peer.stream.read())

    server = serve(refuse)
    egress = egress_to(server)

    response = egress.send("PUT", server.url(), headers=EXPECT, body=LARGE, deadline=soon)

    assert (response.status, response.body) == (status, b"no")
    assert server.done.wait(5), "the connection is not used again: the server may still wait for the body"
    assert taken == [b""]


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_a_server_that_does_not_know_the_word_gets_the_body_after_a_moment(
    *, egress_to: EgressTo, serve: Serve, secure: bool, server_tls: Any, ca_file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flow8_core.egress.connection.CONTINUE_WAIT_S", 0.05)
    server = serve(echo, tls=server_tls if secure else None)
    egress = egress_to(server, ca_file=ca_file)

    assert egress.send("PUT", server.url(), headers=EXPECT, body=LARGE, deadline=within(20)).body == LARGE


def test_a_server_that_hangs_up_instead_of_a_word_is_unavailable(
    egress_to: EgressTo, serve: Serve, soon: Deadline
) -> None:
    server = serve(lambda peer: peer.head())

    with pytest.raises(ProviderUnavailable):
        egress_to(server).send("PUT", server.url(), headers=EXPECT, body=LARGE, deadline=soon)


def test_an_answer_before_the_end_of_an_upload_is_heard(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    def too_large(peer: Peer) -> None:
        peer.head()
        peer.reply(413, b"too large")
        peer.sock.shutdown(1)
        while peer.stream.read(65_536):
            pass

    server = serve(too_large)

    assert egress_to(server).send("PUT", server.url(), body=LARGE, deadline=soon).status == 413


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Host", "evil.example"),
        ("Content-Length", "5"),
        ("Content-Length", "-1"),
        ("Content-Length", "4, 4"),
        ("Transfer-Encoding", "identity"),
        ("Transfer-Encoding", "gzip, chunked"),
        ("Connection", "upgrade"),
        ("Connection", "Authorization"),
        ("Upgrade", "websocket"),
        ("TE", "trailers"),
        ("Trailer", "X"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authorization", "Basic x"),
        ("Proxy-Connection", "close"),
        ("Expect", "200-ok"),
        ("X Y", "space in the name"),
        ("X:Y", "colon in the name"),
        ("X\r\nY", "line in the name"),
        ("", "no name"),
        ("Ä", "no ASCII"),
        ("X", "line\r\nin: value"),
        ("X", "line\nin: value"),
        ("X", "nul\x00"),
        ("X", "not latin \u2713"),
    ],
)
def test_a_header_that_would_bend_the_message_is_refused(
    *, egress_to: EgressTo, serve: Serve, soon: Deadline, name: str, value: str
) -> None:
    server = serve(echo)

    with pytest.raises(ValidationFailed) as refused:
        egress_to(server).send("POST", server.url(), headers={name: value}, body=b"data", deadline=soon)

    assert (refused.value.path or "").startswith("headers")
    assert server.accepted == 0


def test_framing_that_says_what_is_so_is_accepted(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(echo)
    headers: dict[Any, Any] = {
        "host": server.place.encode(),
        b"Content-Length": b"4",
        "Connection": "keep-alive",
        "X-Latin": "\xfc",
        "X-Empty": "",
    }

    egress_to(server).send("POST", server.url(), headers=headers, body=b"data", deadline=soon)

    assert [server.place] == server.seen[0].headers.get_all("Host")
    assert server.seen[0].headers.get_all("Content-Length") == ["4"]


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "TRACK", "", "GET /x HTTP/1.1\r\n", "G ET", "GÉT"])
def test_a_method_that_cannot_be_used_is_refused(
    egress_to: EgressTo, serve: Serve, soon: Deadline, method: str
) -> None:
    server = serve(echo)

    with pytest.raises(ValidationFailed):
        egress_to(server).send(method, server.url(), deadline=soon)

    assert server.accepted == 0


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (None, "gzip, deflate"),
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("identity", "identity"),
        ("*", "gzip, deflate"),
    ],
)
def test_only_what_can_be_undone_is_asked_for(
    *, egress_to: EgressTo, serve: Serve, soon: Deadline, asked: str | None, sent: str
) -> None:
    server = serve(echo)

    egress_to(server).send("GET", server.url(), headers={"Accept-Encoding": asked} if asked else {}, deadline=soon)

    assert server.seen[0].headers["Accept-Encoding"] == sent
