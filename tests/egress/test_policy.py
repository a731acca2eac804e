"""The allow-list, the ports, and when an address is judged."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from pydantic import ValidationError

from flow8_core.clock import Deadline
from flow8_core.egress import Egress, EgressSettings
from flow8_core.egress.policy import Policy, is_own, is_web_port
from flow8_core.egress.url import Url
from flow8_core.errors import EgressDenied
from tests.egress.conftest import answers
from tests.egress.servers import Server, always, echo


@pytest.mark.parametrize(
    ("allow", "url", "address", "reached"),
    [
        # by the URL's own host and port, or by the resolved address and port; never by one without the other
        ("127.0.0.1:9000", "http://127.0.0.1:9000/", "127.0.0.1", True),
        ("127.0.0.1:9000", "http://minio.example:9000/", "127.0.0.1", True),
        ("127.0.0.1:9000", "http://127.0.0.1:9001/", "127.0.0.1", False),
        ("127.0.0.1:9000", "http://127.0.0.2:9000/", "127.0.0.2", False),
        ("127.0.0.1:9000", "http://127.0.0.1/", "127.0.0.1", False),
        ("minio.internal:9000", "http://minio.internal:9000/", "10.1.2.3", True),
        ("minio.internal:9000", "http://MINIO.internal.:9000/", "10.1.2.3", True),
        ("minio.internal:9000", "http://minio.internal:9001/", "10.1.2.3", False),
        ("minio.internal:9000", "http://other.internal:9000/", "10.1.2.3", False),
        ("minio.internal:443", "https://minio.internal/", "fd00::1", True),
        ("[::1]:9000", "http://localhost:9000/", "::1", True),
        ("[0:0::1]:9000", "http://[::1]:9000/", "::1", True),
        # a name opens ordinary private places, not these
        ("evil.example:80", "http://evil.example/", "169.254.169.254", False),
        ("evil.example:80", "http://evil.example/", "fd00:ec2::254", False),
        ("evil.example:80", "http://evil.example/", "100.100.100.200", False),
        ("evil.example:80", "http://evil.example/", "168.63.129.16", False),
        ("evil.example:80", "http://evil.example/", "0.0.0.0", False),
        ("evil.example:80", "http://evil.example/", "224.0.0.1", False),
        ("evil.example:80", "http://evil.example/", "64:ff9b::a00:1", False),
        ("169.254.169.254:80", "http://169.254.169.254/", "169.254.169.254", True),
        # ports of other protocols open by entry alone
        ("mail.example:25", "http://mail.example:25/", "93.184.216.34", True),
        ("10.0.0.5:6379", "http://cache.internal:6379/", "10.0.0.5", True),
        ("10.0.0.5:6379", "http://cache.internal:6379/", "93.184.216.34", False),
    ],
)
def test_the_allow_list_opens_exactly_what_it_names(allow: str, url: str, address: str, reached: bool) -> None:
    policy = Policy(EgressSettings(allow=(allow,)))

    if reached:
        policy.judge(Url.parse(url), ip_address(address))
    else:
        with pytest.raises(EgressDenied):
            policy.judge(Url.parse(url), ip_address(address))


@pytest.mark.parametrize(
    "entry", ["127.0.0.1", "*:80", "*.example.com:80", "10.0.0.0/8", "http://a:80", "a:0", "", "a b:80"]
)
def test_an_allow_list_entry_is_exactly_one_host_and_port(entry: str) -> None:
    with pytest.raises(ValidationError, match="host:port"):
        EgressSettings(allow=(entry,))


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError):
        EgressSettings.model_validate({"allowed": []})


@pytest.mark.parametrize("port", [80, 443, 1024, 3000, 4443, 8000, 8080, 8443, 9000, 9443, 65535])
def test_ports_that_web_apis_use_are_open(port: int) -> None:
    assert is_web_port(port)


def test_an_address_of_this_machine_is_recognised() -> None:
    assert is_own(ip_address("127.0.0.1"))
    assert not is_own(ip_address("192.0.2.1"))
    assert not is_own(ip_address("2606:4700::1111"))


def test_a_public_address_of_this_machine_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flow8_core.egress.policy.is_own", lambda address: str(address) == "93.184.216.34")

    with pytest.raises(EgressDenied, match="this machine"):
        Policy(EgressSettings()).judge(Url.parse("https://me.example/"), ip_address("93.184.216.34"))
    Policy(EgressSettings()).judge(Url.parse("https://you.example/"), ip_address("93.184.216.35"))
    listed = Policy(EgressSettings(allow=("me.example:443",)))
    listed.judge(Url.parse("https://me.example/"), ip_address("93.184.216.34"))


def test_a_name_that_is_rebound_after_the_first_call_is_refused_at_the_next_connection(
    egress_to: Callable[..., Egress], serve: Callable[..., Server], soon: Deadline
) -> None:
    server, inner = serve(always(200, b"", Connection="close")), serve(echo, host="127.0.0.2")
    addresses = iter([server.host, inner.host])
    egress = egress_to(server, resolve=lambda host, port, **_: answers(next(addresses))(host, server.port))

    egress.send("GET", f"http://rebound.example:{server.port}/", deadline=soon)
    with pytest.raises(EgressDenied):
        egress.send("GET", f"http://rebound.example:{server.port}/", deadline=soon)

    assert (server.accepted, inner.accepted) == (1, 0)


def test_the_address_that_was_judged_is_the_one_that_is_connected_to(
    egress_to: Callable[..., Egress], serve: Callable[..., Server], soon: Deadline
) -> None:
    server, inner = serve(echo), serve(echo, host="127.0.0.2")
    lookups = iter([server.host, inner.host, inner.host, inner.host])
    egress = egress_to(server, resolve=lambda host, port, **_: answers(next(lookups))(host, port))

    response = egress.send("GET", f"http://flip.example:{server.port}/", deadline=soon)

    assert response.status == 200
    assert (server.accepted, inner.accepted) == (1, 0)
    assert inner.host == next(lookups), "one connection is one look-up"


def test_a_connection_that_lives_needs_no_second_look_up(
    egress_to: Callable[..., Egress], serve: Callable[..., Server], soon: Deadline
) -> None:
    server, lookups = serve(echo), []

    def resolve(host: str, port: int, **options: Any) -> Any:
        lookups.append(host)
        return answers(server.host)(host, port)

    egress = egress_to(server, resolve=resolve)
    for _ in range(3):
        egress.send("GET", f"http://warm.example:{server.port}/", deadline=soon)

    assert lookups == ["warm.example"]
    assert server.accepted == 1


def test_a_literal_address_is_not_looked_up(
    egress_to: Callable[..., Egress], serve: Callable[..., Server], soon: Deadline
) -> None:
    server = serve(echo)
    egress = egress_to(server, resolve=lambda *_, **__: pytest.fail("looked up"))

    assert egress.send("GET", server.url(), deadline=soon).status == 200


def test_the_next_address_is_tried_where_one_does_not_answer(
    egress_to: Callable[..., Egress], serve: Callable[..., Server], soon: Deadline
) -> None:
    server = serve(echo)
    egress = egress_to(server, f"127.0.0.3:{server.port}", resolve=answers("127.0.0.3", server.host))

    assert egress.send("GET", f"http://two.example:{server.port}/", deadline=soon).status == 200


def test_the_host_header_and_the_name_in_tls_come_from_the_url(
    egress_to: Callable[..., Egress], serve: Callable[..., Server], server_tls: Any, ca_file: Any, soon: Deadline
) -> None:
    names: list[str | None] = []
    server_tls.sni_callback = lambda _sock, name, _context: names.append(name)
    server = serve(echo, tls=server_tls)
    egress = egress_to(server, resolve=answers(server.host), ca_file=ca_file)

    egress.send("GET", f"https://api.example.test:{server.port}/", deadline=soon)
    server_tls.sni_callback = None

    assert names == ["api.example.test"]
    assert f"api.example.test:{server.port}" == server.seen[0].headers["Host"]
