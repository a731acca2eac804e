"""Bad usage and input: exit 2, the place that is at fault, and never the value."""

from __future__ import annotations

import json

import pytest

from flow8_core.errors import Flow8Error
from tests.cli.kit import Home

CANARY = "canary-hunter2-in-the-wrong-place"
FLOW = {"name": "f", "steps": [{"name": "a", "module_ref": "http-request", "input_mapping": {"url": "https://x.org"}}]}

BAD_INPUT = [
    # command line, stdin, path of the fault
    (["run"], "", "command line"),
    (["run", "-", "--timeout", "soon"], "", "command line"),
    (["run", "missing.yaml"], "", "FLOW"),
    (["run", "."], "", "FLOW"),
    (["run", "-"], "", "$"),
    (["run", "-"], "\udcff", "$"),
    (["run", "-"], "name: x", "steps"),
    (["run", "-"], '{"name": "x", "steps": []}', "steps"),
    (["run", "flow.json", "--input", "missing.json"], "", "--input"),
    (["run", "flow.json", "--input", "-"], "[1]", "--input"),
    (["run", "flow.json", "--input", "-"], '{"a": NaN}', "--input"),
    (["run", "flow.json", "--input", "-"], '{"a": 1, "a": 2}', "--input.a"),
    (["run", "-", "--input", "-"], "{}", "--input"),
    (["run", "flow.json", "--file", "invoice.pdf"], "", "--file"),
    (["run", "flow.json", "--file", "a=missing.pdf"], "", "--file"),
    (["run", "flow.json", "--file", "../a=flow.json"], "", "--file"),
    (["run", "flow.json", "--company", "acme"], "", "company"),
    (["run", "flow.json", "--user", CANARY], "", "user"),
    (["check", "missing.yaml"], "", "FLOW"),
    (["plays", "--limit", "0"], "", "command line"),
    (["plays", "a", CANARY], "", "command line"),
    (["modules", "slack-mesage"], "", "module_ref"),
    (["modules", "../etc/passwd"], "", "module_ref"),
    (["link", "connect"], "", "command line"),
    (["link", "connect", "slakc"], "", "service"),
    (["link", "connect", "slack", "--for", "missing.yaml"], "", "--for"),
    (["link", "import", "missing.jsonl"], "", "FILE"),
    (["link", "import", "-"], "{", "line 1"),
    (["link", "import", "-"], json.dumps({"service": "slack", "access_token": CANARY}), "line 1.provider_user_id"),
    (["component", "add"], "", "--name"),
    (["component", "add", "--file", "missing.json"], "", "--file"),
    (["component", "add", "--file", "-"], CANARY, "--file"),
    (["component", "add", "--file", "-"], '["a"]', "--file"),
    (["component", "add", "--file", "-"], "{}", "name"),
    (["component", "add", "--file", "-", "--name", "x"], "{}", "--file"),
    (["component", "add", "--name", "x", "--kind", "cloud"], "", "--kind"),
    (["component", "add", "--name", "x", "--kind", "ai", "--set", "model"], "", "--set"),
    (["component", "add", "--name", "x", "--kind", "ai", "--set", f"api_key={CANARY}"], "", "--set"),
    (["component", "add", "--name", "x", "--kind", "ai", "--set", "model=a", "--set", "model=b"], "", "--set"),
    (["component", "add", "--name", "x", "--kind", "request", "--set", "auth=a", "--set", "auth.type=b"], "", "--set"),
    (["component", "add", "--name", "x", "--kind", "request", "--set", f"auth.value={CANARY}"], "", "--set"),
    (["component", "add", "--name", "x", "--kind", "ai", "--secret", f"api_key={CANARY}"], "", "--secret"),
    (["component", "add", "--name", "x", "--kind", "ai", "--secret", CANARY], "", "--secret"),
    (["component", "add", "--name", "x", "--kind", "ai", "--secret", "api_key", CANARY], "", "command line"),
    (["component", "add", "--name", "x", "--kind", "ai", "--secret", "api_key"], "", "--secret"),
    (["component", "add", "--name", "x", "--kind", "ai", "--secret", "api_key"], f"{CANARY}\nmore", "--secret"),
    (["component", "add", "--name", "x", "--kind", "ai", "--secret-file", "api_key=missing"], "", "--secret-file"),
    (["component", "add", "--name", "x", "--kind", "ai", "--set", "provider=none"], "", "config.provider"),
    (["component", "add", "--secret-key", CANARY], "", "command line"),
    (["serve", "--port", "70000"], "", "command line"),
    (["worker", "--log-level", "LOUD"], "", "--log-level"),
    (["worker", "--processes", "0"], "", "command line"),
    (["unknown"], "", "command line"),
]


