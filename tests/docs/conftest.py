"""One deployment for the examples: SQLite, Redis, the laboratory's Slack, Microsoft and S3 connected, a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flow8_lab.client import Lab
from tests.counterparts.redis import RedisServer
from tests.flows.deployment import Deployment, deploy

DATABASE = 6  # of the session's Redis


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, lab_process: Lab, redis_server: RedisServer
) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("examples")
    lab_process.reset()
    broker = redis_server.at(DATABASE)
    made = deploy(folder, lab_process, store=f"sqlite:///{folder / 'flow8.db'}", broker=broker)
    made.connect("slack", "microsoft")
    made.add_s3()
    made.start_worker()
    yield made
    made.close()
