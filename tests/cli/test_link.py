"""`flow8 link`: the dance through the callback, ours or our API's, and what is told of links."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import ProxyHandler, build_opener

import pytest
import yaml

from flow8_lab.client import Lab
from flow8_runtime.definition import Flow
from tests import processes
from tests.cli.kit import Home, Running
from tests.flows.deployment import SCOPES, Deployment

TOLD_OF_ONE = {"message", "forecast", "vendor", "scopes_missing", "waiting"}  # beside what any answer says of a link

opener = build_opener(ProxyHandler({}))


def connecting(office: Home, *arguments: str) -> tuple[Running, str]:
    """`link connect`, and the address that it sends the browser to."""
    running = office.begin("link", "connect", *arguments, "--json", "--no-browser", "--timeout", "20")
    return running, json.loads(running.first_line())["authorize_url"]


def arrive(url: str) -> str:
    """The browser comes back; the page that it sees."""
    try:
        with opener.open(url, timeout=30) as page:
            return str(page.read().decode())
    except HTTPError as error:
        with error:
            return error.read().decode()


@contextmanager
def serving(office: Home) -> Iterator[None]:
    """`flow8 serve` beside it."""
    server = office.start("serve")
    port = port_of(office)
    processes.until(lambda: _answers(port), "flow8 serve")
    try:
        yield
    finally:
        server.terminate()
        server.communicate(timeout=10)


def port_of(office: Home) -> int:
    settings = yaml.safe_load((office.folder / "flow8.yaml").read_text())
    return int(urlsplit(settings["public_url"]).port or 0)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("served", ["by our API", "by itself"])
def test_connect_prints_the_address_first_and_the_link_at_the_end(
    office: Home, deployment: Deployment, served: str
) -> None:
    with serving(office) if served == "by our API" else nullcontext():
        running, url = connecting(office, "slack", "--scope", "files:write")
        page = arrive(deployment.lab.visit(url))
        done = running.done()

    assert done.code == 0, done.said
    assert "Slack is connected" in page
    assert len(done.stdout.splitlines()) == 2
    link = json.loads(done.stdout.splitlines()[1])["link"]
    assert (link["service"], link["status"]) == ("slack", "active")
    assert set(link["scopes"]) == {"files:write"}  # the service's usual ones are asked for where nobody names any
    assert [each["id"] for each in office.flow8("link", "list", "--json").document["links"]] == [link["id"]]


def test_reconnecting_keeps_the_links_id_and_widens_its_scopes(
    office: Home, deployment: Deployment, connected: dict[str, str]
) -> None:
    running, url = connecting(office, "slack", "--reconnect", connected["slack"], "--scope", "files:read")
    arrive(deployment.lab.visit(url))
    done = running.done()

    link = json.loads(done.stdout.splitlines()[1])["link"]
    assert (done.code, link["id"]) == (0, connected["slack"])
    assert "files:read" in link["scopes"]


def test_strangers_at_the_callback_end_nothing_and_whoever_declines_ends_the_command_with_1(
    office: Home, deployment: Deployment
) -> None:
    unknown = "A" * 43
    running, url = connecting(office, "slack")

    for query in ("", "?state=x&code=y", f"?state={unknown}&code=y", f"?state={unknown}&error=access_denied"):
        arrive(f"http://127.0.0.1:{port_of(office)}/auth/callback/slack{query}")
    page = arrive(deployment.lab.visit(url, decision="deny"))
    done = running.done()

    assert done.code == 1
    assert json.loads(done.stdout.split("\n", 1)[1])["error"]["code"] == "access_denied"
    assert "declined" in done.stdout
    assert "Not connected" in page


def test_connecting_asks_for_what_the_companys_flows_need(office: Home, deployment: Deployment) -> None:
    mapping = {"channel": "#a", "message": "x", "icon_emoji": ":tada:"}
    posts = {"name": "posts", "steps": [{"name": "a", "module_ref": "slack-message", "input_mapping": mapping}]}
    who = {"company_id": deployment.company_id, "user_id": deployment.user_id}
    deployment.platform.ledger.submit(Flow.parse(posts), {}, **who)

    done = office.flow8("link", "connect", "slack", "--json", "--no-browser", "--timeout", "1")

    url = json.loads(done.stdout.split("\n", 1)[0])["authorize_url"]
    assert parse_qs(urlsplit(url).query)["scope"] == ["chat:write,chat:write.customize"]


def test_connecting_for_a_flow_asks_for_what_its_steps_need(office: Home, deployment: Deployment) -> None:
    mapping = {"channel": "#a", "message": "x", "username": "y"}
    flow = {"name": "f", "steps": [{"name": "a", "module_ref": "slack-message", "input_mapping": mapping}]}
    options = ["--json", "--no-browser", "--timeout", "1"]

    done = office.flow8("link", "connect", "slack", "--for", office.write("flow.json", flow), *options)

    first, last = done.stdout.split("\n", 1)
    assert "chat%3Awrite.customize" in json.loads(first)["authorize_url"]
    assert (done.code, json.loads(last)["error"]["code"]) == (1, "execution_timeout")  # nobody came back


class _Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"status": "ok", "service": "flow8-modules", "deployment": "another"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_another_program_on_the_callbacks_port_is_refused_before_anybody_is_sent_away(
    office: Home, deployment: Deployment
) -> None:
    with HTTPServer(("127.0.0.1", port_of(office)), _Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        done = office.flow8("link", "connect", "slack", "--json", "--no-browser")
        stranger.shutdown()

    assert done.code == 2
    assert done.document["error"]["path"] == "port"
    assert "public_url" in done.document["error"]["message"]


def test_a_service_without_an_application_says_what_to_configure(home: Home) -> None:
    done = home.flow8("link", "connect", "slack", "--json", "--no-browser")

    assert (done.code, done.document["error"]["code"]) == (1, "provider_misconfigured")
    assert "oauth2.slack" in done.document["error"]["message"]


def test_imported_links_are_told_without_their_tokens(office: Home, deployment: Deployment) -> None:
    lines = [deployment.lab.grant(service, scopes=SCOPES[service]) for service in SCOPES]
    name = office.write("links.jsonl", "\n".join(map(json.dumps, lines)) + "\n")

    imported = office.flow8("link", "import", name, "--json")
    said = imported.said + office.flow8("link", "list").said
    for link in imported.document["links"]:
        said += office.flow8("link", "show", link["id"]).said + office.flow8("link", "show", link["id"], "--json").said

    assert [set(link) for link in imported.document["links"]] == [
        {"id", "service", "status", "status_reason", "account", "scopes", "token_expiry", "refresh_at"}
    ] * 2
    assert not any(
        line[token] in said for line in lines for token in ("access_token", "refresh_token") if line.get(token)
    )


def test_a_line_at_fault_keeps_all_lines_out(office: Home, deployment: Deployment) -> None:
    good = deployment.lab.grant("slack", scopes=SCOPES["slack"])

    imported = office.flow8("link", "import", "-", "--json", text=f"{json.dumps(good)}\n{{}}\n")

    assert imported.code == 2
    assert office.flow8("link", "list", "--json").document == {"links": []}


def test_a_link_is_tested_as_the_seed_answers_it(office: Home, lab: Lab, connected: dict[str, str]) -> None:
    tested = office.flow8("link", "test", connected["slack"], "--json")

    assert tested.code == 0
    assert set(tested.document) == {"status", "service", "latency_ms", "token_valid", "scopes_granted", "user"}
    assert (tested.document["status"], tested.document["token_valid"]) == ("ok", True)


def test_a_revoked_link_fails_its_test_with_1(office: Home, lab: Lab, connected: dict[str, str]) -> None:
    lab.control("/revoke", {"service": "slack"})

    tested = office.flow8("link", "test", connected["slack"], "--json")

    assert tested.code == 1
    assert (tested.document["status"], tested.document["token_valid"]) == ("failed", False)
    assert tested.document["error"]["code"] == "token_revoked"  # the first answer, though a renewal was tried


def test_a_link_is_refreshed_by_wish_and_told_without_its_tokens(
    office: Home, deployment: Deployment, connected: dict[str, str]
) -> None:
    refreshed = office.flow8("link", "refresh", connected["slack"], "--json")

    assert refreshed.code == 0
    assert refreshed.document["status"] == "active"
    shown = office.flow8("link", "show", connected["slack"], "--json").document
    assert set(shown) == set(refreshed.document) | TOLD_OF_ONE
    assert deployment.platform.links(deployment.company_id).get(connected["slack"]).generation == 2
    assert deployment.lab.requests("slack")["operations"] == {"token.refresh": 1}


def test_all_links_of_a_service_are_refreshed_and_those_that_could_not_be_say_why(
    office: Home, deployment: Deployment, connected: dict[str, str]
) -> None:
    deployment.lab.fault("slack", "html", "token.refresh")

    refreshed = office.flow8("link", "refresh", "--service", "slack", "--json")

    assert refreshed.code == 1
    (answer,) = refreshed.document["links"]
    assert (answer["id"], answer["status"]) == (connected["slack"], "active")
    assert answer["error"]["code"] == "provider_unavailable"
    assert office.flow8("link", "refresh", "--service", "microsoft", "--json").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        ((), 2, "validation_error"),
        (("6923f0c2a7d1e84b5c0f9a12", "--service", "slack"), 2, "validation_error"),
        (("6923f0c2a7d1e84b5c0f9a12",), 1, "not_found"),
        (("--service", "slak"), 2, "validation_error"),
    ],
)
def test_a_wish_for_nothing_that_is_there_says_so(
    home: Home, arguments: tuple[str, ...], code: int, error: str
) -> None:
    refused = home.flow8("link", "refresh", *arguments, "--json")

    assert (refused.code, refused.document["error"]["code"]) == (code, error)


def test_what_the_user_did_not_grant_is_told_at_once_and_later(office: Home, deployment: Deployment) -> None:
    deployment.lab.configure("slack", granted_scopes=["chat:write"])
    running, url = connecting(office, "slack", "--scope", "chat:write", "--scope", "files:write")
    page = arrive(deployment.lab.visit(url))
    done = running.done()

    last = json.loads(done.stdout.splitlines()[1])
    assert (done.code, last["scopes_missing"]) == (0, ["files:write"])
    assert "Not granted: files:write" in done.stderr
    assert "Not all permissions were granted" in page
    shown = office.flow8("link", "show", last["link"]["id"], "--json").document
    assert (shown["scopes"], shown["scopes_missing"]) == (["chat:write"], ["files:write"])
