"""Every dependency has its reason in docs/dependencies.md, and its exact version in the lock file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def declared() -> set[str]:
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    groups += PROJECT["dependency-groups"].values()
    names = {re.split(r"[<>=~!;\s\[]", line)[0] for group in groups for line in group}
    return names - {PROJECT["project"]["name"]}


def test_each_dependency_says_why_it_and_not_the_next_best() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ")]
    named = (
        " ".join(cell for row in rows for cell in row[1:3])
        .replace("[s3,server]", "")
        .replace("[redis]", "")
        .replace("[crypto]", "")
    )
    words = set(re.split(r"[\s,`]+", named))

    without = {name for name in declared() if name not in words and not name.startswith(("types-", "boto3-stubs"))}

    assert without == set()


def test_each_dependency_is_pinned_by_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pinned = set(re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[a-z0-9,]+\])?==", lock, re.MULTILINE))
    unhashed = [block.split()[0] for block in re.split(r"\n(?=[a-z0-9])", lock) if "--hash=sha256:" not in block]

    assert {name.lower() for name in declared()} - pinned == set()
    assert unhashed == []
