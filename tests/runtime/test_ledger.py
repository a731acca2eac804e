"""The ledger on both stores: submitting, claiming, landing, asking."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from flow8_core.errors import Conflict, InternalError, NotFound, StoreUnavailable, ValidationFailed
from flow8_core.store import Store
from flow8_modules.effect import Effect
from flow8_runtime.candidates import Portion
from flow8_runtime.claims import Claim
from flow8_runtime.definition import Flow
from flow8_runtime.documents import FLOWS, PLAYS, STEP_RUNS
from flow8_runtime.expressions import resolve
from flow8_runtime.heads import HEADS
from flow8_runtime.ledger import Ledger
from flow8_runtime.states import INLINE_LIMIT, INLINE_TOTAL
from tests.runtime.kit import (
    COMPANY,
    USER,
    Prepares,
    Watched,
    call,
    flow_of,
    in_threads,
    lose,
    open_ledger,
    outcome,
    parallel,
    run_all,
    sequence,
    step,
    submit,
)

OTHER_COMPANY = ObjectId("64b0000000000000000000ff")


def claim_one(ledger: Ledger, owner: str = "w1", **more: Any) -> Claim:
    (claim,) = ledger.claim(1, owner=owner, **more)
    return claim


def statuses(ledger: Ledger, play_id: ObjectId) -> dict[str, str]:
    play = ledger.get(play_id, company_id=COMPANY)
    return {name: state["status"] for name, state in play["steps"].items()}


# ---- Submitting


def test_a_play_runs_from_submit_to_done(ledger: Ledger) -> None:
    play_id = submit(ledger, sequence("a", "b", "c"), {"x": 1})

    assert run_all(ledger) == ["a", "b", "c"]

    described = ledger.describe(ledger.get(play_id, company_id=COMPANY))
    assert described["status"] == "DONE"
    assert described["seconds"] >= 0
    assert [(each["name"], each["status"], each["attempts"], each["output"]) for each in described["steps"]] == [
        ("a", "done", 1, {"step": "a"}), ("b", "done", 1, {"step": "b"}), ("c", "done", 1, {"step": "c"}),
    ]  # fmt: skip


def test_a_second_submit_with_the_same_id_changes_nothing(ledger: Ledger, watched: Watched) -> None:
    play_id = submit(ledger, sequence("a", "b"))
    run_all(ledger, most=1)
    before = ledger.get(play_id, company_id=COMPANY)

    again = submit(ledger, sequence("a", "b"), play_id=play_id)

    assert again == play_id
    assert ledger.get(play_id, company_id=COMPANY) == before
    assert watched.count(PLAYS, {}) == 1


def test_an_id_of_another_company_is_taken(ledger: Ledger) -> None:
    play_id = submit(ledger, sequence("a"))

    with pytest.raises(Conflict):
        ledger.submit(sequence("a"), {}, company_id=OTHER_COMPANY, user_id=USER, play_id=play_id)


def test_a_definition_is_stored_once_for_each_company_and_read_back_by_another_process(
    ledger: Ledger, watched: Watched
) -> None:
    flow = sequence("a")
    for _ in range(3):
        play_id = submit(ledger, flow)
    ledger.submit(flow, {}, company_id=OTHER_COMPANY, user_id=USER)

    assert watched.count(FLOWS, {}) == 2
    assert Ledger(watched).flow(ledger.get(play_id, company_id=COMPANY)["definition"]) == flow


def test_a_definition_that_somebody_removed_is_said_to_be_gone(ledger: Ledger) -> None:
    with pytest.raises(InternalError, match="definition"):
        ledger.flow("64b000000000000000000001:unknown")


@pytest.mark.parametrize(
    ("args", "path"),
    [
        ({"a": {"b": float("nan")}}, "args.a.b"),
        ({"a": object()}, "args.a"),
        ({"a": "\ud800"}, "args.a"),
        ({"a": 2**63}, "args.a"),
        ({7: 1}, "args"),
        ({"a": "x" * 300_000}, "args"),
        ({"a": [0] * 60_000}, "args"),
    ],
)
def test_arguments_that_json_does_not_hold_are_refused_and_nothing_is_written(
    ledger: Ledger, watched: Watched, args: dict[Any, Any], path: str
) -> None:
    with pytest.raises(ValidationFailed) as caught:
        submit(ledger, sequence("a"), args)

    assert caught.value.path == path
    assert watched.count(PLAYS, {}) == watched.count(FLOWS, {}) == 0


def test_values_with_keys_that_no_database_likes_come_back_as_they_were(ledger: Ledger) -> None:
    odd = {"$set": {"a.b": 1}, "": [None, True, 1.5], "@odata.type": "é\U0001f600", "$ref": 2**62, "__proto__": {}}
    flow = flow_of(
        step("a"), step("b", 2, input_mapping={"x": '{{ $prev.a["@odata.type"] }}', "y": "{{ $prev.args }}"})
    )
    play_id = submit(ledger, flow, odd)

    landing = ledger.land([outcome(claim_one(ledger), output=odd)], owner="w1")

    assert resolve(flow.step("b").input_mapping, ledger.scope(landing.next[0].play)) == {"x": "é\U0001f600", "y": odd}
    assert ledger.outputs(ledger.get(play_id, company_id=COMPANY))["a"] == odd


def test_outputs_from_outside_and_the_senders_own_words_are_kept(ledger: Ledger) -> None:
    flow = Flow.parse(
        {"name": "f", "steps": [{**step("a"), "input_mapping": {"x": "{{ $prev.earlier.y }}"}}]}, previous=("earlier",)
    )
    play_id = submit(ledger, flow, previous={"earlier": {"y": 5}}, origin={"reply_to": "q", "n": 1})

    claim = claim_one(ledger)

    assert resolve(flow.step("a").input_mapping, ledger.scope(claim.play)) == {"x": 5}
    assert set(ledger.outputs(claim.play)) == {"earlier"}
    origin = ledger.origin(play_id)
    assert origin is not None
    assert origin["origin"] == {"reply_to": "q", "n": 1}


# ---- Claiming


def test_a_step_is_claimed_once(ledger: Ledger) -> None:
    submit(ledger, sequence("a"))

    assert len(ledger.claim(5, owner="w1")) == 1
    assert ledger.claim(5, owner="w2") == []


def test_a_claim_tells_what_a_runner_needs(ledger: Ledger) -> None:
    play_id = submit(ledger, sequence("a"))

    claim = claim_one(ledger, "w7")

    assert (claim.play_id, claim.company_id, claim.user_id) == (play_id, COMPANY, USER)
    assert (claim.step, claim.n, claim.owner, claim.attempt, claim.lost) == ("a", 1, "w7", 1, 0)
    assert claim.step_run_id == f"{play_id}:a"
    assert claim.until == claim.state["until"]


def test_begun_plays_go_before_new_ones_that_have_been_due_longer(ledger: Ledger, watched: Watched) -> None:
    watched.advance(10)
    begun = submit(ledger, sequence("a", "b"))
    run_all(ledger, most=1)
    watched.advance(-10)
    new = submit(ledger, sequence("a"))
    watched.advance(10)

    claims = ledger.claim(1, owner="w1") + ledger.claim(1, owner="w1")

    assert [claim.play_id for claim in claims] == [begun, new]


def test_what_is_due_is_found_behind_many_lanes_in_which_nothing_is(ledger: Ledger) -> None:
    for number in range(40):
        submit(ledger, flow_of(step("later", input_mapping={"link_id": f"a{number:02}"}, defer_after_ms=3_600_000)))
    submit(ledger, flow_of(step("now", input_mapping={"link_id": "b"})))

    assert [claim.step for claim in ledger.claim(1, owner="w1")] == ["now"]


def test_only_the_queues_that_are_asked_for_are_claimed_from(ledger: Ledger) -> None:
    submit(ledger, flow_of(step("a", queue="big")))

    assert ledger.claim(1, owner="w1") == []
    assert [claim.step for claim in ledger.claim(1, owner="w1", queues=("default", "big"))] == ["a"]


def test_several_steps_of_one_play_are_claimed_in_one_write(ledger: Ledger) -> None:
    submit(ledger, parallel("a", "b", "c"))

    claims = ledger.claim(2, owner="w1")

    assert [claim.step for claim in claims] == ["a", "b"]
    assert len({claim.play["rev"] for claim in claims}) == 1


def test_a_play_that_others_take_while_it_is_read_is_passed_over(
    ledger: Ledger, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every server that speaks MongoDB's protocol gives a document as it was when it matched."""
    for _ in range(3):
        submit(ledger, sequence("a"))
    read, late = watched.find, set()

    def find(collection: str, filter: dict[str, Any], **options: Any) -> list[dict[str, Any]]:  # noqa: A002
        found = read(collection, filter, **options)
        kind = (*filter, *options.get("sort", ()))
        if collection != PLAYS or kind in late:
            return found
        late.add(kind)
        return [{name: value for name, value in play.items() if name not in HEADS} for play in found]

    monkeypatch.setattr(watched, "find", find)

    queues = ledger.candidates.due_queues(now=ledger.now())
    claims = [claim for _ in range(3) for claim in ledger.claim(3, owner="w1")]

    assert queues == {"default"}
    assert len(claims) == 3
    assert len(late) == 4, "every kind of look was late once"


