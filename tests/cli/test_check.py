"""`flow8 check` and the fixtures: what ships passes, and each fault is told with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.kit import Home

FIXTURES = Path(__file__).parents[2] / "fixtures"
FLOWS = sorted((FIXTURES / "flows").glob("*.yaml"))
SEED = json.loads((FIXTURES / "seed" / "steps.json").read_text())
LINKED = {"slack-message": "slack", "microsoft-calendar": "microsoft"}


@pytest.mark.parametrize("flow", FLOWS, ids=lambda path: path.name)
def test_the_flows_that_ship_pass_where_everything_is_connected(
    office: Home, connected: dict[str, str], flow: Path
) -> None:
    checked = office.flow8("check", str(flow), "--json")

    assert (checked.code, checked.document) == (0, {"ok": True, "problems": []})
    assert "Nothing is known" in office.flow8("check", str(flow)).stderr


def test_the_seeds_steps_pass_as_they_stand_with_real_ids(office: Home, connected: dict[str, str]) -> None:
    steps = [{**step, "input_mapping": dict(step["input_mapping"])} for step in SEED.values()]
    for step in steps:
        if step["module_ref"] in LINKED:
            step["input_mapping"]["link_id"] = connected[LINKED[step["module_ref"]]]

    checked = office.flow8("check", "-", "--json", text=json.dumps({"name": "seed", "steps": steps}))

    assert checked.document["problems"] == []


def test_without_anything_connected_each_step_says_what_it_lacks(home: Home) -> None:
    checked = home.flow8("check", str(FIXTURES / "flows" / "invoice.yaml"), "--json")

    assert checked.code == 1
    assert [(problem["path"], problem["code"]) for problem in checked.document["problems"]] == [
        ("steps[1].component_config_ids.storage", "access_denied"),
        ("steps[2].input_mapping.link_id", "access_denied"),
        ("steps[3].input_mapping.link_id", "access_denied"),
    ]


def test_what_is_no_flow_at_all_fails_the_check_with_its_place(home: Home) -> None:
    checked = home.flow8("check", home.write("flow.yaml", "name: [x\n"), "--json")

    assert (checked.code, checked.document["ok"]) == (1, False)
    assert "line 2" in checked.document["problems"][0]["message"]


def test_a_files_name_says_what_it_holds(home: Home) -> None:
    flow = "{name: f, steps: [{name: a, module_ref: http-request, input_mapping: {url: 'https://example.com'}}]}"

    as_yaml, as_json, unnamed = (
        home.flow8("check", source, "--json", text=flow)
        for source in (home.write("flow.yaml", flow), home.write("flow.json", flow), "-")
    )

    assert as_yaml.document["problems"] == []
    assert "This is not JSON" in as_json.document["problems"][0]["message"]
    assert "begins like JSON" in unnamed.document["problems"][0]["message"]


def test_people_see_the_problems_as_a_table(home: Home) -> None:
    flow: dict[str, Any] = {"name": "f", "steps": [{"name": "a", "module_ref": "slack-mesage"}]}

    checked = home.flow8("check", "-", text=json.dumps(flow))

    assert checked.code == 1
    assert checked.stdout.splitlines()[0].split() == ["where", "code", "what", "to", "do"]
    assert "did you mean slack-message?" in checked.stdout
