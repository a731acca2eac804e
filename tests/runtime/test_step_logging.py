"""What modules log, and what is logged of their faults, says which step of which play it is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow8_core.log_lines import FIELDS
from flow8_lab.client import Lab
from flow8_modules.module import Module
from flow8_runtime.definition import Flow
from tests.runtime.test_step_points import started


def fails(*_: object) -> None:
    raise LookupError("odd")


@pytest.mark.parametrize(("faulty", "message"), [(False, "a step carries a credential"), (True, "step failed unexp")])
def test_a_line_of_a_step_names_the_step_run(
    *,
    tmp_path: Path,
    lab: Lab,
    redis_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    faulty: bool,
    message: str,
) -> None:
    if faulty:
        monkeypatch.setattr(Module, "__call__", fails)
    url = f"{lab.services['web']['base_url']}/echo"
    read = {
        "module_ref": "http-request",
        "input_mapping": {"url": url, "headers": {"Authorization": "Bearer token_123"}},
    }
    process = started(tmp_path, lab, redis_url)
    company, user = process.platform.identity()
    flow = Flow.parse({"name": "one", "steps": [{"name": "ask", **read}]})
    play_id = process.platform.ledger.submit(flow, {}, company_id=company, user_id=user)

    process.drain()
    process.close()

    (line,) = [record for record in caplog.records if record.getMessage().startswith(message)]
    assert getattr(line, FIELDS) == {"step_run_id": f"{play_id}:ask"}
    assert bool(line.exc_info) == faulty
