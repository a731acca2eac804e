"""A credential goes to its hosts, over TLS or to a listed place, and nowhere else; and it shows up nowhere."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from flow8_core.clock import Deadline
from flow8_core.egress import Egress, Hosts
from flow8_core.errors import EgressDenied, Flow8Error, InternalError, ValidationFailed
from flow8_core.secret import Secret
from tests.egress.conftest import answers, within
from tests.egress.corpora import HOSTILE_URLS
from tests.egress.servers import Peer, Server, echo, once

TOKEN = Secret("Bearer c4nary-0123456789")
EgressTo = Callable[..., Egress]
Serve = Callable[..., Server]


@pytest.mark.parametrize(
    "hosts",
    [
        Hosts.of("slack.com"),
        Hosts.of("*.slack.com"),
        Hosts.of("127.0.0.1"),
        Hosts.of("127.0.0.1:1"),
        Hosts.of("localhost"),
        Hosts.of(),
    ],
)
def test_a_credential_for_other_hosts_is_not_sent(
    egress_to: EgressTo, serve: Serve, soon: Deadline, hosts: Hosts
) -> None:
    server = serve(echo)
    egress = egress_to(server)

    with pytest.raises(EgressDenied):
        egress.send("GET", server.url(), credentials={"Authorization": TOKEN}, hosts=hosts, deadline=soon)
    with pytest.raises(EgressDenied):
        egress.open("GET", server.url(), hosts=hosts, deadline=soon)
    with pytest.raises(EgressDenied):
        egress.session(deadline=soon, hosts=hosts).get(server.url())

    assert server.accepted == 0


def test_a_credential_without_hosts_is_a_fault_of_ours(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(echo)

    with pytest.raises(InternalError):
        egress_to(server).send("GET", server.url(), credentials={"Authorization": TOKEN}, deadline=soon)

    assert server.accepted == 0


def test_no_spelling_of_another_host_gets_the_credential(
    egress_to: EgressTo, soon: Deadline, connects: list[Any]
) -> None:
    egress = egress_to(resolve=answers("93.184.216.34"))
    tricks = [url.replace("127.0.0.1", "evil.example") for url in HOSTILE_URLS]
    tricks += ["https://slack.com@evil.example/", "https://slack.com.evil.example/", "https://evil.example/#slack.com"]

    for url in tricks:
        with pytest.raises(Flow8Error):
            egress.send(
                "GET",
                url,
                credentials={"Authorization": TOKEN},
                hosts=Hosts.of("slack.com"),
                deadline=soon,
                redirects=5,
            )

    assert connects == []


@pytest.mark.parametrize("headers", [{"Authorization": "Basic eDp5"}, {"authorization": "Bearer x"}, {"Cookie": "a=b"}])
def test_a_credential_in_a_plain_header_does_not_travel_over_plain_http_either(
    egress_to: EgressTo, serve: Serve, soon: Deadline, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(echo)
    egress = egress_to()
    monkeypatch.setattr("flow8_core.egress.policy.Policy.judge", lambda *_: None)  # loopback plays a public host

    with pytest.raises(EgressDenied, match="plain http"):
        egress.send("GET", server.url(), headers=headers, deadline=soon)

    assert server.heads == []


def test_plain_http_to_a_public_host_carries_requests_without_credentials_only(
    egress_to: EgressTo, serve: Serve, soon: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(echo)
    hosts = Hosts.of_url(server.url())
    egress = egress_to()
    monkeypatch.setattr("flow8_core.egress.policy.Policy.judge", lambda *_: None)  # loopback plays a public host

    assert egress.send("GET", server.url(), deadline=soon).status == 200
    with pytest.raises(EgressDenied, match="plain http"):
        egress.send("GET", server.url(), credentials={"Authorization": TOKEN}, hosts=hosts, deadline=soon)
    with pytest.raises(EgressDenied, match="plain http"):
        egress.session(deadline=soon, hosts=hosts).post(server.url(), data={"client_secret": "c4nary"})

    assert "c4nary" not in str([seen.headers for seen in server.heads])


@pytest.mark.parametrize("allow_by", ["{host}:{port}", "vendor.example:{port}"])
def test_plain_http_to_a_listed_place_carries_credentials(
    egress_to: EgressTo, serve: Serve, soon: Deadline, allow_by: str
) -> None:
    server = serve(echo)
    url = f"http://vendor.example:{server.port}/"
    egress = egress_to(allow_by.format(host=server.host, port=server.port), resolve=answers(server.host))

    egress.send("GET", url, credentials={"Authorization": TOKEN}, hosts=Hosts.of_url(url), deadline=soon)

    assert TOKEN.reveal() == server.seen[0].headers["Authorization"]


def test_a_credential_takes_the_place_of_the_authors_header(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(echo)

    egress_to(server).send(
        "GET",
        server.url(),
        headers={"authorization": "Bearer mine"},
        credentials={"Authorization": TOKEN},
        hosts=Hosts.of_url(server.url()),
        deadline=soon,
    )

    assert [TOKEN.reveal()] == server.seen[0].headers.get_all("authorization")


@pytest.mark.parametrize("value", ["c4nary\r\nX-Evil: 1", "c4nary\n", "c4nary\x00", "c4nary\u2713"])
def test_a_credential_that_cannot_be_a_header_is_refused_unquoted(
    egress_to: EgressTo, serve: Serve, soon: Deadline, value: str
) -> None:
    server = serve(echo)

    with pytest.raises(ValidationFailed) as refused:
        egress_to(server).send(
            "GET",
            server.url(),
            credentials={"Authorization": Secret(value)},
            hosts=Hosts.of_url(server.url()),
            deadline=soon,
        )

    assert "c4nary" not in str(refused.value)
    assert server.accepted == 0


FAILURES: dict[str, Callable[[Peer], object]] = {
    "hangs up": lambda peer: peer.request(),
    "resets": lambda peer: (peer.request(), peer.reset()),
    "echoes the request as garbage": lambda peer: peer.send(str(peer.request()).encode()),
    "echoes a header": lambda peer: peer.send(b"HTTP/1.1 200 OK\r\n" + str(peer.request()).encode() + b"\r\n\r\n"),
    "is cut off": once(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx"),
    "cannot be decompressed": once(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"),
    "drips": lambda peer: (peer.request(), peer.server.done.wait(5)),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_no_error_and_no_log_shows_the_credential_or_the_url(
    egress_to: EgressTo, serve: Serve, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(FAILURES[failure])
    caplog.set_level(logging.DEBUG)

    with pytest.raises(Flow8Error) as failed:
        egress_to(server).send(
            "POST",
            server.url("/c4nary?key=c4nary"),
            body=b"c4nary",
            credentials={"Authorization": TOKEN},
            hosts=Hosts.of_url(server.url()),
            deadline=within(0.3),
        )

    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__
    assert "c4nary" not in str(failed.value) + caplog.text
    assert failed.value.ambiguous
