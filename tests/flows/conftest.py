"""Deployments of both kinds: embedded (SQLite) and shared (MongoDB's protocol), each with a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from flow8_lab.client import Lab
from tests.counterparts.redis import RedisServer
from tests.flows.deployment import BUSY, Deployment, deploy, standing


@pytest.fixture
def embedded(tmp_path: Path, lab: Lab, redis_url: str) -> Iterator[Deployment]:
    """SQLite and Redis."""
    deployment = deploy(tmp_path, lab, store=f"sqlite:///{tmp_path / 'flow8.db'}", broker=redis_url, worker=BUSY)
    yield deployment
    deployment.close()


@pytest.fixture
def shared(tmp_path: Path, lab: Lab, redis_url: str, mongo_uri: str) -> Iterator[Deployment]:
    """MongoDB's protocol and Redis."""
    deployment = deploy(tmp_path, lab, store=mongo_uri, broker=redis_url, worker=BUSY)
    yield deployment
    deployment.close()


@pytest.fixture(scope="module")
def standing_redis(redis_server: RedisServer) -> str:
    """A database of the session's Redis that no fixture empties while a module lasts."""
    url = redis_server.at(5)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="module")
def standing_embedded(
    tmp_path_factory: pytest.TempPathFactory, lab_process: Lab, standing_redis: str
) -> Iterator[Deployment]:
    """SQLite and Redis, with one worker for all tests of a module."""
    folder = tmp_path_factory.mktemp("standing")
    store = f"sqlite:///{folder / 'flow8.db'}"
    with standing(folder, lab_process, store=store, broker=standing_redis, worker=BUSY) as deployment:
        yield deployment


@pytest.fixture
def served(standing_embedded: Deployment, lab: Lab) -> Deployment:
    """`standing_embedded`, whose worker runs, seen from a new company."""
    standing_embedded.move_in()
    return standing_embedded


@pytest.fixture(params=["embedded", "shared"])
def deployment(request: pytest.FixtureRequest) -> Deployment:
    """One test, both kinds."""
    chosen: Deployment = request.getfixturevalue(request.param)
    return chosen
