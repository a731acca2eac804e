"""Every example of the pages is run: flows, settings, messages, programs in Python and JavaScript, the tutorial."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
import yaml
from bson import ObjectId

from flow8_core.errors import AccessDenied
from flow8_core.settings import load
from flow8_modules.catalogue import Catalogue, ModuleSettings
from flow8_runtime import messages
from flow8_runtime.messages import Execute, RefreshLink, RunStep
from flow8_runtime.settings import Settings
from tests import environment
from tests.docs.pages import ROOT, Block, block, blocks, tables
from tests.flows.deployment import Deployment
from tests.services import missing

HERE = Path(__file__).parent
INVOICE = ROOT / "fixtures" / "flows" / "invoice.yaml"

CONTRACTS = "docs/contracts.md"
PROGRAMS = {
    "start-step.mjs",
    "sign.mjs",
    "submit.py",
    "play_id.py",
    "acme_tickets/open_ticket.py",
    "test_open_ticket.py",
}
SHAPES = {
    *("play", "batch", "link", "link-import", "lab", "component-storage", "component-request", "component-answer"),
    "event",
    "app-event",
    *("message", "execute", "step-done", "run-step", "refresh-link"),
}

FLOWS = [each for each in blocks("yaml") if "steps:" in each.text]
SETTINGS = [each for each in blocks("yaml") if "steps:" not in each.text]


def example(name: str) -> dict[str, Any]:
    """An example of the contracts' page."""
    found: dict[str, Any] = json.loads(block("json", name, page=CONTRACTS))
    return found


def shape(value: Any) -> Any:
    """A value's members, at all depths, without its scalars; of a list, its first item's."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else None


def run(argv: list[str], *, cwd: Path, env: dict[str, str]) -> str:
    """What a program prints; it has to end well."""
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def acting(deployment: Deployment) -> dict[str, str]:
    """The environment of a program that acts for the deployment's company and user."""
    return {
        **deployment.environ,
        "FLOW8_COMPANY": str(deployment.company_id),
        "FLOW8_USER": str(deployment.user_id),
        "FLOW8_BROKER": deployment.platform.settings.broker or "",
    }


# ---- none is forgotten


def test_every_program_and_every_shape_is_one_that_a_test_below_runs() -> None:
    programs = {each.name for language in ("python", "js") for each in blocks(language)}
    shapes = {each.name for each in blocks("json") if each.page == CONTRACTS}

    assert programs == PROGRAMS
    assert shapes == SHAPES


@pytest.mark.parametrize("each", blocks("json"), ids=str)
def test_what_is_called_json_is_json(each: Block) -> None:
    assert isinstance(json.loads(each.text), dict)


# ---- flows and settings


@pytest.mark.parametrize("each", FLOWS, ids=str)
def test_a_flow_passes_every_check(deployment: Deployment, tmp_path: Path, each: Block) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text(each.text)

    assert deployment.flow8("check", str(flow), "--json")["problems"] == []


def test_the_flow_of_the_readme_is_an_excerpt_of_the_one_that_the_demo_runs() -> None:
    (shown,) = (yaml.safe_load(each.text) for each in FLOWS if each.page == "README.md")
    whole = yaml.safe_load(INVOICE.read_text())

    assert shown["name"] == whole["name"]
    assert [step for step in whole["steps"] if step in shown["steps"]] == shown["steps"]


@pytest.mark.parametrize("each", SETTINGS, ids=str)
def test_settings_are_read_as_they_stand(tmp_path: Path, each: Block) -> None:
    secrets = {f"{name}_CLIENT_SECRET": f"{uuid4()}" for name in ("SLACK", "MICROSOFT", "ACME")}
    (tmp_path / "flow8.yaml").write_text(each.text)

    settings = load(Settings, environ=secrets, cwd=tmp_path)

    assert settings.oauth2["acme"].issuer == "https://id.acme.example"


# ---- the command's answers


def test_a_play_has_the_shape_of_the_contract(deployment: Deployment, tmp_path: Path) -> None:
    flow = tmp_path / "flow.json"
    step = {"name": "notify-slack", "module_ref": "slack-message"}
    mapping = {"channel": "#notifications", "message": "nobody will read this"}
    flow.write_text(json.dumps({"name": "one", "steps": [{**step, "input_mapping": mapping}]}))

    play = deployment.flow8("run", str(flow), "--user", str(ObjectId()), "--json", exit_code=1)

    assert shape(play) == shape(example("play"))
    assert [play["status"], play["steps"][0]["error"]["code"]] == ["FAIL", "access_denied"]


def test_a_batch_has_the_shape_of_the_contract(deployment: Deployment, tmp_path: Path) -> None:
    flow = tmp_path / "flow.json"
    step = {"name": "notify-slack", "module_ref": "slack-message"}
    mapping = {"channel": "#notifications", "message": "nobody will read this"}
    flow.write_text(json.dumps({"name": "one", "steps": [{**step, "input_mapping": mapping}]}))

    told = deployment.flow8(
        "run", str(flow), "--each", "-", "--user", str(ObjectId()), "--json", text='{}\n{"n": 1, "n": 2}\n', exit_code=1
    )

    assert shape(told) == shape(example("batch"))
    assert (told["failed"], told["refused"]) == (1, 1)