@pytest.mark.parametrize("claimers", [8])
def test_many_claimers_at_once_take_every_step_exactly_once(ledger: Ledger, store: Store, claimers: int) -> None:
    plays = [submit(ledger, parallel("a", "b")) for _ in range(25)]
    taken: list[tuple[ObjectId, str]] = []

    def work(owner: str) -> None:
        mine = Ledger(store)
        while claims := mine.claim(3, owner=owner):
            taken.extend((claim.play_id, claim.step) for claim in claims)

    in_threads(claimers, work)
    work("w1")  # what everybody lost the last race for

    assert Counter(taken) == {(play, name): 1 for play in plays for name in ("a", "b")}


def test_a_step_that_was_lost_is_claimed_alone(ledger: Ledger, watched: Watched) -> None:
    submit(ledger, sequence("poison"))
    poison = claim_one(ledger)
    watched.advance(60)
    lose(ledger, poison)
    submit(ledger, sequence("innocent"))

    claims = ledger.claim(5, owner="w1")

    assert [(claim.step, claim.lost) for claim in claims] == [("poison", 1)]
    assert [claim.step for claim in ledger.claim(5, owner="w1")] == ["innocent"]


def test_a_step_that_was_lost_is_claimed_alone_by_whoever_lands_something_too(ledger: Ledger, watched: Watched) -> None:
    submit(ledger, sequence("done"))
    done = claim_one(ledger)
    submit(ledger, sequence("poison"))
    poison = claim_one(ledger)
    watched.advance(60)
    lose(ledger, poison)
    submit(ledger, sequence("innocent"))

    landing = ledger.land([outcome(done)], owner="w1", claim=5)

    assert [(claim.step, claim.lost) for claim in landing.claims] == [("poison", 1)]


