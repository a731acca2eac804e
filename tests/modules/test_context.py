"""`Context`: what a module may touch."""

from __future__ import annotations

import timeit
from pathlib import Path

import pytest

from flow8_core.clock import ManualClock
from flow8_core.errors import AccessDenied
from flow8_modules import Context
from flow8_modules.testing import Noted, context, link_for


def test_a_missing_link_says_what_to_do(tmp_path: Path) -> None:
    ctx = context(tmp_path)

    assert not ctx.has_link
    with pytest.raises(AccessDenied, match="link_id"):
        ctx.link  # noqa: B018


def test_a_missing_component_says_what_to_do(tmp_path: Path) -> None:
    ctx = context(tmp_path)

    assert not ctx.has_component("storage")
    with pytest.raises(AccessDenied, match="component of kind storage"):
        ctx.component("storage")


def test_what_is_there_is_handed_over(tmp_path: Path) -> None:
    link = link_for("slack", token="xoxb-1", base_url="https://slack.com/api/", scopes={"chat:write"})
    ctx = context(tmp_path, link=link, components={"storage": {"bucket": "b"}})

    assert link is ctx.link
    assert ctx.component("storage") == {"bucket": "b"}


def test_the_time_left_shrinks(tmp_path: Path) -> None:
    clock = ManualClock()
    ctx = context(tmp_path, timeout_s=30, clock=clock)

    clock.advance(12)

    assert pytest.approx(ctx.remaining()) == 18


def test_files_are_those_of_the_workspace(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    with ctx.create_file("out/a.txt") as file:
        file.write(b"hello")

    with ctx.open_file("/out/a.txt") as file:
        assert file.read() == b"hello"


def test_progress_and_log_reach_the_runtime(tmp_path: Path) -> None:
    noted = Noted()
    ctx = context(tmp_path, noted=noted)

    ctx.progress(1, 2, "parts")
    ctx.log.warning("odd", field=1)

    assert noted.steps == [(1, 2, "parts")]
    assert noted.events == [("warning", "odd", {"field": 1})]


def test_making_one_costs_next_to_nothing(tmp_path: Path) -> None:
    parts = context(tmp_path)

    def make() -> Context:
        return Context(
            egress=parts.egress,
            workspace=lambda: parts.workspace,
            idempotency_key="k",
            deadline=parts.deadline,
            log=parts.log,
            progress=parts.progress,
            clients=parts.clients,
        )

    best = min(timeit.repeat(make, number=1000, repeat=5)) / 1000

    assert best < 20e-6
