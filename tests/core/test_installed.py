"""What installed packages offer is looked for once for each search path."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from flow8_core.installed import entry_points

GROUP = "flow8.tests"


def install(site: Path, name: str) -> None:
    """A package with an entry point of its own name."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {name}:THING\n[another]\nno = {name}:NO\n")


def test_a_package_is_found_as_soon_as_its_folder_is_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", "acme")
    before = entry_points(GROUP)

    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    assert before == ()
    assert [(point.name, point.value) for point in entry_points(GROUP)] == [("acme", "acme:THING")]


def test_the_packages_are_read_once_for_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "acme")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    reads: list[object] = []
    all_points = metadata.entry_points
    monkeypatch.setattr(metadata, "entry_points", lambda **which: [reads.append(which), all_points(**which)][1])

    answers = [entry_points(GROUP) for _ in range(3)]

    assert len(reads) == 1
    assert answers[0] == answers[1] == answers[2] != ()