@pytest.mark.parametrize("command", ["doctor", "link test ID", "keys check", "component list"])
def test_a_commands_document_has_the_members_of_the_contract(deployment: Deployment, command: str) -> None:
    rows = {line.strip("`"): text for line, text in tables(ROOT / CONTRACTS)["The command line"]}
    (link,) = deployment.platform.links(deployment.company_id).list(service="slack")
    words = [str(link.id) if word == "ID" else word for word in command.split()]

    document = deployment.flow8(*words, "--json")

    said = re.findall(r"\w+", rows[f"flow8 {command}"].partition("{")[2].partition("}")[0])
    assert said == list(document)


def test_a_link_has_the_shape_of_the_contract_and_the_import_takes_its_line(deployment: Deployment) -> None:
    line = json.dumps(example("link-import"))

    imported = deployment.flow8("link", "import", "-", "--company", str(ObjectId()), "--json", text=line)
    listed = deployment.flow8("link", "list", "--json")

    assert shape(imported) == shape(listed) == {"links": [shape(example("link"))]}


@pytest.mark.parametrize("name", ["component-storage", "component-request"])
def test_a_component_is_taken_as_it_stands_and_answered_without_its_secret(deployment: Deployment, name: str) -> None:
    body = example(name)

    answer = deployment.flow8(
        "component", "add", "--file", "-", "--company", str(ObjectId()), "--json", text=json.dumps(body)
    )

    assert shape(answer).keys() == shape(example("component-answer")).keys()
    if name == "component-storage":
        assert answer | {"id": None} == example("component-answer") | {"id": None}


def test_the_laboratory_describes_itself_as_the_contract_says(deployment: Deployment) -> None:
    assert shape(deployment.lab.description) == shape(example("lab"))


# ---- messages


@pytest.fixture
def broker(deployment: Deployment) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(deployment.platform.settings.broker or "") as client:
        yield client


def send(broker: redis.Redis, task: str, kwargs: dict[str, Any]) -> None:
    """LPUSH of the page's message with another task and body."""
    message = example("message")
    message["body"] = base64.b64encode(json.dumps([[], kwargs, {}]).encode()).decode()
    message["headers"] = {**message["headers"], "task": task, "id": str(uuid4()), "root_id": str(uuid4())}
    message["properties"] |= {"delivery_tag": str(uuid4()), "delivery_info": {"exchange": "", "routing_key": "flow8"}}
    broker.lpush("flow8", json.dumps(message))


def answer(broker: redis.Redis, queue: str) -> dict[str, Any]:
    """The keyword arguments of the next message of a queue."""
    popped: Any = broker.brpop([queue], timeout=20)
    message = json.loads(popped[1])
    assert message["headers"]["task"] == "flow8.step_done"
    _, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    found: dict[str, Any] = kwargs
    return found


def test_a_message_without_arguments_is_what_the_page_shows() -> None:
    message = example("message")

    assert base64.b64decode(message["body"]) == b"[[],{},{}]"


@pytest.mark.parametrize(
    ("name", "model"), [("execute", Execute), ("run-step", RunStep), ("refresh-link", RefreshLink)]
)
def test_a_messages_arguments_are_taken_as_they_stand(name: str, model: type[Any]) -> None:
    body = example(name)

    parsed = messages.parse(model, body, None)

    assert parsed.model_dump(mode="json") == body


def test_execute_is_answered_with_step_done_and_a_second_time_with_the_same(
    deployment: Deployment, broker: redis.Redis
) -> None:
    who = {"company_id": str(deployment.company_id), "user_id": str(deployment.user_id)}
    kwargs = example("execute") | who | {"play_id": str(uuid4()), "reply_to": "contracts.answers"}
    before = deployment.lab.effects("slack")["count"]

    send(broker, "flow8.execute", kwargs)
    first = answer(broker, "contracts.answers")
    send(broker, "flow8.execute", kwargs)
    second = answer(broker, "contracts.answers")

    assert first == second
    assert shape(first) == shape(example("step-done"))
    assert first["status"] == "done", first
    assert first["step_run_id"] == f"{Execute.model_validate(kwargs).ledger_id}:notify-slack"
    assert deployment.lab.effects("slack")["count"] == before + 1


def test_run_step_makes_a_step_due(deployment: Deployment, broker: redis.Redis) -> None:
    mapping = {"channel": "#notifications", "message": "tomorrow"}
    step = {"name": "later", "module_ref": "slack-message", "defer_after_ms": 86_400_000, "input_mapping": mapping}
    play_id = deployment.submit({"name": "later", "steps": [step]})

    send(broker, "flow8.run_step", example("run-step") | {"step_run_id": f"{play_id}:later"})

    assert deployment.wait(play_id)["status"] == "DONE"


