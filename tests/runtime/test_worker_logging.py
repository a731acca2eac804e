"""Celery puts handlers of its own on its loggers unless it is kept from it; none of them redacts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import environment

PROGRAM = """
import logging
import worker
from celery.utils.log import get_task_logger
from flow8_core import logging as flow8_logging, redaction

redaction.register("canary-hunter2")
worker.app.log.setup(loglevel="DEBUG", redirect_stdouts=False)  # what `celery worker` does before it forks
for name in ("celery.worker", "celery.app.trace", "multiprocessing", "billiard"):
    logging.getLogger(name).error("value %s", "canary-hunter2")
get_task_logger("flow8.task").error("value %s", "canary-hunter2")
flow8_logging.self_test()
"""


@pytest.mark.parametrize("level", [pytest.param("INFO", marks=pytest.mark.proof), "DEBUG"])
def test_no_handler_of_a_started_worker_lets_a_secret_through(tmp_path: Path, level: str) -> None:
    program = PROGRAM.replace('"DEBUG"', repr(level))
    home = environment.clean(FLOW8_HOME=str(tmp_path), FLOW8_BROKER="redis://127.0.0.1:1/0")

    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=home, capture_output=True, text=True)

    assert "canary-hunter2" not in ended.stdout + ended.stderr
    assert "value [secret]" in ended.stderr
    assert ended.returncode == 0, ended.stderr