def _name(part: object) -> str | None:
    return " ".join(part) if isinstance(part, list) else None


@pytest.mark.parametrize(("arguments", "text", "path"), BAD_INPUT, ids=_name)
def test_bad_input_ends_with_2_and_says_where(home: Home, arguments: list[str], text: str, path: str) -> None:
    home.write("flow.json", FLOW)
    as_json = [*arguments, "--json"] if arguments[0] not in ("serve", "worker") else arguments

    done = home.flow8(*as_json, text=text)

    assert done.code == 2, done.said
    assert CANARY not in done.said
    if as_json is not arguments:
        error = done.document["error"]
        assert (error["code"], error["path"]) == ("validation_error", path)
        assert set(Flow8Error("x").to_dict()) <= set(error)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("arguments", "text", "path"), BAD_INPUT[:12], ids=_name)
def test_without_json_the_fault_is_told_on_stderr_alone(home: Home, arguments: list[str], text: str, path: str) -> None:
    home.write("flow.json", FLOW)

    done = home.flow8(*arguments, text=text)

    assert (done.code, done.stdout) == (2, "")
    assert "validation_error" in done.stderr


def test_all_faults_of_a_flow_are_told_at_once(home: Home) -> None:
    steps = [{"name": "a b", "module_ref": "x"}, {"name": "c", "module_ref": "UPPER", "timeout": -1}]

    done = home.flow8("run", "-", text=json.dumps({"name": "f", "steps": steps}))

    assert done.code == 2
    assert all(place in done.stderr for place in ("steps[0].name", "steps[1].module_ref", "steps[1].timeout"))


def test_bad_settings_name_the_key_and_not_the_value(home: Home) -> None:
    home.settings(oauth2={"slack": {"client_id": "1", "client_secret": "", "scope": CANARY}}, egres={})

    done = home.flow8("plays", "--json")

    assert done.code == 2
    places = {problem["path"] for problem in done.document["error"]["problems"]}
    assert places == {"oauth2.slack.scope", "oauth2.slack.client_secret", "egres"}
    assert CANARY not in done.said


def test_a_shared_database_wants_to_know_who_acts(home: Home) -> None:
    home.settings(store="mongodb://127.0.0.1:1/flow8")

    done = home.flow8("plays", "--json")

    assert (done.code, done.document["error"]["path"]) == (2, "company")


def test_what_is_not_there_is_an_error_of_the_command_and_not_of_its_usage(home: Home) -> None:
    for arguments in (["plays", "6923f0c2a7d1e84b5c0f9a12"], ["link", "show", "x"], ["component", "show", "x"]):
        done = home.flow8(*arguments, "--json")

        assert (done.code, done.document["error"]["code"]) == (1, "not_found"), arguments


def test_a_log_level_that_is_none_is_named(home: Home) -> None:
    home.environ["FLOW8_LOG_LEVEL"] = "LOUD"

    done = home.flow8("plays", "--json")

    assert (done.code, done.document["error"]["path"]) == (2, "FLOW8_LOG_LEVEL")
