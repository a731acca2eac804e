"""What every test may rely on: no configuration from the shell, real servers as fixtures, a folder for the session."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import environment

for _name in environment.snapshot():  # a developer's FLOW8_STORE must not be what the tests run against
    del os.environ[_name]
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each program that a test starts would compile everything anew

# Before they import each other: assertions in these files are rewritten as those of tests are.
pytest.register_assert_rewrite("tests.counterparts", "tests.processes")

# Every shared server is a file in counterparts/, and is there by being there.
pytest_plugins = [
    f"tests.counterparts.{path.stem}"
    for path in sorted((Path(__file__).parent / "counterparts").glob("*.py"))
    if path.stem != "__init__"
]

# Replayable: the same examples in each run, unless a seed is given with --hypothesis-seed.
hypothesis.settings.register_profile("flow8", deadline=None, database=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("flow8")


gc.disable()  # seven thousand tests are no garbage, and looking through them again and again takes a fifth of the time


# Where files are dealt out to several processes, those that wait for workers go first, and the quick ones fill the end.
LONGEST_FIRST = ("flows", "docs", "cli")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; within a folder the order stays."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.parent.name, len(places)))


def pytest_collection_finish() -> None:
    """What was collected and imported stays until the end: it is never looked through again. What tests leave behind
    is looked through now and then: each look goes through all that pytest keeps of those that ran."""
    gc.freeze()
    gc.set_threshold(10000)
    gc.enable()


@pytest.fixture(scope="session")
def session_tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that lasts as long as this test process: logs and data of shared servers."""
    return tmp_path_factory.mktemp("session")


@pytest.fixture(autouse=True)
def _no_configuration_leaks() -> Iterator[None]:
    """A test that sets our variables must take them back (`monkeypatch.setenv` does)."""
    before = environment.snapshot()

    yield

    after = environment.snapshot()
    for name in after:
        if name not in before:
            del os.environ[name]
    assert after == before, f"this test leaves {sorted(set(after) ^ set(before))} in the environment"
