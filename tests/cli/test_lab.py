"""`flow8 lab` is the laboratory; `flow8 serve` the callback; `flow8 modules` what steps may name."""

from __future__ import annotations

import json
import signal
import socket
from urllib.request import ProxyHandler, build_opener

import pytest

from tests import processes
from tests.cli.kit import Home

OPENER = build_opener(ProxyHandler({}))


def test_the_laboratorys_first_line_says_where_everything_is(home: Home) -> None:
    laboratory = home.start("lab", "--json", "--no-s3")
    assert laboratory.stdout is not None
    described = json.loads(laboratory.stdout.readline())

    with OPENER.open(f"{described['control_url']}/health", timeout=10) as answer:
        assert json.load(answer)["status"] == "ok"
    laboratory.send_signal(signal.SIGINT)
    rest, errors = laboratory.communicate(timeout=20)

    assert {"services", "oauth2", "egress", "control_url", "ca_file"} <= set(described)
    assert rest == ""
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.proof), signal.SIGTERM])
def test_serve_answers_at_public_url_until_it_is_told_to_end(home: Home, number: signal.Signals) -> None:
    port = processes.free_port()
    home.settings(public_url=f"http://127.0.0.1:{port}")
    server = home.start("serve")
    processes.until(lambda: _answers(port), "an answer")

    with OPENER.open(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
        health = json.load(answer)
    server.send_signal(number)
    out, errors = server.communicate(timeout=20)

    assert (health["status"], health["service"]) == ("ok", "flow8-modules")
    assert (server.returncode, out) == (0, "")
    assert f"http://127.0.0.1:{port}/auth/callback/" in errors


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_serve_says_what_to_do_about_a_port_that_is_taken(home: Home) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        done = home.flow8("serve", "--port", str(port))

    assert done.code == 2
    assert f"Port {port}" in done.stderr


def test_serve_refuses_to_start_with_other_keys_than_the_stores(home: Home) -> None:
    home.flow8("keys", "check")
    home.environ |= home.flow8("keys", "generate", "--json").document

    done = home.flow8("serve", "--port", str(processes.free_port()))

    assert done.code == 1
    assert "ENC_KEY_SECRET" in done.stderr


def test_modules_are_listed_with_what_they_need(home: Home) -> None:
    listed = home.flow8("modules").stdout.splitlines()

    rows = {line.split()[0]: line for line in listed}
    assert "a slack link (chat:write)" in rows["slack-message"]
    assert "a component: storage (s3)" in rows["s3-upload"]
    assert "a component: request or a link of any service, optional" in rows["http-request"]


def test_a_module_is_shown_with_its_inputs_and_examples(home: Home) -> None:
    shown = home.flow8("modules", "slack-message").stdout
    described = home.flow8("modules", "slack-message@1", "--json").document

    assert "Channel id" in shown
    assert json.dumps(described["args_example"], indent=2, ensure_ascii=False) in shown
    assert {"ref", "version", "needs", "effect", "input", "output", "args_example", "out_example"} <= set(described)
