"""Work that was begun, and is waited for later."""

from __future__ import annotations

import threading

import pytest

from flow8_runtime.background import begun


def test_work_goes_on_while_its_caller_does_something_else() -> None:
    step = threading.Event()

    result = begun(lambda: "waited" if step.wait(timeout=10) else "alone")
    step.set()

    assert result() == "waited"


def test_what_work_raises_is_raised_where_its_result_is_asked_for() -> None:
    def work() -> None:
        raise ValueError("no result")

    result = begun(work)

    with pytest.raises(ValueError, match="no result"):
        result()


def test_no_thread_is_left_once_the_result_is_there() -> None:
    before = threading.active_count()

    assert begun(lambda: 7)() == 7

    assert threading.active_count() == before
