"""What the pages say of keys, variables, commands, targets and states is so."""

from __future__ import annotations

import ast
import configparser
import re
import socket
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from credentials import keyring
from credentials.keyring import KeySettings, UnboundSettings
from credentials.providers.catalogue import BUILT_IN
from credentials.providers.custom import OWN_SERVER_FIELDS
from credentials.providers.settings import OAuthApp, ServiceSettings
from credentials.refresh_settings import RefreshSettings
from credentials.webhooks import EventSettings
from flow8_cli.main import app
from flow8_core.egress import EgressSettings
from flow8_modules.catalogue import ModuleSettings
from flow8_modules.effect import Effect
from flow8_runtime import app as celery_app
from flow8_runtime import queues as queues_of
from flow8_runtime import tasks
from flow8_runtime.definition import DEFAULT_TIMEOUT_S, Flow
from flow8_runtime.settings import Settings, WorkerSettings
from flow8_runtime.states import LEASED, READY, TERMINAL
from tests.docs.pages import PAGES, ROOT, anchors, block, blocks, commands, links, prose, tables
from tests.floors import source_files

CONFIGURATION = ROOT / "docs" / "configuration.md"
SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": Settings,
    "keys": KeySettings,
    "keys.unbound": UnboundSettings,
    "oauth2.<service>": OAuthApp,
    "services.<service>": ServiceSettings,
    "events": EventSettings,
    "refresh": RefreshSettings,
    "egress": EgressSettings,
    "worker": WorkerSettings,
    "modules": ModuleSettings,
}
FOLLOWS = {"store": "`sqlite:///{home}/flow8.db`", "workspace": "`{home}/workspace`"}  # from other keys


def default(name: str, field: FieldInfo) -> str:
    """A key's default as the page writes it."""
    value: Any = field.get_default(call_default_factory=True)
    if name in FOLLOWS:
        return FOLLOWS[name]
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "see below"
    if value is None or value in ((), {}):
        return "none"
    if value == " ":
        return "one space"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_of_the_configuration_is_there_with_its_default_and_no_other(heading: str) -> None:
    said = {key.strip("`"): value for key, value, _ in tables(CONFIGURATION)[heading]}

    assert said == {name: default(name, field) for name, field in SECTIONS[heading].model_fields.items()}


def test_what_follows_from_other_keys_does_so(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)

    assert settings.store == FOLLOWS["store"].strip("`").format(home=tmp_path)
    assert str(settings.workspace_root) == FOLLOWS["workspace"].strip("`").format(home=tmp_path)


def test_the_known_services_and_their_keys_are_those_of_the_page() -> None:
    own = [name for name in OAuthApp.model_fields if name not in OWN_SERVER_FIELDS]

    assert list(OAuthApp.model_fields)[: len(own)] == own
    assert (len(own), sorted(BUILT_IN)) == (12, ["bexio", "clio", "google", "microsoft", "quickbooks", "slack"])


def test_every_variable_that_we_read_is_on_the_page_and_no_other() -> None:
    rows = tables(CONFIGURATION)["Variables that are no keys"]
    said = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    keys = {f"FLOW8_{name.upper()}" for name in Settings.model_fields}

    assert said == read_variables() - keys


def read_variables() -> set[str]:
    """The names of variables that stand as a text in our source, and those that follow from them."""
    name = re.compile(r"(FLOW8|ENC_KEY|ENV_KEY)_[A-Z_]*[A-Z]")
    trees = [ast.parse(path.read_text()) for path in source_files(ROOT)]
    texts = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    found = {text for text in texts if isinstance(text, str) and name.fullmatch(text)}
    return found - {"ENV_KEY"} | {keyring.NEXT, keyring.PREVIOUS}


def test_every_command_and_option_that_a_page_names_exists() -> None:
    lines = sorted(set(commands("flow8")))

    assert len(lines) > 20
    assert [f"{page}: {line}: {fault}" for page, line in lines for fault in faults(line.split()[1:])] == []


@cache
def gathered() -> Any:
    """All commands, as Click has them."""
    return typer.main.get_command(app)


def faults(words: list[str]) -> Iterator[str]:
    """What is wrong with a command line's subcommands and options."""
    command: Any = gathered()
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            yield f"there is no {words[0]}"
            return
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    yield from (f"has no {word}" for word in words if word.startswith("-") and len(word) > 1 and word not in known)


