"""A worker whose key is not the store's does not start, and writes nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from credentials.kdf import generate
from flow8_runtime.platform import COLLECTIONS
from tests.flows.deployment import Deployment

STEP = {"name": "notify", "module_ref": "slack-message", "input_mapping": {"channel": "#notifications", "message": "x"}}


def contents(deployment: Deployment) -> dict[str, Any]:
    """Every document of every collection."""
    return {name: deployment.platform.store.find(name, {}) for name, _, _ in COLLECTIONS}


@pytest.mark.parametrize("deployment", ["embedded", pytest.param("shared", marks=pytest.mark.proof)], indirect=True)
@pytest.mark.parametrize(
    "kept",
    [
        {},
        pytest.param({"ENC_KEY_SECRET": ""}, marks=pytest.mark.proof),
        pytest.param({"ENV_KEY_SALT": ""}, marks=pytest.mark.proof),
    ],
)
def test_a_worker_with_a_wrong_or_missing_key_refuses_to_start_and_writes_nothing(
    deployment: Deployment, kept: dict[str, str]
) -> None:
    deployment.connect("slack")
    play_id = deployment.submit({"name": "one", "steps": [STEP]})
    before = contents(deployment)
    secret, salt = generate()
    wrong = {"ENC_KEY_SECRET": secret, "ENV_KEY_SALT": salt, **kept}

    ended = subprocess.run(
        [sys.executable, "-m", "flow8_cli.main", "worker", "--processes", "1"],
        env={**deployment.environ, **wrong}, cwd=deployment.folder, capture_output=True, text=True, timeout=30,
    )  # fmt: skip

    assert ended.returncode not in (0, None)
    assert "ENC_KEY_SECRET" in ended.stderr or "ENV_KEY_SALT" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert secret not in ended.stdout + ended.stderr
    assert contents(deployment) == before

    deployment.start_worker()
    assert deployment.wait(play_id)["status"] == "DONE"
