"""The laboratory: one child process for the session, as at the start for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flow8_lab.client import Lab, start

__all__ = ["Lab", "lab", "lab_process"]


@pytest.fixture(scope="session")
def lab_process() -> Iterator[Lab]:
    """The session's laboratory; its consent pages approve by themselves, and S3 starts when somebody connects."""
    with start("--auto-approve", "--s3", "on-demand") as running:
        yield running


@pytest.fixture
def lab(lab_process: Lab) -> Iterator[Lab]:
    """The laboratory without effects, grants, faults or settings of an earlier test."""
    lab_process.reset()

    yield lab_process

    crashes = lab_process.control("/health")["crashes"]
    assert not crashes, crashes[0]