# ---- Throttles


def test_a_throttled_credential_takes_no_slot_and_the_others_run(ledger: Ledger, watched: Watched) -> None:
    for _ in range(70):
        submit(ledger, flow_of(step("throttled", input_mapping={"link_id": "1"})))
    watched.advance(0.1)
    submit(ledger, flow_of(step("free", input_mapping={"link_id": "2"})))
    ledger.throttles.hit("link:1", watched.now() + timedelta(seconds=60))

    claims = ledger.claim(1, owner="w1")

    assert [claim.step for claim in claims] == ["free"]
    assert ledger.claim(1, owner="w1") == []


def test_a_throttled_lane_costs_one_seek_however_many_wait_in_it(ledger: Ledger, watched: Watched) -> None:
    def cost(waiting: int) -> tuple[int, int]:
        """Queries and documents read by a claim that finds the one step which may run."""
        flow = flow_of(step("throttled", input_mapping={"link_id": "1"}))
        ledger.submit_many(
            flow, [{}] * waiting, company_id=COMPANY, user_id=USER, play_ids=[ObjectId() for _ in range(waiting)]
        )
        submit(ledger, flow_of(step("free", input_mapping={"link_id": "2"})))
        ledger.candidates.forget()
        watched.calls.clear()
        read = watched.read
        assert [claim.step for claim in ledger.claim(1, owner="w1")] == ["free"]
        return watched.calls["find"], watched.read - read

    ledger.throttles.hit("link:1", watched.now() + timedelta(seconds=60))

    few, many = cost(1), cost(300)

    assert many == few


