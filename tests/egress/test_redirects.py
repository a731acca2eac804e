"""Redirects: followed by us, judged again, and stripped of what is not meant for the next host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flow8_core.clock import Deadline
from flow8_core.egress import Egress, Hosts
from flow8_core.errors import EgressDenied, VendorBadResponse
from flow8_core.secret import Secret
from tests.egress.servers import Peer, Server, always, echo

STATUSES = (301, 302, 303, 307, 308)
Serve = Callable[..., Server]
EgressTo = Callable[..., Egress]


def to(location: str, status: int = 302) -> Callable[[Peer], object]:
    return always(status, b"moved", Location=location)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_safe_request_follows(egress_to: EgressTo, serve: Serve, soon: Deadline, method: str, status: int) -> None:
    target = serve(echo)
    server = serve(to(target.url("/there"), status))

    response = egress_to(server, target).send(method, server.url("/here"), deadline=soon, redirects=5)

    assert (200, target.url("/there")) == (response.status, response.url)
    assert (method, "/there") == (target.seen[0].method, target.seen[0].target)


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_write_is_not_repeated_elsewhere(
    egress_to: EgressTo, serve: Serve, soon: Deadline, method: str, status: int
) -> None:
    target = serve(echo)
    server = serve(to(target.url(), status))

    response = egress_to(server, target).send(method, server.url(), body=b"x", deadline=soon, redirects=5)

    assert status == response.status
    assert target.accepted == 0


def test_nothing_follows_unless_asked(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    target = serve(echo)
    server = serve(to(target.url()))

    response = egress_to(server, target).send("GET", server.url(), deadline=soon)

    assert (response.status, response.body) == (302, b"moved")
    assert target.accepted == 0


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:1/",
        "http://[::1]/",
        "http://2130706433/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "//169.254.169.254/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "http://user:pw@127.0.0.1/",
        "http://127.0.0.1:80\\@evil.example/",
        "\\\\127.0.0.1\\",
    ],
)
def test_a_redirect_to_a_forbidden_place_ends_there(
    egress_to: EgressTo, serve: Serve, soon: Deadline, location: str, connects: list[Any]
) -> None:
    server = serve(to(location))

    with pytest.raises(EgressDenied):
        egress_to(server).send("GET", server.url(), deadline=soon, redirects=5)

    assert [(server.host, server.port)] == [address for _, address in connects]


def test_https_never_becomes_http(
    egress_to: EgressTo, serve: Serve, server_tls: Any, ca_file: Any, soon: Deadline
) -> None:
    target = serve(echo)
    server = serve(to(target.url()), tls=server_tls)

    with pytest.raises(EgressDenied, match="https to http"):
        egress_to(server, target, ca_file=ca_file).send("GET", server.url(), deadline=soon, redirects=5)

    assert target.accepted == 0


@pytest.mark.parametrize(("allowed", "hops"), [(5, 5), (1, 1), (99, 5)])
def test_a_loop_ends(egress_to: EgressTo, serve: Serve, soon: Deadline, allowed: int, hops: int) -> None:
    server = serve(to("/again"))

    with pytest.raises(VendorBadResponse, match=f"more than {hops}"):
        egress_to(server).send("GET", server.url(), deadline=soon, redirects=allowed)

    assert hops + 1 == len(server.seen)


CREDENTIALS = {"Authorization": Secret("Bearer c4nary-token"), "X-Api-Key": Secret("c4nary-key")}
AUTHOR = {"X-Custom-Auth": "c4nary-custom", "Cookie": "c4nary=1", "X-Amz-Security-Token": "c4nary", "Accept": "text/x"}


def test_no_credential_and_no_header_that_may_be_one_crosses_origins(
    egress_to: EgressTo, serve: Serve, soon: Deadline
) -> None:
    stranger = serve(echo)
    server = serve(to(stranger.url("/?q=1")))

    egress_to(server, stranger).send(
        "GET",
        server.url(),
        headers=AUTHOR,
        credentials=CREDENTIALS,
        hosts=Hosts.of_url(server.url()),
        deadline=soon,
        redirects=5,
    )

    assert server.seen[0].headers["Authorization"] == "Bearer c4nary-token"
    assert server.seen[0].headers["X-Api-Key"] == "c4nary-key"
    assert "c4nary" not in str(stranger.seen[0].headers)
    assert {"host", "accept", "accept-encoding", "user-agent"} == {n.lower() for n in stranger.seen[0].headers}
    assert stranger.seen[0].headers["Accept"] == "text/x"


def test_a_credential_does_not_come_back_with_a_redirect_home(
    egress_to: EgressTo, serve: Serve, soon: Deadline
) -> None:
    stranger, home = serve(echo), serve(echo)
    stranger.handler = to(home.url("/back"))

    def redirect_once(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target == "/back":
                peer.reply(200)
            else:
                peer.reply(302, Location=stranger.url())

    home.handler = redirect_once
    egress_to(home, stranger).send(
        "GET",
        home.url("/start"),
        credentials=CREDENTIALS,
        hosts=Hosts.of_url(home.url()),
        deadline=soon,
        redirects=5,
    )

    assert [seen.target for seen in home.seen] == ["/start", "/back"]
    assert "Authorization" in home.seen[0].headers
    assert "Authorization" not in home.seen[1].headers


def test_a_credential_stays_within_its_origin(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    def login(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.reply(200) if seen.target == "/b" else peer.reply(302, Location="/b")

    server = serve(login)

    egress_to(server).send(
        "GET", server.url("/a"), credentials=CREDENTIALS, hosts=Hosts.of_url(server.url()), deadline=soon, redirects=5
    )

    assert [seen.headers["Authorization"] for seen in server.seen] == ["Bearer c4nary-token"] * 2


@pytest.mark.parametrize("status", [200, 201, 300, 304, 305, 306, 400])
def test_a_location_of_another_status_is_not_followed(
    egress_to: EgressTo, serve: Serve, soon: Deadline, status: int
) -> None:
    server = serve(to("/elsewhere", status))

    assert status == egress_to(server).send("GET", server.url(), deadline=soon, redirects=5).status
    assert len(server.seen) == 1


def test_a_redirect_without_a_location_is_an_answer(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(always(302))

    assert egress_to(server).send("GET", server.url(), deadline=soon, redirects=5).status == 302


def test_the_body_of_a_redirect_is_not_read_beyond_a_little(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    target = serve(echo)

    def endless(peer: Peer) -> None:
        peer.request()
        peer.send(f"HTTP/1.1 302 Found\r\nLocation: {target.url()}\r\n\r\n".encode())
        while True:
            peer.send(b"x" * 65536)

    server = serve(endless)

    assert egress_to(server, target).send("GET", server.url(), deadline=soon, redirects=5).status == 200
    assert server.done.wait(5), "the connection was closed"
