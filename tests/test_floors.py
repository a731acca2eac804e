"""Imports go down the floors, vendor packages stay in their rooms, and starting loads no vendor SDK."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import environment
from tests.floors import faults, source_files

ROOT = Path(__file__).parent.parent
VENDOR_SDKS = ("slack_sdk", "boto3", "botocore", "msal", "googleapiclient", "google", "pymongo", "oauthlib", "moto")
DOORS = ("celery", "fastapi", "uvicorn", "typer")


def test_every_import_of_the_house_follows_its_rules() -> None:
    assert faults(ROOT) == []


def test_the_house_was_really_read() -> None:
    rooms = {path.relative_to(ROOT).parts[0] for path in source_files(ROOT)}

    assert {"flow8_core", "credentials", "flow8_modules", "flow8_runtime", "flow8_lab", "worker.py"} <= rooms


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A house without a fault, with something in each room."""
    files = {
        "flow8_core/errors.py": "import json\nfrom pathlib import Path\n",
        "flow8_core/egress/__init__.py": "import requests\nfrom .pool import Pool\n",
        "flow8_core/egress/pool.py": "import urllib3\n",
        "flow8_core/store/mongo.py": "import pymongo\n",
        "credentials/vault.py": "from flow8_core import errors\nfrom nacl.secret import SecretBox\n",
        "flow8_modules/__init__.py": "from flow8_core import errors\n__all__ = ['Context', 'module']\n",
        "flow8_modules/context.py": "from credentials.vault import Vault\n",
        "flow8_modules/integrations/slack/client.py": "import slack_sdk\nfrom flow8_core.egress import Egress\n",
        "flow8_modules/integrations/slack/message.py": "from flow8_modules import Context\nimport flow8_modules\n"
        "from .client import x\nfrom flow8_modules.integrations.slack import client\n",
        "flow8_runtime/runner.py": "from flow8_modules.context import Context\nimport celery, bson\n",
        "flow8_api/links.py": "from flow8_runtime import runner\nfrom fastapi import FastAPI\n",
        "flow8_cli/serve.py": "def serve():\n    from flow8_api import links\n    import uvicorn\n",
        "flow8_cli/demo.py": "from flow8_lab.client import start\n",
        "flow8_lab/slack.py": "import json\nfrom flow8_lab import server\nimport moto\n",
        "worker.py": "from flow8_runtime.runner import run\nfrom celery import Celery\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_house_in_order_has_no_faults(house: Path) -> None:
    assert faults(house) == []


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("flow8_core/clock.py", "import credentials", "flow8_core (floor 1) may not import credentials (floor 2)"),
        ("flow8_core/clock.py", "from flow8_runtime.x import y", "may not import flow8_runtime"),
        ("flow8_core/clock.py", "def f():\n    from flow8_modules import module", "may not import flow8_modules"),
        (
            "flow8_core/clock.py",
            "if TYPE_CHECKING:\n    from credentials.links import Link",
            "may not import credentials",
        ),
        ("credentials/connect.py", "from flow8_modules.catalogue import x", "may not import flow8_modules"),
        ("flow8_modules/context.py", "from flow8_runtime import ledger", "may not import flow8_runtime"),
        ("flow8_runtime/app.py", "import worker", "may not import worker"),
        ("flow8_api/app.py", "import worker", "may not import worker"),
        ("worker.py", "from flow8_api import app", "may not import flow8_api"),
        ("worker.py", "from flow8_cli import main", "may not import flow8_cli"),
        ("flow8_lab/slack.py", "from flow8_core.errors import Flow8Error", "know nothing of each other"),
        ("flow8_cli/lab.py", "from flow8_lab import server", "know nothing of each other"),
        ("flow8_runtime/app.py", "from flow8_lab.client import start", "know nothing of each other"),
        ("flow8_core/clock.py", "import celery", "celery is seen only in flow8_runtime, worker"),
        ("credentials/refresh.py", "from celery import shared_task", "celery is seen only in"),
        ("flow8_modules/context.py", "import celery", "celery is seen only in"),
        ("credentials/links.py", "from pymongo import MongoClient", "pymongo is seen only in flow8_core.store"),
        ("credentials/oauth.py", "import requests", "requests is seen only in flow8_core.egress"),
        ("flow8_runtime/runner.py", "import slack_sdk", "slack_sdk is seen only in"),
        ("flow8_modules/integrations/slack/client.py", "import boto3", "boto3 is seen only in"),
        ("flow8_modules/context.py", "def f():\n    import nacl.secret", "nacl is seen only in credentials"),
        ("flow8_runtime/doctor.py", "import typer", "typer is seen only in flow8_cli"),
        ("flow8_modules/integrations/slack/message.py", "from flow8_core.store import Store", "not flow8_core.store"),
        ("flow8_modules/integrations/slack/message.py", "from flow8_core import errors", "not flow8_core.errors"),
        ("flow8_modules/integrations/slack/message.py", "from credentials.links import Link", "not credentials.links"),
        (
            "flow8_modules/integrations/slack/message.py",
            "from flow8_modules import catalogue",
            "an integration sees only",
        ),
        (
            "flow8_modules/integrations/slack/message.py",
            "from flow8_modules.context import Context",
            "an integration sees",
        ),
        ("flow8_modules/integrations/slack/message.py", "from ..s3.client import s3", "an integration sees only"),
        ("flow8_modules/integrations/slack/message.py", "from ...context import Context", "an integration sees only"),
        ("flow8_modules/integrations/slack/message.py", "from flow8_runtime import x", "may not import flow8_runtime"),
    ],
)
def test_an_import_that_breaks_a_rule_is_found_where_it_stands(house: Path, file: str, line: str, fault: str) -> None:
    path = house / file
    path.write_text((path.read_text() if path.exists() else "") + "x = 1\n" + line + "\n")

    (found,) = faults(house)

    assert found.startswith(f"{file}:")
    assert fault in found


@pytest.mark.parametrize(
    "room", ["flow8_core.errors", "credentials", "flow8_modules", "flow8_modules.catalogue", "worker"]
)
def test_importing_a_room_loads_no_vendor_sdk(room: str, tmp_path: Path) -> None:
    program = f"import json, sys; import {room}; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    home = environment.clean(FLOW8_HOME=str(tmp_path), FLOW8_BROKER="redis://127.0.0.1:1/0")

    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=home, capture_output=True, text=True)

    assert ended.returncode == 0, ended.stderr
    loaded = set(json.loads(ended.stdout.splitlines()[-1]))
    assert loaded.isdisjoint(VENDOR_SDKS)
    assert room == "worker" or loaded.isdisjoint(DOORS)


@pytest.mark.parametrize(
    ("program", "not_yet"),
    [
        ("flow8_cli.main", {"flow8_runtime.platform", "pydantic", "celery", "rich"}),  # most commands need less
        ("flow8_runtime.foundation", {"flow8_runtime.platform", "celery"}),  # imported while the keys are derived
        ("flow8_cli.main, worker", {"rich", "pygments", "fastapi", "uvicorn", "requests"}),
    ],
)
def test_what_takes_long_is_imported_when_it_is_needed(tmp_path: Path, program: str, not_yet: set[str]) -> None:
    home = environment.clean(FLOW8_HOME=str(tmp_path), FLOW8_BROKER="redis://127.0.0.1:1/0")
    code = f"import sys; import {program}; print(*sys.modules)"

    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=home, capture_output=True, text=True)

    assert ended.returncode == 0, ended.stderr
    assert not_yet.isdisjoint(ended.stdout.split())
