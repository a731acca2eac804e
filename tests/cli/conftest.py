"""Folders to run the command in: empty, with keys, and connected to the laboratory."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from credentials import kdf
from flow8_lab.client import Lab
from tests import environment, keys
from tests.cli.kit import Home
from tests.core.test_logging import _logging_restored  # noqa: F401  # a fixture: the command sets up logging
from tests.flows.deployment import SCOPES, Deployment, deploy

GATHERED = functools.cache(typer.main.get_command)


@pytest.fixture(autouse=True)
def _a_process_is_begun_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To derive keys and to gather the commands is a fifth of a second for each process, and a command in this one has
    none of its own."""
    monkeypatch.setattr(kdf, "derive", keys.derive)
    monkeypatch.setattr(typer.main, "get_command", GATHERED)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Embedded mode with keys, and nothing connected."""
    return Home(tmp_path, environment.clean(**keys.ENVIRON))


@pytest.fixture
def deployment(tmp_path: Path, lab: Lab) -> Iterator[Deployment]:
    """Embedded mode beside the laboratory, with a bundled broker."""
    deployed = deploy(tmp_path, lab, store=f"sqlite:///{tmp_path / 'flow8.db'}", broker=None)
    yield deployed
    deployed.close()


@pytest.fixture
def office(deployment: Deployment) -> Home:
    """The command for a user of `deployment`."""
    who = {"FLOW8_COMPANY": str(deployment.company_id), "FLOW8_USER": str(deployment.user_id)}
    return Home(deployment.folder, {**deployment.environ, **who})


@pytest.fixture
def connected(deployment: Deployment, office: Home) -> dict[str, str]:
    """Slack and Microsoft linked, S3 stored: their ids by service."""
    lines = [json.dumps(deployment.lab.grant(service, scopes=SCOPES[service])) for service in SCOPES]
    links = office.flow8("link", "import", "-", "--json", text="\n".join(lines)).document["links"]
    added = office.flow8("component", "add", "--file", "-", "--json", text=json.dumps(s3_component(deployment.lab)))
    return {**{link["service"]: link["id"] for link in links}, "s3": added.document["id"]}


def s3_component(lab: Lab) -> dict[str, Any]:
    """The laboratory's S3 as the body of a component."""
    s3 = lab.services["s3"]
    config = {name: s3[name] for name in ("bucket", "region", "endpoint", "access_key_id", "secret_access_key")}
    return {"name": "s3", "kind": "storage", "config": {"provider": "s3", **config}}
