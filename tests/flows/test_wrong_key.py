"""A worker whose key is not the store's does not start, and writes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from credentials.kdf import generate
from flow8_runtime.platform import COLLECTIONS
from tests import forked
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
    deployment: Deployment, tmp_path: Path, kept: dict[str, str]
) -> None:
    deployment.connect("slack")
    play_id = deployment.submit({"name": "one", "steps": [STEP]})
    before = contents(deployment)
    secret, salt = generate()
    wrong = {"ENC_KEY_SECRET": secret, "ENV_KEY_SALT": salt, **kept}

    out, err = tmp_path / "out", tmp_path / "err"
    environ = {**deployment.environ, **wrong}
    worker = forked.flow8(
        "worker", "--processes", "1", environ=environ, folder=deployment.folder, stdout=out, stderr=err
    )

    assert worker.wait(30) != 0
    assert "ENC_KEY_SECRET" in err.read_text() or "ENV_KEY_SALT" in err.read_text()
    assert "Traceback" not in err.read_text()
    assert secret not in out.read_text() + err.read_text()
    assert contents(deployment) == before

    deployment.start_worker()
    assert deployment.wait(play_id)["status"] == "DONE"
