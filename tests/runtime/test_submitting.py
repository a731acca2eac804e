"""Handing in many plays of one flow at once, on both stores."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bson import ObjectId

from flow8_core.errors import Conflict, ValidationFailed
from flow8_runtime.definition import Flow
from flow8_runtime.documents import FLOWS, PLAYS
from flow8_runtime.ledger import Ledger
from flow8_runtime.submitting import batch_play_id
from tests.runtime.kit import COMPANY, USER, Watched, flow_of, run_all, sequence, step, submit

OTHER_COMPANY = ObjectId("64b0000000000000000000ff")


def ids_of(count: int) -> list[ObjectId]:
    return [ObjectId() for _ in range(count)]


def submit_many(ledger: Ledger, flow: Flow, many: list[Any], ids: list[ObjectId], **more: Any) -> list[bool]:
    return list(
        ledger.submit_many(flow, many, play_ids=ids, **{"company_id": COMPANY, "user_id": USER, **more})  # type: ignore[arg-type]
    )


def test_many_plays_are_each_like_one_that_was_handed_in_alone(ledger: Ledger, watched: Watched) -> None:
    flow = flow_of(step("a", 1), step("b", 1, defer_after_ms=500), step("c", 2))
    alone, ids = submit(ledger, flow, {"n": 0}), ids_of(3)

    new = submit_many(ledger, flow, [{"n": n} for n in range(3)], ids)

    assert new == [True] * 3
    first = ledger.get(alone, company_id=COMPANY)
    since = first["steps"]["b"]["due_at"] - first["created_at"]
    for n, play_id in enumerate(ids):
        play = ledger.get(play_id, company_id=COMPANY)
        assert json.loads(play["args"]) == {"n": n}
        assert play["steps"]["b"]["due_at"] - play["created_at"] == since
        assert play.keys() == first.keys()
        own = ("_id", "args", "created_at", "due_at", "rotate_at", "steps")
        assert {key: play[key] for key in play if key not in own} == {
            key: first[key] for key in first if key not in own
        }


def test_a_crowd_goes_in_a_few_batches_and_runs_to_its_end(ledger: Ledger, watched: Watched) -> None:
    flow, ids = sequence("a"), ids_of(1100)
    batches = watched.calls["batch"]

    assert submit_many(ledger, flow, [{"n": n} for n in range(1100)], ids) == [True] * 1100

    assert watched.calls["batch"] - batches == 3
    assert ledger.due()
    claimed = ledger.claim(50, owner="w1")
    assert len({claim.play_id for claim in claimed}) == 50


def test_what_was_handed_in_before_is_left_alone_and_the_rest_is_added(ledger: Ledger) -> None:
    flow, ids = sequence("a", "b"), ids_of(40)
    submit_many(ledger, flow, [{"n": n} for n in range(20)], ids[:20])
    run_all(ledger, most=7)
    before = [ledger.get(play_id, company_id=COMPANY) for play_id in ids[:20]]

    new = submit_many(ledger, flow, [{"other": True}] * 40 + [{"twice": True}], [*ids, ids[39]])

    assert new == [False] * 20 + [True] * 20 + [False]
    assert [ledger.get(play_id, company_id=COMPANY) for play_id in ids[:20]] == before
    assert json.loads(ledger.get(ids[39], company_id=COMPANY)["args"]) == {"other": True}


def test_the_faults_of_all_arguments_are_told_and_nothing_is_written(ledger: Ledger, watched: Watched) -> None:
    wrong = [{"n": 1}, {"n": float("nan")}, ["no object"], {"deep": {"k": "\x00"}}]

    with pytest.raises(ValidationFailed) as caught:
        submit_many(ledger, sequence("a"), wrong, ids_of(4))

    assert [path for path, _ in caught.value.problems] == ["args[1].n", "args[2]", "args[3].deep.k"]
    assert watched.count(PLAYS, {}) == 0


def test_many_ids_of_another_company_are_taken(ledger: Ledger) -> None:
    ids = ids_of(3)
    submit_many(ledger, sequence("a"), [{}], ids[1:2])

    with pytest.raises(Conflict):
        submit_many(ledger, sequence("a"), [{}] * 3, ids, company_id=OTHER_COMPANY)


def test_of_nothing_nothing_is_written(ledger: Ledger, watched: Watched) -> None:
    assert submit_many(ledger, sequence("a"), [], []) == []
    with pytest.raises(ValidationFailed, match="play ids"):
        submit_many(ledger, sequence("a"), [{}], [])

    assert watched.count(FLOWS, {}) == 0


@pytest.mark.parametrize(
    "other",
    [
        (OTHER_COMPANY, "nightly", "invoice", 7, {"a": 1, "b": 2}),
        (COMPANY, "weekly", "invoice", 7, {"a": 1, "b": 2}),
        (COMPANY, "nightly", "reminder", 7, {"a": 1, "b": 2}),
        (COMPANY, "nightly", "invoice", 8, {"a": 1, "b": 2}),
        (COMPANY, "nightly", "invoice", 7, {"a": 1, "b": 3}),
        (COMPANY, "nightly7", "invoice", 7, {"a": 1, "b": 2}),
    ],
    ids=["company", "batch", "flow", "line", "arguments", "boundary"],
)
def test_a_line_of_a_batch_has_one_id_whatever_the_order_of_its_keys(other: Any) -> None:
    known = batch_play_id(COMPANY, "nightly", "invoice", 7, {"a": 1, "b": 2})

    assert batch_play_id(COMPANY, "nightly", "invoice", 7, {"b": 2, "a": 1}) == known
    assert batch_play_id(*other) != known


def test_the_id_of_a_line_stays_what_it_was() -> None:
    assert str(batch_play_id(COMPANY, "nightly", "invoice", 7, {"ä": [1, 2.5]})) == "4652d89b28f7b88933b612e9"


def test_only_the_companys_own_plays_that_are_over_are_told(ledger: Ledger) -> None:
    ids = [submit(ledger, sequence("a")) for _ in range(3)]
    run_all(ledger, most=2)

    over = ledger.over(ids, company_id=COMPANY)

    assert {play["_id"] for play in over} == set(ids[:2])
    assert {play["status"] for play in over} == {"DONE"}
    assert list(ledger.over(ids, company_id=OTHER_COMPANY)) == []
