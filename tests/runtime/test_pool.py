"""How many pool processes there are, and that each of them knows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery import Celery, signals

from flow8_runtime import pool
from flow8_runtime import process as processes
from flow8_runtime.candidates import Portion


def test_celerys_own_option_goes_before_the_setting() -> None:
    app = Celery()
    pool.size(app, 2)
    assert app.conf.worker_concurrency == 2

    signals.celeryd_after_setup.send(sender="w@host", instance=SimpleNamespace(concurrency=8), conf=app.conf)

    assert app.conf.worker_concurrency == 8


@pytest.mark.parametrize(
    ("index", "of", "portion"), [(0, 2, Portion(0, 2)), (1, 2, Portion(1, 2)), (3, 2, Portion(1, 2))]
)
def test_each_pool_process_has_a_portion_of_its_own(
    monkeypatch: pytest.MonkeyPatch, index: int, of: int, portion: Portion
) -> None:
    monkeypatch.setattr(processes, "current_process", lambda: SimpleNamespace(index=index))

    assert processes._portion(of) == portion


def test_a_process_that_is_no_pools_has_the_whole() -> None:
    assert processes._portion(1) == Portion()
