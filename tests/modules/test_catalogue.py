"""Finding modules by ref, without importing what is not asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from flow8_core.errors import Conflict, InternalError, ValidationFailed
from flow8_modules import Context, Effect, Field, Input, Output, catalogue, module
from flow8_modules.catalogue import Catalogue, ModuleSettings
from flow8_modules.testing import conformance
from tests import environment

OURS = ("http-request@1", "microsoft-calendar@1", "s3-upload@1", "slack-message@1")
ALONE = ModuleSettings(third_parties=False)
SDKS = ("slack_sdk", "boto3", "botocore", "msal", "googleapiclient", "celery", "pymongo")


class Asked(Input):
    """Nothing much."""

    name: str = Field(description="Name.", examples=["x"])


class Said(Output):
    """Nothing much."""

    name: str = Field(description="Name.", examples=["x"])


def stranger(ref: str, *, version: int = 1) -> Any:
    @module(ref, version=version, effect=Effect.READ)
    def verb(inputs: Asked, ctx: Context) -> Said:
        """Do something."""
        return Said(name=inputs.name)

    return verb


acme_ping = stranger("acme-ping")
acme_both = [stranger("acme-a"), stranger("acme-b", version=3)]
shadow = stranger("slack-message", version=1)
newer = stranger("slack-message", version=2)


def points(*names: str) -> list[EntryPoint]:
    return [EntryPoint(name, f"{__name__}:{name}", catalogue.GROUP) for name in names]


def test_what_we_ship_is_listed() -> None:
    assert Catalogue(ALONE).refs() == OURS


@pytest.mark.parametrize("key", OURS)
def test_a_ref_stands_for_its_newest_version_and_may_be_pinned(key: str) -> None:
    ours = Catalogue(ALONE)

    assert ours.get(key) is ours.get(key.partition("@")[0])
    assert key == ours.get(key).key


@pytest.mark.parametrize(
    ("ref", "hint"),
    [
        ("slack-mesage", "did you mean slack-message"),
        ("s3upload", "did you mean s3-upload"),
        ("slack-message@2", "there is 1"),
        ("quite-something-else-xyz", "flow8 modules"),
        ("Slack-Message", "reads slack-message"),
        ("slack_message", "reads slack-message"),
        ("../slack-message", "reads slack-message"),
        ("slack-message@0", "reads slack-message"),
        ("slack-message@latest", "reads slack-message"),
        ("slack-message@1@1", "reads slack-message"),
        ("slack-message ", "reads slack-message"),
        ("ѕlack-message", "reads slack-message"),
        ("", "reads slack-message"),
        ("x" * 100_000, "reads slack-message"),
        (None, "reads slack-message"),
        ({"$ne": None}, "reads slack-message"),
    ],
)
def test_an_unknown_ref_is_refused_with_near_matches(ref: Any, hint: str) -> None:
    with pytest.raises(ValidationFailed, match=hint) as caught:
        Catalogue(ALONE).get(ref)

    assert caught.value.path == "module_ref"


def test_looking_imports_no_vendor_sdk() -> None:
    program = (
        "import sys\n"
        "from flow8_modules.catalogue import Catalogue\n"
        "catalogue = Catalogue()\n"
        "for ref in catalogue.refs(): catalogue.describe(ref)\n"
        f"print([name for name in {SDKS!r} if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        env=environment.clean(),
        check=False,
    )

    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_the_table_is_what_the_sources_say() -> None:
    assert json.loads(catalogue.TABLE.read_text(encoding="utf-8")) == catalogue.generate()


@pytest.mark.parametrize("key", OURS)
def test_our_modules_keep_the_conventions(key: str) -> None:
    assert conformance(Catalogue(ALONE).get(key)) == []


@pytest.mark.parametrize("key", OURS)
def test_examples_are_valid_by_the_published_schemas(key: str) -> None:
    described = Catalogue(ALONE).describe(key)

    for schema, example in (("input", "args_example"), ("output", "out_example")):
        jsonschema.Draft202012Validator.check_schema(described[schema])
        jsonschema.validate(described[example], described[schema])


def test_installed_packages_bring_modules() -> None:
    found = Catalogue(points=points("acme_ping", "acme_both"))

    assert (*("acme-a@1", "acme-b@3", "acme-ping@1"), *OURS) == found.refs()
    assert acme_ping is found.get("acme-ping")
    assert acme_both[1] is found.get("acme-b")


def test_a_package_may_be_named_in_the_settings() -> None:
    found = Catalogue(ModuleSettings(third_parties=False, packages=("tests.modules.acme",)))

    assert found.get("acme-greet@1").ref == "acme-greet"


def test_third_parties_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(catalogue.SWITCH, "off")

    assert Catalogue(points=points("acme_ping")).refs() == OURS


def test_a_stranger_may_not_take_the_place_of_ours() -> None:
    with pytest.raises(Conflict, match="entry point shadow brings a second module slack-message@1"):
        Catalogue(points=points("shadow")).refs()


def test_a_strangers_newer_version_of_ours_is_not_what_a_flow_gets() -> None:
    found = Catalogue(points=points("newer"))

    assert found.get("slack-message").version == 1
    with pytest.raises(ValidationFailed):
        found.get("slack-message@2")


def test_a_package_that_cannot_be_loaded_is_named_and_ours_go_on() -> None:
    broken = Catalogue(points=[EntryPoint("broken", "tests.modules.no_such_module", catalogue.GROUP)])

    assert broken.get("slack-message").ref == "slack-message"
    with pytest.raises(InternalError, match="broken cannot be loaded"):
        broken.get("acme-ping")


def described(**changes: Any) -> dict[str, Any]:
    shape = {
        "input": {"properties": {"a": {}, "b": {}}, "required": ["a"]},
        "output": {"properties": {"x": {}}},
    }
    return {"m@1": {"path": "p", "module": {**shape, **changes}}}


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, []),
        ({"input": {"properties": {"a": {}, "b": {}, "c": {}}, "required": ["a"]}}, []),
        ({"input": {"properties": {"a": {}}, "required": ["a"]}}, ["m@1: input b is gone"]),
        ({"input": {"properties": {"a": {}, "b": {}}, "required": ["a", "b"]}}, ["m@1: input b is now required"]),
        ({"output": {"properties": {}}}, ["m@1: output x is gone"]),
    ],
)
def test_changes_that_break_older_flows_ask_for_a_new_version(changes: dict[str, Any], broken: list[str]) -> None:
    assert broken == catalogue.breaking(described(), described(**changes))


def test_the_command_writes_and_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(catalogue, "TABLE", tmp_path / "catalogue.json")

    assert catalogue.main(["--check"]) == 1
    assert catalogue.main(["--write"]) == 0
    assert catalogue.main(["--check"]) == 0
    assert "out of date" in capsys.readouterr().err
