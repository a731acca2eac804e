"""Deployments of both kinds: embedded (SQLite) and shared (MongoDB's protocol), each with a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flow8_lab.client import Lab
from tests.flows.deployment import Deployment, deploy


@pytest.fixture
def embedded(tmp_path: Path, lab: Lab, redis_url: str) -> Iterator[Deployment]:
    """SQLite and Redis."""
    deployment = deploy(tmp_path, lab, store=f"sqlite:///{tmp_path / 'flow8.db'}", broker=redis_url)
    yield deployment
    deployment.close()


@pytest.fixture
def shared(tmp_path: Path, lab: Lab, redis_url: str, mongo_uri: str) -> Iterator[Deployment]:
    """MongoDB's protocol and Redis."""
    deployment = deploy(tmp_path, lab, store=mongo_uri, broker=redis_url)
    yield deployment
    deployment.close()


@pytest.fixture(params=["embedded", "shared"])
def deployment(request: pytest.FixtureRequest) -> Deployment:
    """One test, both kinds."""
    chosen: Deployment = request.getfixturevalue(request.param)
    return chosen
