"""Steps that are prepared before their claim is written, by the real runner: one that is out of time stops no other."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from flow8_core.clock import ManualClock
from flow8_core.logging import get_logger
from flow8_modules.catalogue import Catalogue, ModuleSettings
from flow8_modules.clients import Clients
from flow8_modules.workspace import Workspace
from flow8_runtime.attempt import Attempt, Parts
from flow8_runtime.definition import Flow
from flow8_runtime.ledger import Ledger
from flow8_runtime.runner import Runner
from tests.runtime.kit import COMPANY, Watched, flow_of, step, submit


class Running(ManualClock):
    """A clock that moves on by `tick_s` whenever it is looked at."""

    tick_s = 0.0

    def monotonic(self) -> float:
        self.advance(self.tick_s)
        return super().monotonic()


@pytest.fixture
def clock() -> Running:
    return Running()


@pytest.fixture
def runner(ledger: Ledger, clock: Running, tmp_path: Path) -> Runner:
    nothing: Any = None  # the module needs no credential and calls nobody
    parts = Parts(
        ledger=ledger,
        catalogue=Catalogue(ModuleSettings(packages=("tests.modules.acme",))),
        resolver=nothing,
        egress=nothing,
        clients=Clients(),
        workspace=lambda name: Workspace(tmp_path / name),
        clock=clock,
        rng=random.Random(1),
        log=get_logger("flow8.step"),
    )
    return Runner(parts)


def greeting(timeout: float) -> Flow:
    return flow_of(step("greet", timeout=timeout) | {"module_ref": "acme-greet", "input_mapping": {"name": "Ada"}})


def test_a_deadline_that_passes_while_claims_are_written_loses_none_of_them(
    ledger: Ledger, watched: Watched, runner: Runner, clock: Running
) -> None:
    submit(ledger, greeting(1))
    submit(ledger, greeting(300))
    watched.before_batch = lambda: clock.advance(2)

    claims = ledger.claim(2, owner="w1", preparer=runner)

    assert [claim.state["until"] for claim in claims] == [claim.until for claim in claims]
    assert [outcome.status for claim in claims if (outcome := runner.run(claim))] == ["done", "done"]


def test_a_prepared_steps_time_begins_with_its_call_unless_its_mark_might_end_before_it(
    ledger: Ledger, runner: Runner, clock: Running
) -> None:
    submit(ledger, greeting(1))
    submit(ledger, greeting(1))
    in_time, late = ledger.claim(2, owner="w1", preparer=runner)

    clock.advance(3)
    done = runner.run(in_time)

    assert done is not None
    assert done.status == "done"
    assert isinstance(in_time.prepared, Attempt)
    assert in_time.prepared._deadline.remaining() == pytest.approx(1, abs=0.1)

    clock.advance(3)
    parked = runner.run(late)

    assert parked is not None
    assert parked.status == "parked"
    assert parked.due_at is not None
    assert parked.due_at < late.until
    assert isinstance(late.prepared, Attempt)
    assert not late.prepared.called
    ledger.land([parked], owner="w1", take_next=False)
    state = ledger.get(late.play_id, company_id=COMPANY)["steps"]["greet"]
    assert state["status"] == "parked"
    assert not state.get("open")


def test_a_step_that_is_out_of_time_once_it_is_prepared_fails_alone(
    ledger: Ledger, runner: Runner, clock: Running
) -> None:
    submit(ledger, greeting(0.001))
    submit(ledger, greeting(300))
    clock.tick_s = 0.01

    claims = ledger.claim(2, owner="w1", preparer=runner)
    outcomes = [outcome for claim in claims if (outcome := runner.run(claim))]

    assert sorted((outcome.status, (outcome.error or {}).get("code")) for outcome in outcomes) == [
        ("done", None),
        ("failed", "execution_timeout"),
    ]
