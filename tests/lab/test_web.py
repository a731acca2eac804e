"""The general HTTP vendor: invoices, charges with Idempotency-Key, API keys, and what HTTP clients stumble over."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable

import pytest

from tests.counterparts.lab import Lab
from tests.lab.conftest import Http


@pytest.fixture
def base(lab: Lab) -> str:
    return lab.services["web"]["base_url"]


def test_an_invoice_is_the_same_at_each_call(http: Http, base: str) -> None:
    first, second = (http.get(f"{base}/invoices/001").json for _ in range(2))

    assert first == second
    assert first["number"] == "INV-001"
    assert http.get(first["document_url"]).body.startswith(b"%PDF")
    assert http.get(f"{base}/invoices/unknown").status == 404


def test_a_charge_happens_once_for_a_key(lab: Lab, http: Http, base: str) -> None:
    key = {"Idempotency-Key": "k-1"}

    first = http.post(f"{base}/charges", {"amount": 1}, headers=key)
    second = http.post(f"{base}/charges", {"amount": 1}, headers=key)
    other = http.post(f"{base}/charges", {"amount": 2}, headers=key)

    assert (first.status, first.json) == (second.status, second.json)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert other.status == 422
    assert lab.effects("web")["keys"] == {"k-1": 1}


def test_a_charge_without_a_key_happens_each_time(lab: Lab, http: Http, base: str) -> None:
    for _ in range(2):
        http.post(f"{base}/charges", {"amount": 1})

    assert lab.effects("web")["count"] == 2


SCHEMES: dict[str, Callable[[dict[str, str]], tuple[str, dict[str, str]]]] = {
    "header": lambda given: ("", {"X-Api-Key": given["api_key"]}),
    "query": lambda given: (f"?api_key={given['api_key']}", {}),
    "basic": lambda given: ("", {"Authorization": f"Basic {_basic(given['username'], given['password'])}"}),
    "bearer": lambda given: ("", {"Authorization": f"Bearer {given['bearer']}"}),
}


def _basic(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_secured_route_wants_its_own_kind_of_credential(lab: Lab, http: Http, base: str, scheme: str) -> None:
    url = f"{base}/secure/{scheme}/invoices/7"

    answers = {}
    for name, make in SCHEMES.items():
        query, headers = make(lab.services["web"])
        answers[name] = http.get(url + query, headers=headers).status

    assert answers == {name: 200 if name == scheme else 401 for name in SCHEMES}
    assert http.get(url).status == 401


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_echo_tells_what_arrived(http: Http, base: str, method: str) -> None:
    headers = {"X-Own": "yes", "Content-Type": "application/json"}

    seen = http.send(method, f"{base}/echo?a=1&b=", headers=headers, body=b'{"c":2}').json

    assert (seen["method"], seen["query"], seen["json"]) == (method, {"a": "1", "b": ""}, {"c": 2})
    assert seen["headers"]["x-own"] == "yes"


@pytest.mark.parametrize("status", [200, 201, 204, 304, 400, 404, 429, 500, 503, 599])
def test_any_status_can_be_had(http: Http, base: str, status: int) -> None:
    assert http.get(f"{base}/status/{status}").status == status


def test_redirects_lead_where_they_say(http: Http, base: str) -> None:
    away = http.get(f"{base}/redirect?to=https://else.example/x&status=307")
    chain = http.get(f"{base}/redirects/2")

    assert (away.status, away.headers["Location"]) == (307, "https://else.example/x")
    assert chain.headers["Location"] == "/redirects/1"
    assert http.get(f"{base}/redirects/1").headers["Location"] == "/echo"


def test_bodies_come_whole_slow_and_compressed(http: Http, base: str) -> None:
    assert len(http.get(f"{base}/bytes/1000001").body) == 1_000_001
    assert http.get(f"{base}/slow?bytes=5&pause_ms=1").body == b"....."
    zipped = http.get(f"{base}/gzip/1000000", headers={"Accept-Encoding": "gzip"})
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert zipped.body in (bytes(1_000_000), gzip.compress(bytes(1_000_000), 9, mtime=0))