def test_the_plays_id_follows_as_the_page_computes_it(tmp_path: Path) -> None:
    program = block("python", "play_id.py")
    expected = str(Execute.model_validate(example("execute")).ledger_id)

    printed = run([sys.executable, "-c", program], cwd=tmp_path, env=environment.clean())

    assert printed.strip() == expected
    assert f"# {expected}" in program
    assert example("step-done")["step_run_id"] == example("run-step")["step_run_id"] == f"{expected}:notify-slack"


# ---- programs


@pytest.fixture
def node(tmp_path: Path) -> str:
    """Node.js in a folder in which `redis` can be imported."""
    found = shutil.which("node")
    if found is None:
        missing("node is not installed")
    package = tmp_path / "node_modules" / "redis"
    package.mkdir(parents=True)
    shutil.copy(HERE / "redis.mjs", package)
    (package / "package.json").write_text('{"type": "module", "exports": "./redis.mjs"}')
    return found


def test_a_program_in_another_language_starts_a_step_and_hears_what_it_came_to(
    deployment: Deployment, node: str, tmp_path: Path
) -> None:
    program = tmp_path / "start-step.mjs"
    program.write_text(block("js", "start-step.mjs"))
    before = deployment.lab.effects("slack")["count"]

    printed = run([node, str(program)], cwd=tmp_path, env=acting(deployment))

    assert printed.startswith("flow8.step_done notify-slack done { channel: 'C0NOTIFY01', ts: ")
    assert deployment.lab.effects("slack")["count"] == before + 1


NUMBERS = {"whole": 1.0, "small": 1e-7, "large": 1e21, "tenth": 0.1, "most": 2**53 - 1}
HARD = {**NUMBERS, "é": "ü€😀\n\u2028", "😀": [None, True, {"b": 1, "a": []}], "ﬁ": "\ud83d\ude00", 'a"': ""}


def test_a_signature_made_in_javascript_is_accepted_and_a_changed_message_is_not(node: str, tmp_path: Path) -> None:
    (tmp_path / "sign.mjs").write_text(block("js", "sign.mjs"))
    kwargs = {**example("execute"), "args": HARD}
    (tmp_path / "kwargs.json").write_text(json.dumps(kwargs))
    script = """
        import { readFileSync } from "node:fs";
        import { signed } from "./sign.mjs";
        const kwargs = JSON.parse(readFileSync("kwargs.json", "utf8"));
        console.log(JSON.stringify(signed(kwargs, "a key of ours")));
    """

    printed = run([node, "--input-type=module", "-e", script], cwd=tmp_path, env=environment.clean())

    signed = json.loads(printed)
    assert messages.parse(Execute, signed, "a key of ours").play_id == kwargs["play_id"]
    with pytest.raises(AccessDenied):
        messages.parse(Execute, signed | {"play_id": "another"}, "a key of ours")


def test_the_python_door_runs_the_demos_flow(deployment: Deployment, tmp_path: Path) -> None:
    services = deployment.lab.services
    args = {"billing_url": services["web"]["base_url"], "invoice": "001", "bucket": services["s3"]["bucket"]}
    shutil.copy(INVOICE, tmp_path)
    (tmp_path / "args.json").write_text(json.dumps(args))
    program = block("python", "submit.py")

    printed = run([sys.executable, "-c", program], cwd=tmp_path, env=acting(deployment))

    assert printed.strip() == "DONE ['done', 'done', 'done', 'done']"


# ---- the tutorial


@pytest.fixture
def tutorial(tmp_path: Path) -> Path:
    """The tutorial's package and test as files."""
    for each in blocks("python"):
        if each.page == "docs/writing-a-module.md":
            path = tmp_path / each.name
            path.parent.mkdir(exist_ok=True)
            path.write_text(each.text)
    return tmp_path


def test_the_tutorials_own_test_passes(tutorial: Path) -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir", str(tutorial)]

    env = environment.clean(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    printed = run([*argv, str(tutorial)], cwd=tutorial, env=env)

    assert "5 passed" in printed


def test_the_tutorials_module_is_in_the_catalogue_once_it_is_installed_or_named(
    tutorial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = tutorial / "acme_tickets-1.0.0.dist-info" / "entry_points.txt"
    entries.parent.mkdir()
    entries.write_text("[flow8.modules]\nacme = acme_tickets.open_ticket\n")
    monkeypatch.syspath_prepend(str(tutorial))
    env = environment.clean(PYTHONPATH=os.pathsep.join([str(tutorial), str(ROOT)]))

    command = [sys.executable, "-m", "flow8_cli.main", "modules", "acme-open-ticket", "--json"]
    shown = json.loads(run(command, cwd=tutorial, env=env))
    named = Catalogue(ModuleSettings(third_parties=False, packages=("acme_tickets.open_ticket",)))

    members = tables(ROOT / CONTRACTS)["The command line"][-1][1]
    assert shown == named.describe("acme-open-ticket")
    assert re.findall(r"\w+", members) == list(shown)
    assert (shown["effect"], shown["args_example"]) == ("keyed", {"subject": "Printer on fire"})
