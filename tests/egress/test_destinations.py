"""No hostile destination is ever connected to, whichever SDK asks."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
import requests

from flow8_core.clock import Deadline
from flow8_core.egress import Egress
from flow8_core.errors import EgressDenied, Flow8Error
from tests.egress.adapters import CALLS
from tests.egress.conftest import answers
from tests.egress.corpora import HOSTILE_URLS, PRIVATE_ADDRESSES
from tests.egress.servers import Server, always

Connects = list[tuple[int, Any]]

# SDKs parse, fold and join URLs before we see them, and may refuse one in their own way.
REFUSALS = (Flow8Error, requests.RequestException, ValueError)


@pytest.fixture
def egress(egress_to: Callable[..., Egress]) -> Egress:
    """Names resolve to loopback: whoever resolves one by mistake and connects is noticed."""
    return egress_to(resolve=answers("127.0.0.1"))


@pytest.mark.parametrize("call", CALLS)
def test_no_private_address_is_connected_to(egress: Egress, call: str, soon: Deadline, connects: Connects) -> None:
    for address in PRIVATE_ADDRESSES:
        host = f"[{address}]" if ":" in address else address
        for url in (f"http://{host}/", f"https://{host}:8443/latest/meta-data/"):
            with pytest.raises(EgressDenied):
                CALLS[call](egress, url, soon)

    assert connects == []


@pytest.mark.parametrize("call", CALLS)
def test_no_name_leads_to_a_private_address(
    egress_to: Callable[..., Egress], call: str, soon: Deadline, connects: Connects
) -> None:
    for address in PRIVATE_ADDRESSES:
        egress = egress_to(resolve=answers(address))

        with pytest.raises(EgressDenied):
            CALLS[call](egress, "https://innocent.example/", soon)

    assert connects == []


@pytest.mark.parametrize("call", CALLS)
def test_no_hostile_url_leads_anywhere(egress: Egress, call: str, soon: Deadline, connects: Connects) -> None:
    for url in HOSTILE_URLS:
        with pytest.raises(REFUSALS):
            CALLS[call](egress, url, soon)

    assert connects == []


@pytest.mark.parametrize(
    "mixed",
    [
        ("93.184.216.34", "127.0.0.1"),
        ("127.0.0.1", "93.184.216.34"),
        ("2606:4700::1111", "::1"),
        ("93.184.216.34", "2606:4700::1111", "10.0.0.1"),
        ("93.184.216.34", "::ffff:93.184.216.34"),
    ],
)
def test_one_private_answer_spoils_the_name(
    egress_to: Callable[..., Egress], mixed: tuple[str, ...], soon: Deadline, connects: Connects
) -> None:
    egress = egress_to(resolve=answers(*mixed))

    with pytest.raises(EgressDenied):
        egress.send("GET", "https://mixed.example/", deadline=soon)

    assert [address for _, address in connects if address[1] != 9] == []


def test_an_answer_of_an_unknown_family_is_refused(
    egress_to: Callable[..., Egress], soon: Deadline, connects: Connects
) -> None:
    egress = egress_to(resolve=lambda *_, **__: [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", "/run/docker.sock")])

    with pytest.raises(EgressDenied):
        egress.send("GET", "http://unix.example/", deadline=soon)

    assert connects == []


@pytest.mark.parametrize(
    "port", [1, 21, 22, 25, 53, 110, 139, 445, 587, 993, 2375, 3306, 5432, 6379, 9200, 11211, 27017]
)
def test_a_port_that_speaks_another_protocol_is_refused_even_on_a_public_address(
    egress_to: Callable[..., Egress], port: int, soon: Deadline, connects: Connects
) -> None:
    egress = egress_to(resolve=answers("93.184.216.34"))

    with pytest.raises(EgressDenied, match=str(port)):
        egress.send("POST", f"http://public.example:{port}/", body=b"FLUSHALL\r\n", deadline=soon)

    assert connects == []


def test_a_refusal_names_the_place_and_what_to_do_but_no_path_and_no_address(
    egress_to: Callable[..., Egress], soon: Deadline
) -> None:
    egress = egress_to(resolve=answers("10.1.2.3"))

    with pytest.raises(EgressDenied) as denied:
        egress.send("GET", "https://intra.example/T0KEN?key=T0KEN", deadline=soon)

    assert "intra.example" in denied.value.message
    assert "egress.allow" in denied.value.message
    assert "10.1.2.3" not in denied.value.message
    assert "T0KEN" not in denied.value.message
    assert not denied.value.ambiguous


@pytest.mark.parametrize("call", CALLS)
def test_the_same_calls_do_arrive_where_they_may(
    egress_to: Callable[..., Egress], serve: Callable[..., Server], call: str, soon: Deadline, connects: Connects
) -> None:
    server = serve(always(200, b'{"ok":true}', Content_Type="application/json"))
    egress = egress_to(server)

    CALLS[call](egress, server.url("/"), soon)

    assert len(server.seen) == 1
    assert (server.host, server.port) in [address for _, address in connects]