def targets() -> dict[str, str]:
    return dict(re.findall(r"^([a-z]+):.*?## (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_make_target_that_a_page_names_exists() -> None:
    named = {(page, word) for page, line in commands("make") for word in line.split()[1:] if word.isalpha()}

    assert {word for _, word in named} >= {"demo", "test"}
    assert {(page, word) for page, word in named if word not in targets()} == set()


def test_the_readme_says_of_the_targets_what_make_says() -> None:
    rows = tables(ROOT / "README.md")["What there is to make"]
    said = {cells[0].strip("`"): cells[1] for cells in rows}

    assert {"demo", "test"} < said.keys()
    assert said == {name: text for name, text in targets().items() if name in said}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    dead = [str(path) for path, anchor in links(page) if not path.exists() or (anchor and anchor not in anchors(path))]

    assert dead == []


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs").glob("*.svg"))], ids=lambda page: page.name)
def test_a_page_knows_nothing_of_the_machine_that_it_was_written_on(page: Path) -> None:
    text = page.read_text()
    marks = [str(ROOT), str(Path.home()) + "/", "/tmp/pytest"] + [socket.gethostname()] * (
        len(socket.gethostname()) > 3
    )

    assert [mark for mark in marks if mark in text] == []


def test_the_picture_of_a_steps_states_shows_all_of_them_and_no_other() -> None:
    (picture,) = (each.text for each in blocks("mermaid") if each.text.startswith("stateDiagram"))
    arrows = re.findall(r"^ +(\S+) --> ([a-z_]+)", picture, re.MULTILINE)

    assert {state for arrow in arrows for state in arrow} == {"[*]", "waiting"} | READY | LEASED | TERMINAL
    assert {before for before, _ in arrows} & TERMINAL == set()


def test_the_states_in_the_contracts_are_all_that_there_are() -> None:
    text = " ".join(prose(ROOT / "docs" / "contracts.md").split())
    listed = re.search(r"Of a step: ([a-z_, ]+)\.", text)

    assert listed is not None
    assert set(listed[1].split(", ")) == {"waiting"} | READY | LEASED | TERMINAL


def test_the_keys_of_a_step_are_those_that_a_definition_has() -> None:
    filters = {"operator": "AND", "filters": []}
    step = {"name": "a", "module_ref": "x", "description": "for people", "filters": filters}
    (document,) = Flow.parse({"name": "f", "steps": [step]}).document()["steps"]
    rows = tables(ROOT / "docs" / "contracts.md")["A flow"]
    said = {key.strip("`"): default.strip("`") for key, default, _ in rows}

    assert said.keys() == document.keys() | {"description"}
    for key in ("timeout", "on_error", "on_unknown", "defer_after_ms", "queue", "priority"):
        assert said[key] == (f"{document[key]:g}" if isinstance(document[key], float) else str(document[key]))


def test_the_queues_and_tasks_are_those_of_the_celery_app() -> None:
    rows = tables(ROOT / "docs" / "contracts.md")["Messages"]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9._]+)`", " ".join(row))}
    queues = {celery_app.STEPS_QUEUE, queues_of.DRAIN_QUEUE, celery_app.UPKEEP_QUEUE}
    names = {celery_app.EXECUTE, celery_app.RUN_STEP, queues_of.DRAIN, celery_app.REFRESH_LINK, celery_app.SWEEP}

    assert named == queues | names
    assert callable(tasks.execute)


def test_the_effects_are_those_that_there_are() -> None:
    written = (ROOT / "docs" / "writing-a-module.md").read_text()

    assert set(re.findall(r"`Effect\.([A-Z]+)`", written)) == {effect.name for effect in Effect}
    said = {
        name
        for row in tables(ROOT / "docs" / "runtime.md")["A step's states"]
        for name in re.findall(r"`(\w+)`", row[0])
    }
    assert said == {effect.value for effect in Effect}


def test_every_setting_of_a_worker_is_explained_with_its_default() -> None:
    rows = tables(ROOT / "docs" / "runtime.md")["Sizing"]
    said = {row[0].strip("`"): row[2] for row in rows}
    defaults = {name: field.default for name, field in WorkerSettings.model_fields.items()}

    assert said.pop("processes") == "one a core"
    assert defaults.pop("processes") is None
    assert said == {name: f"{value:g}" for name, value in defaults.items()}


def test_the_unit_file_stops_a_worker_as_the_worker_needs_it() -> None:
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # systemd's names have capitals
    unit.read_string(block("ini", "flow8-worker.service"))

    assert unit["Service"]["KillMode"] == "mixed"
    assert int(unit["Service"]["TimeoutStopSec"]) > DEFAULT_TIMEOUT_S
    assert list(faults(unit["Service"]["ExecStart"].split()[1:])) == []


def test_the_tutorials_package_names_the_entry_point_group() -> None:
    project = tomllib.loads(block("toml", "pyproject.toml"))["project"]

    assert project["entry-points"] == {"flow8.modules": {"acme": "acme_tickets.open_ticket"}}


@pytest.mark.parametrize("room", ["credentials", "flow8_runtime"])
def test_every_file_of_a_large_room_stands_on_one_shelf(room: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.split(f"| `{room}/` | |\n", 1)[1].split("\n\n", 1)[0]

    shelved = re.findall(r"`(\w+)`", table)

    assert sorted(shelved) == sorted(path.stem for path in (ROOT / room).glob("*.py") if path.stem != "__init__")
