"""What comes out of a queue: a message that the broker hands out again is the one that came first."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from flow8_runtime.app import EXECUTE, TASKS
from flow8_runtime.incoming import WRAPPED, Refused, checked
from tests.flows.raw import envelope


def body_of(message: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(message["body"]))


def test_a_message_that_is_handed_out_again_is_the_one_that_came_first() -> None:
    first = checked(envelope(EXECUTE, {"version": 1}), "flow8", TASKS)
    first["headers"]["redelivered"] = True  # as kombu marks what it puts back

    again = checked(checked(first, "flow8", TASKS), "flow8", TASKS)

    assert body_of(again) == body_of(first)
    assert json.loads(body_of(again)[1]["message"]) == [[], {"version": 1}, {}]


@pytest.mark.parametrize("body", ["", "[", "[" * 100_000, "5", '[[], {"message": 5}, {}]', "[[], {}, {}]"])
def test_a_message_that_only_pretends_to_come_again_is_refused(body: str) -> None:
    message = envelope(EXECUTE, {})
    message["headers"][WRAPPED] = True
    message["body"] = base64.b64encode(body.encode()).decode()

    with pytest.raises(Refused):
        checked(message, "flow8", TASKS)
