"""`flow8 plays cancel`: what has not called yet is stopped, what has is named."""

from __future__ import annotations

import json
from contextlib import chdir, closing
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from flow8_modules.effect import Effect
from flow8_runtime.ledger import Ledger
from flow8_runtime.platform import Foundation, Platform
from tests.cli.kit import Home

STEPS = [
    {"name": name, "module_ref": "slack-message", "input_mapping": {"channel": "#a", "message": "x"}}
    for name in ("first", "second", "third")
]


def handed_in(home: Home) -> str:
    flow = home.write("flow.json", json.dumps({"name": "test", "steps": STEPS}))
    play_id: str = home.flow8("run", flow, "--detach", "--json").document["play_id"]
    return play_id


def begin_to_call(home: Home) -> None:
    """A worker is in the midst of the first step."""
    with chdir(home.folder), closing(Platform(Foundation.lay(home.environ, home.folder))) as platform:
        ledger: Ledger = platform.ledger
        (claim,) = ledger.claim(1, owner="w1")
        until = ledger.now() + timedelta(minutes=5)
        assert ledger.calling(claim, effect=Effect.ONCE, until=until, credential=None)


def statuses(document: dict[str, Any]) -> list[str]:
    return [step["status"] for step in document["steps"]]


def test_a_play_is_cancelled_once_and_again(home: Home) -> None:
    play_id = handed_in(home)

    first = home.flow8("plays", "cancel", play_id, "--json")
    again = home.flow8("plays", "cancel", play_id, "--json")

    assert first.code == again.code == 0
    assert (first.document["status"], first.document["open"]) == ("FAIL", [])
    assert statuses(first.document) == ["cancelled"] * 3
    assert again.document == first.document


def test_one_step_is_cancelled_and_those_before_it_are_not(home: Home) -> None:
    play_id = handed_in(home)

    done = home.flow8("plays", "cancel", play_id, "second", "--json")

    assert done.code == 0
    assert statuses(done.document) == ["queued", "cancelled", "skipped"]
    assert "The step was cancelled" in done.document["steps"][1]["error"]["message"]
    assert "cancelled" in home.flow8("plays", play_id).stdout


@pytest.mark.parametrize("step", [(), ("first",)], ids=["play", "step"])
def test_what_is_calling_is_named_as_open(home: Home, step: tuple[str, ...]) -> None:
    play_id = handed_in(home)
    begin_to_call(home)

    as_json = home.flow8("plays", "cancel", play_id, *step, "--json")
    in_words = home.flow8("plays", "cancel", play_id, *step)

    assert as_json.code == in_words.code == 0
    assert as_json.document["open"] == [f"{play_id}:first"]
    assert statuses(as_json.document)[0] == "calling"
    assert "open first has begun to call" in in_words.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("cancel",), 2, "validation_error"),
        (("cancel", "no-id"), 1, "not_found"),
        (("cancel", "0123456789abcdef01234567"), 1, "not_found"),
        (("cancel", "PLAY", "nowhere"), 1, "not_found"),
    ],
    ids=str,
)
def test_what_is_not_there_is_told(home: Home, arguments: tuple[str, ...], code: int, error: str) -> None:
    play_id = handed_in(home)

    done = home.flow8("plays", *(play_id if word == "PLAY" else word for word in arguments), "--json")

    assert (done.code, done.document["error"]["code"]) == (code, error)
    assert statuses(home.flow8("plays", play_id, "--json").document) == ["queued", "waiting", "waiting"]


def test_a_play_of_another_company_is_not_there(home: Home) -> None:
    play_id = handed_in(home)

    done = home.flow8("plays", "cancel", play_id, "--company", str(ObjectId()), "--json")

    assert (done.code, done.document["error"]["code"]) == (1, "not_found")