def raiser(error: Exception) -> Callable[..., Any]:
    """Something that raises this."""

    def fails(*_: object) -> Any:
        raise error

    return fails


class Foreseeing(Prepares):
    """A preparer that notes what is read ahead."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self.wanted: list[list[tuple[ObjectId, str]]] = []

    def ahead(self, wanted: Any) -> AbstractContextManager[None]:
        self.wanted.append(list(wanted))
        return nullcontext()


def test_the_credentials_of_all_steps_that_are_taken_together_are_read_ahead(ledger: Ledger) -> None:
    flow = flow_of(step("a", input_mapping={"link_id": "1"}), step("b", 2, component_config_ids={"request": "2"}))
    for _ in range(3):
        submit(ledger, flow)
    preparer = Foreseeing()

    claims = ledger.claim(3, owner="w1", preparer=preparer)
    marked = [call(ledger, claim) for claim in claims]
    ledger.land([outcome(claim) for claim in marked if claim], owner="w1", preparer=preparer)

    assert preparer.wanted == [[(COMPANY, "link:1")] * 3, [(COMPANY, "component:2")] * 3]


def test_a_claim_that_fails_before_it_is_written_leaves_its_steps_to_the_next_one(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(ledger, sequence("a", input_mapping={"link_id": "1"}))
    with monkeypatch.context() as patched:
        patched.setattr(ledger.throttles, "of", raiser(StoreUnavailable("The store does not answer.")))
        with pytest.raises(StoreUnavailable):
            ledger.claim(1, owner="w1")

    assert [claim.step for claim in ledger.claim(1, owner="w1")] == ["a"]


def _plenty(ledger: Ledger) -> None:
    ids = [ObjectId() for _ in range(60)]
    ledger.submit_many(sequence("a"), [{}] * 60, company_id=COMPANY, user_id=USER, play_ids=ids)


def test_two_processes_of_a_worker_do_not_race_for_the_same_plays_where_there_is_plenty(
    ledger: Ledger, watched: Watched
) -> None:
    other = open_ledger(watched)
    ledger.candidates.portion, other.candidates.portion = Portion(0, of=2), Portion(1, of=2)
    _plenty(ledger)
    ledger.claim(1, owner="w1"), other.claim(1, owner="w2")  # each has read the same by now
    watched.calls.clear()

    claims = [claim for _ in range(20) for claim in (*ledger.claim(1, owner="w1"), *other.claim(1, owner="w2"))]

    assert len({claim.play_id for claim in claims}) == 40
    assert watched.calls["batch"] == 40


def test_the_portion_of_a_process_that_is_gone_is_taken_by_the_others(ledger: Ledger) -> None:
    ledger.candidates.portion = Portion(1, of=2)
    _plenty(ledger)

    claims = [claim for _ in range(60) for claim in ledger.claim(1, owner="w1")]

    assert len({claim.play_id for claim in claims}) == 60


def test_a_throttled_step_is_due_again_when_its_credential_is(ledger: Ledger, watched: Watched) -> None:
    submit(ledger, flow_of(step("a", input_mapping={"link_id": "1"})))
    not_before = watched.now() + timedelta(seconds=60)
    ledger.throttles.hit("link:1", not_before)
    assert ledger.claim(1, owner="w1") == []
    assert not ledger.due()

    watched.advance(61)

    assert [claim.step for claim in ledger.claim(1, owner="w1")] == ["a"]


def test_a_429_of_one_step_holds_back_the_next_one_with_that_credential(ledger: Ledger, watched: Watched) -> None:
    flow = sequence("a")
    first, second = submit(ledger, flow), submit(ledger, flow)
    claims = ledger.claim(2, owner="w1")
    for claim in claims:  # which credential a step uses is known when it has run
        marked = ledger.calling(
            claim, effect=Effect.ONCE, until=watched.now() + timedelta(seconds=9), credential="link:9"
        )
        assert marked is not None
        ledger.land([outcome(marked, "parked", due_at=watched.now())], owner="w1", take_next=False)
    (claim,) = ledger.claim(1, owner="w1")
    until = watched.now() + timedelta(seconds=30)

    landing = ledger.land([outcome(claim, "parked", due_at=until, throttle=("link:9", until))], owner="w1", claim=1)

    assert (landing.next, landing.claims) == ([], [])
    assert {statuses(ledger, play)["a"] for play in (first, second)} == {"parked"}
    assert not ledger.due()


# ---- Calling and landing


def test_a_claim_that_was_lost_may_not_be_called(ledger: Ledger, watched: Watched) -> None:
    submit(ledger, sequence("a"))
    claim = claim_one(ledger)
    watched.advance(60)
    lose(ledger, claim)
    claim_one(ledger, "w2")

    assert call(ledger, claim) is None


def test_landing_costs_one_batch_and_no_read_when_the_next_step_is_taken_in_place(
    ledger: Ledger, watched: Watched
) -> None:
    submit(ledger, sequence("a", "b"))
    claim = claim_one(ledger)
    watched.calls.clear()

    landing = ledger.land([outcome(claim)], owner="w1", claim=1)

    assert [claim.step for claim in landing.next] == ["b"]
    assert watched.calls == {"batch": 1}


def test_a_new_claim_goes_into_the_batch_of_the_landing(ledger: Ledger, watched: Watched) -> None:
    for _ in range(3):
        submit(ledger, sequence("a"))
    claim = claim_one(ledger)
    watched.calls.clear()

    landing = ledger.land([outcome(claim)], owner="w1", claim=1)

    assert (len(landing.next), len(landing.claims), landing.finished) == (0, 1, [claim.play_id])
    assert watched.calls["batch"] == 1


def test_claims_in_all_count_what_was_taken_in_place(ledger: Ledger) -> None:
    submit(ledger, sequence("a", "b"))
    claim = claim_one(ledger)
    for _ in range(4):
        submit(ledger, sequence("x"))

    landing = ledger.land([outcome(claim)], owner="w1", claim=3)

    assert [claim.step for claim in landing.next] == ["b"]
    assert [claim.step for claim in landing.claims] == ["x", "x"]


def test_without_take_next_the_next_step_is_left_to_others(ledger: Ledger) -> None:
    play_id = submit(ledger, sequence("a", "b"))

    landing = ledger.land([outcome(claim_one(ledger))], owner="w1", take_next=False)

    assert (landing.next, landing.claims) == ([], [])
    assert statuses(ledger, play_id) == {"a": "done", "b": "queued"}


def test_many_outcomes_land_in_one_batch(ledger: Ledger, watched: Watched) -> None:
    plays = [submit(ledger, parallel("a", "b", join="c")) for _ in range(3)]
    claims = ledger.claim(6, owner="w1")
    watched.calls.clear()

    landing = ledger.land([outcome(claim) for claim in claims], owner="w1", claim=6)

    assert watched.calls["batch"] == 1
    assert sorted(claim.play_id for claim in landing.next) == sorted(plays)
    assert {claim.step for claim in landing.next} == {"c"}


def test_parallel_steps_that_land_from_old_versions_of_their_play_both_count(ledger: Ledger) -> None:
    play_id = submit(ledger, parallel("a", "b", join="c"))
    first, second = ledger.claim(2, owner="w1")

    landings = [ledger.land([outcome(claim)], owner="w1") for claim in (first, second)]

    assert [[claim.step for claim in landing.next] for landing in landings] == [[], ["c"]]
    assert statuses(ledger, play_id) == {"a": "done", "b": "done", "c": "claimed"}


def test_many_threads_that_land_in_one_play_lose_nothing(ledger: Ledger, store: Store) -> None:
    names = [f"s{index}" for index in range(24)]
    play_id = submit(ledger, parallel(*names, join="end"))
    claims = ledger.claim(24, owner="w1")
    following: list[Claim] = []

    def work(owner: str) -> None:
        mine = Ledger(store)
        for claim in claims[int(owner) :: 6]:
            following.extend(mine.land([outcome(claim)], owner=owner).next)

    in_threads(6, work)

    assert [claim.step for claim in following] == ["end"]
    assert set(statuses(ledger, play_id).values()) == {"done", "claimed"}


def test_landing_the_same_outcome_again_is_harmless(ledger: Ledger, watched: Watched) -> None:
    play_id = submit(ledger, sequence("a"))
    done = outcome(claim_one(ledger))
    ledger.land([done], owner="w1")
    before = ledger.get(play_id, company_id=COMPANY)

    landing = ledger.land([done], owner="w1")

    assert (landing.lost, landing.finished) == ([], [play_id])
    assert ledger.get(play_id, company_id=COMPANY) == before
    assert watched.count(STEP_RUNS, {}) == 1


def test_a_landing_whose_answer_was_lost_can_be_landed_again(ledger: Ledger, watched: Watched) -> None:
    play_id = submit(ledger, sequence("a"))
    done = outcome(claim_one(ledger))
    watched.lose_answers = 1
    with pytest.raises(StoreUnavailable):
        ledger.land([done], owner="w1")

    landing = ledger.land([done], owner="w1")

    assert landing.lost == []
    assert ledger.get(play_id, company_id=COMPANY)["status"] == "DONE"


def test_an_outcome_that_comes_too_late_leaves_its_row_and_nothing_else(ledger: Ledger, watched: Watched) -> None:
    play_id = submit(ledger, sequence("a"))
    late = claim_one(ledger)
    watched.advance(60)
    lose(ledger, late)
    claim_one(ledger, "w2")
    before = ledger.get(play_id, company_id=COMPANY)

    landing = ledger.land([outcome(late)], owner="w1")

    assert [lost.claim for lost in landing.lost] == [late]
    assert ledger.get(play_id, company_id=COMPANY) == before
    assert [row["n"] for row in ledger.attempts(play_id, company_id=COMPANY)] == [1]


def test_every_attempt_has_a_row_that_never_changes(ledger: Ledger, watched: Watched) -> None:
    play_id = submit(ledger, sequence("a"))
    marked = call(ledger, claim_one(ledger))
    assert marked is not None
    parked = outcome(marked, "parked", due_at=watched.now(), counts=True, fingerprint="f", credential="link:1")
    (again,) = ledger.land([parked], owner="w1", claim=1).next
    assert (again.n, again.attempt, again.parks) == (2, 2, 0)
    ledger.land([outcome(again)], owner="w1")

    rows = ledger.attempts(play_id, company_id=COMPANY)

    assert [(row["_id"], row["status"]) for row in rows] == [
        (f"{play_id}:a:1", "parked"),
        (f"{play_id}:a:2", "done"),
    ]
    assert rows[0]["error"]["code"] == "provider_unavailable"
    assert (rows[0]["fingerprint"], rows[0]["credential"], rows[0]["company_id"]) == ("f", "link:1", COMPANY)
    assert ledger.attempts(play_id, company_id=OTHER_COMPANY) == []


@pytest.mark.parametrize(
    ("size", "inline"), [(INLINE_LIMIT - 200, True), (INLINE_LIMIT + 1, False), (2_000_000, False)]
)
def test_a_large_output_lies_in_its_row_and_is_read_from_there(ledger: Ledger, size: int, inline: bool) -> None:
    output = {"text": "x" * size}
    play_id = submit(ledger, sequence("a", "b"))

    (following,) = ledger.land([outcome(claim_one(ledger), output=output)], owner="w1").next

    state = following.play["steps"]["a"]
    assert ("output" in state, "output_ref" in state) == (inline, not inline)
    assert ledger.scope(following.play).outputs["a"] == output
    assert ledger.describe(ledger.get(play_id, company_id=COMPANY))["steps"][0]["output"] == output


def test_many_outputs_do_not_make_a_play_heavy(ledger: Ledger) -> None:
    names = [f"s{index}" for index in range(INLINE_TOTAL // INLINE_LIMIT + 8)]
    play_id = submit(ledger, parallel(*names))
    outcomes = [outcome(claim, output={"x": "y" * (INLINE_LIMIT - 20)}) for claim in ledger.claim(64, owner="w1")]

    ledger.land(outcomes, owner="w1")

    play = ledger.get(play_id, company_id=COMPANY)
    inline = sum(len(state.get("output", "")) for state in play["steps"].values())
    assert inline <= INLINE_TOTAL
    assert [len(ledger.outputs(play)[name]["x"]) for name in names] == [INLINE_LIMIT - 20] * len(names)


@pytest.mark.parametrize("output", [{"x": float("inf")}, {"x": object()}, {"x": "y" * 9_000_000}, {"x": {1, 2}}])
def test_an_output_that_cannot_be_kept_fails_its_step_and_stops_nobody_else(
    ledger: Ledger, output: dict[str, Any]
) -> None:
    bad, good = submit(ledger, sequence("bad")), submit(ledger, sequence("good"))
    outcomes = [
        outcome(claim, output=output) if claim.step == "bad" else outcome(claim)
        for claim in ledger.claim(2, owner="w1")
    ]

    ledger.land(outcomes, owner="w1")

    assert (statuses(ledger, bad), statuses(ledger, good)) == ({"bad": "failed"}, {"good": "done"})
    error = ledger.get(bad, company_id=COMPANY)["steps"]["bad"]["error"]
    assert (error["code"], error["step"]) == ("validation_error", "bad")


def test_a_step_that_did_not_run_has_an_empty_output_and_a_state(ledger: Ledger) -> None:
    submit(ledger, sequence("a", "b"))

    (following,) = ledger.land([outcome(claim_one(ledger), "filtered")], owner="w1").next

    scope = ledger.scope(following.play)
    assert (scope.outputs["a"], scope.states) == ({}, {"a": "FILTERED"})
    assert "b" not in scope.outputs


def test_renewed_claims_outlive_their_first_lease(ledger: Ledger, watched: Watched) -> None:
    submit(ledger, parallel("a", "b"))
    claims = ledger.claim(2, owner="w1")
    until = watched.now() + timedelta(seconds=90)

    ledger.renew(claims, until=until)

    play = ledger.get(claims[0].play_id, company_id=COMPANY)
    assert {state["until"] for state in play["steps"].values()} == {until}
    ledger.renew(claims, until=until)  # a lease that is long enough is left alone


def test_claims_that_are_given_back_are_due_at_once(ledger: Ledger) -> None:
    submit(ledger, parallel("a", "b"))
    first, second = ledger.claim(2, owner="w1")
    marked = call(ledger, second)
    assert marked is not None

    ledger.give_back([first, marked])

    assert [claim.step for claim in ledger.claim(5, owner="w2")] == ["a"]


# ---- For somebody


def test_a_cancel_names_what_may_still_take_effect(ledger: Ledger) -> None:
    play_id = submit(ledger, parallel("a", "b", join="c"))
    claim = claim_one(ledger)
    marked = call(ledger, claim)
    assert marked is not None

    cancelled = ledger.cancel(play_id, company_id=COMPANY)
    again = ledger.cancel(play_id, company_id=COMPANY)

    assert cancelled.open == again.open == (f"{play_id}:a",)
    assert ledger.claim(5, owner="w2") == []
    assert ledger.land([outcome(marked)], owner="w1").finished == [play_id]
    assert statuses(ledger, play_id) == {"a": "done", "b": "cancelled", "c": "cancelled"}


def test_a_cancel_between_claim_and_call_stops_the_call(ledger: Ledger) -> None:
    play_id = submit(ledger, sequence("a"))
    claim = claim_one(ledger)

    cancelled = ledger.cancel(play_id, company_id=COMPANY)

    assert cancelled.open == ()
    assert call(ledger, claim) is None


@pytest.mark.parametrize(
    "ask",
    [
        lambda ledger, play_id: ledger.get(play_id, company_id=OTHER_COMPANY),
        lambda ledger, play_id: ledger.cancel(play_id, company_id=OTHER_COMPANY),
        lambda ledger, _: ledger.get(ObjectId(), company_id=COMPANY),
        lambda ledger, _: ledger.cancel(ObjectId(), company_id=COMPANY),
    ],
)
def test_what_is_not_yours_is_not_there(ledger: Ledger, ask: Callable[[Ledger, ObjectId], Any]) -> None:
    play_id = submit(ledger, sequence("a"))

    with pytest.raises(NotFound):
        ask(ledger, play_id)

    assert statuses(ledger, play_id) == {"a": "queued"}


def test_plays_are_listed_newest_first_page_by_page(ledger: Ledger, watched: Watched) -> None:
    plays = []
    for _ in range(5):
        plays.append(submit(ledger, sequence("a")))
        watched.advance(1)
    ledger.submit(sequence("a"), {}, company_id=OTHER_COMPANY, user_id=USER)

    first = ledger.list(company_id=COMPANY, limit=3)
    second = ledger.list(company_id=COMPANY, limit=3, before=first[-1]["created_at"])

    assert [play["_id"] for play in (*first, *second)] == plays[::-1]


def test_one_step_can_be_made_due_now(ledger: Ledger, watched: Watched) -> None:
    play_id = submit(ledger, sequence("a"))
    claim = claim_one(ledger)
    ledger.land([outcome(claim, "parked", due_at=watched.now() + timedelta(hours=1))], owner="w1")
    assert ledger.claim(1, owner="w1") == []

    assert ledger.make_due(f"{play_id}:a")
    assert not ledger.make_due(f"{play_id}:a", company_id=OTHER_COMPANY)
    assert [claim.n for claim in ledger.claim(1, owner="w1")] == [2]


@pytest.mark.parametrize("name", ["", "x", "64b000000000000000000003", "64b000000000000000000003:", "{play}:nobody"])
def test_a_step_run_that_does_not_exist_is_not_made_due(ledger: Ledger, name: str) -> None:
    play_id = submit(ledger, sequence("a"))

    assert not ledger.make_due(name.format(play=play_id))


def test_the_ledger_knows_what_is_due(ledger: Ledger, watched: Watched) -> None:
    assert not ledger.due()
    submit(ledger, flow_of(step("a", defer_after_ms=5000)))
    submit(ledger, flow_of(step("b", queue="big")))

    assert (ledger.due(), ledger.due(("big",))) == (False, True)
    watched.advance(5)
    assert ledger.due()


def test_outputs_and_arguments_are_json_for_every_other_reader(ledger: Ledger) -> None:
    play_id = submit(ledger, sequence("a"), {"x": "é"})
    run_all(ledger)

    play = ledger.get(play_id, company_id=COMPANY)

    assert (json.loads(play["args"]), json.loads(play["steps"]["a"]["output"])) == ({"x": "é"}, {"step": "a"})


# ---- Priorities


def test_what_is_urgent_is_claimed_first_and_what_is_not_waits_for_all_else(ledger: Ledger) -> None:
    for priority in ("low", "normal", "high", "normal"):
        submit(ledger, sequence(priority, priority=priority))

    claimed = [ledger.claim(1, owner="w1")[0].step for _ in range(4)]

    assert claimed == ["high", "normal", "normal", "low"]
