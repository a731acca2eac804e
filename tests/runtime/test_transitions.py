"""The state machine, transition by transition; first what broke in prototypes."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest

from flow8_modules.effect import Effect
from flow8_runtime import documents, heads, transitions
from flow8_runtime.states import GRACE, LIVE_LIMIT, LOST_LIMIT, PARK_MAX, RANKS, Result, Stale
from tests.runtime.kit import COMPANY, DOWN, LEASE, PLAY, START, USER, Machine, flow_of, parallel, sequence, step

REPEATABLE = [Effect.READ, Effect.REPEATABLE, Effect.KEYED]


# ---- What broke in prototypes, each by the shortest path that was found


def test_a_once_call_is_marked_before_it_is_made_so_that_a_lost_one_is_not_called_again() -> None:
    machine = Machine(sequence("a"))
    machine.begin("a", effect=Effect.ONCE)

    machine.advance(3600).lease_end("a")

    assert machine.status("a") == "outcome_unknown"
    with pytest.raises(Stale):
        machine.claim("a", "w2")


def test_a_once_call_is_never_queued_again_from_calling() -> None:
    machine = Machine(sequence("a"))
    machine.begin("a", effect=Effect.ONCE)

    status = machine.lease_end("a", dead=True)

    assert status == "outcome_unknown"


def test_a_lease_end_holds_only_for_a_lease_that_is_over() -> None:
    machine = Machine(sequence("a"))
    machine.begin("a", effect=Effect.KEYED)
    machine.advance(3600).lease_end("a")
    machine.claim("a", "w2")

    with pytest.raises(Stale):
        machine.lease_end("a")


def test_a_stale_worker_does_not_land_over_a_newer_attempt() -> None:
    machine = Machine(sequence("a"))
    stale = machine.begin("a", effect=Effect.KEYED)
    machine.advance(3600).lease_end("a")
    machine.claim("a", "w2")

    with pytest.raises(Stale):
        machine.land("a", n=stale)
    with pytest.raises(Stale):
        machine.call("a", stale)


def test_the_idempotency_key_is_the_same_for_every_attempt_and_another_for_every_step() -> None:
    keys = {documents.idempotency_key(PLAY, name) for name in ("a", "b", "a")}

    assert len(keys) == 2
    assert all(len(key) == 32 for key in keys)


def test_a_late_result_is_not_accepted_after_outcome_unknown() -> None:
    machine = Machine(sequence("a"))
    late = machine.begin("a", effect=Effect.ONCE)
    machine.advance(3600).lease_end("a")

    with pytest.raises(Stale):
        machine.land("a", n=late)

    assert machine.play["status"] == "FAIL"


@pytest.mark.parametrize("effect", REPEATABLE)
def test_a_lease_end_after_a_cancel_does_not_queue_again(effect: Effect) -> None:
    machine = Machine(sequence("a"))
    machine.begin("a", effect=effect)
    machine.cancel()

    machine.advance(3600).lease_end("a")

    assert machine.status("a") == "cancelled"
    assert machine.play["status"] == "FAIL"


def test_a_429_after_a_cancel_does_not_park() -> None:
    machine = Machine(sequence("a"))
    machine.begin("a")
    machine.cancel()

    machine.land("a", "parked", error=DOWN, due_at=machine.now)

    assert machine.status("a") == "cancelled"


def test_a_cancel_names_the_calls_that_may_still_leave_and_not_only_those_in_calling() -> None:
    machine = Machine(sequence("a"))
    paused = machine.begin("a", effect=Effect.KEYED)
    machine.advance(3600).lease_end("a")

    still_open = machine.cancel()

    assert machine.status("a") == "cancelled"
    assert still_open == [("a", paused)]


# ---- The way through a play


def test_a_new_play_queues_its_first_group_alone() -> None:
    machine = Machine(flow_of(step("a", 1), step("b", 1), step("c", 2)))

    assert machine.statuses == {"a": "queued", "b": "queued", "c": "waiting"}
    assert machine.play["status"] == "NEW"
    assert machine.play["rank"] == 3


def test_groups_run_in_ascending_order_wherever_their_steps_stand() -> None:
    machine = Machine(flow_of(step("late", 30), step("early", -5), step("middle", 7)))

    for name in ("early", "middle", "late"):
        assert machine.play["status"] in ("NEW", "RUN")
        machine.run(name)

    assert machine.play["status"] == "DONE"


def test_the_next_group_is_queued_by_the_very_transition_that_ends_the_one_before() -> None:
    machine = Machine(parallel("a", "b", join="c"))
    machine.run("a")
    assert machine.status("c") == "waiting"

    machine.run("b")

    assert machine.status("c") == "queued"


def test_a_begun_plays_next_step_is_due_since_the_play_began_to_be() -> None:
    machine = Machine(sequence("a", "b")).advance(100)

    machine.run("a")

    assert (machine.play["due_at"], machine.play["rank"]) == (START, 2)


@pytest.mark.parametrize(("priority", "new", "begun"), [("high", 1, 0), ("normal", 3, 2), ("low", 5, 4)])
def test_priorities_go_before_what_has_begun_and_that_before_what_is_new(priority: str, new: int, begun: int) -> None:
    machine = Machine(sequence("a", "b", priority=priority))
    assert machine.play["rank"] == new

    machine.run("a")

    assert machine.play["rank"] == begun
    assert new in RANKS
    assert begun in RANKS


def test_of_several_steps_the_most_urgent_gives_the_play_its_rank_and_is_taken_first() -> None:
    machine = Machine(flow_of(step("idle", priority="low"), step("usual"), step("urgent", priority="high")))

    assert machine.play["rank"] == 1
    assert list(transitions.ready(machine.play, machine.flow, now=machine.now, queues=("default",))) == [
        "urgent",
        "usual",
        "idle",
    ]

    machine.begin("urgent")

    assert machine.play["rank"] == 2


def test_a_deferred_step_is_due_only_after_its_time() -> None:
    machine = Machine(flow_of(step("a"), step("b", 2, defer_after_ms=1500)))
    machine.advance(10).run("a")

    with pytest.raises(Stale):
        machine.advance(1.499).claim("b")
    machine.advance(0.001).claim("b")

    assert machine.status("b") == "claimed"


def test_at_most_64_steps_of_a_play_are_live_and_the_others_follow() -> None:
    names = [f"s{index}" for index in range(LIVE_LIMIT + 2)]
    machine = Machine(parallel(*names))
    assert list(machine.statuses.values()).count("queued") == LIVE_LIMIT

    for name in names:
        machine.run(name)

    assert machine.play["status"] == "DONE"


def test_a_play_of_200_steps_ends_in_one_transition_when_its_first_step_fails() -> None:
    machine = Machine(sequence(*(f"s{index}" for index in range(200))))

    machine.run("s0", "failed", error=DOWN)

    assert machine.play["status"] == "FAIL"
    assert list(machine.statuses.values()).count("skipped") == 199


@pytest.mark.parametrize(
    ("on_error", "status", "play"),
    [("fail", "failed", "FAIL"), ("continue", "failed", "DONE"), ("skip", "skipped", "DONE")],
)
@pytest.mark.parametrize("ending", ["failed", "outcome_unknown"])
def test_on_error_decides_what_a_failure_means(on_error: str, status: str, play: str, ending: str) -> None:
    machine = Machine(flow_of(step("a", on_error=on_error), step("b", 2)))

    machine.run("a", ending, error=DOWN)
    if on_error != "fail":
        machine.run("b")

    assert machine.status("a") == (status if ending == "failed" else ending)
    assert machine.play["steps"]["a"]["error"]["code"] == "provider_unavailable"
    assert machine.status("b") == ("skipped" if on_error == "fail" else "done")
    assert machine.play["status"] == play


def test_the_neighbours_of_a_failed_step_run_to_their_ends_and_later_groups_do_not() -> None:
    machine = Machine(parallel("a", "b", join="c"))

    machine.run("a", "failed", error=DOWN)
    assert (machine.status("b"), machine.status("c"), machine.play["status"]) == ("queued", "skipped", "RUN")
    machine.run("b")

    assert machine.status("b") == "done"
    assert machine.play["status"] == "FAIL"


@pytest.mark.parametrize("status", ["filtered", "skipped"])
def test_a_step_that_did_not_run_lets_the_play_go_on(status: str) -> None:
    machine = Machine(sequence("a", "b"))
    machine.claim("a")

    machine.land("a", status)
    machine.run("b")

    assert machine.statuses == {"a": status, "b": "done"}
    assert machine.play["status"] == "DONE"


# ---- Claims, marks, leases


def test_each_claim_gets_the_next_n() -> None:
    machine = Machine(sequence("a"))

    numbers = []
    for _ in range(2):
        numbers.append(machine.claim("a"))
        machine.advance(3600).lease_end("a")

    assert numbers == [1, 2]


def test_a_claimed_step_cannot_be_claimed_again() -> None:
    machine = Machine(sequence("a"))
    machine.claim("a")

    with pytest.raises(Stale):
        machine.claim("a", "w2")


def test_a_mark_may_be_repeated_and_names_its_attempt_once() -> None:
    machine = Machine(sequence("a"))
    machine.begin("a")

    machine.call("a")

    assert transitions.open_calls(machine.play) == [("a", 1)]


def test_an_outcome_closes_its_mark_and_no_other() -> None:
    machine = Machine(sequence("a"))
    machine.begin("a", effect=Effect.READ)
    machine.advance(3600).lease_end("a")
    machine.begin("a", "w2", effect=Effect.READ)

    machine.land("a")

    assert transitions.open_calls(machine.play) == [("a", 1)]


@pytest.mark.parametrize("effect", REPEATABLE)
def test_a_late_finisher_lands_while_nobody_else_has_taken_the_step(effect: Effect) -> None:
    machine = Machine(sequence("a"))
    late = machine.begin("a", effect=effect)
    machine.advance(3600).lease_end("a")
    assert machine.status("a") == "queued"

    machine.land("a", n=late)

    assert machine.play["status"] == "DONE"
    assert transitions.open_calls(machine.play) == []


def test_a_once_call_may_be_heard_of_until_its_grace_is_over() -> None:
    machine = Machine(sequence("a"))
    machine.begin("a", effect=Effect.ONCE)

    machine.advance(LEASE.total_seconds() + GRACE.total_seconds() - 0.001)
    with pytest.raises(Stale):
        machine.lease_end("a")
    machine.land("a")

    assert machine.play["status"] == "DONE"


def test_a_once_call_is_given_up_when_its_grace_is_over() -> None:
    machine = Machine(sequence("a"))
    machine.begin("a", effect=Effect.ONCE)

    status = machine.advance(LEASE.total_seconds() + GRACE.total_seconds()).lease_end("a")

    assert status == "outcome_unknown"
    assert machine.play["steps"]["a"]["error"]["code"] == "outcome_unknown"


def test_a_step_may_say_that_a_doubtful_once_call_is_repeated() -> None:
    machine = Machine(sequence("a", on_unknown="retry"))
    machine.begin("a", effect=Effect.ONCE)

    status = machine.advance(LEASE.total_seconds()).lease_end("a")

    assert status == "queued"


def test_a_claim_that_was_never_called_is_queued_again_whatever_its_effect() -> None:
    machine = Machine(sequence("a"))
    machine.claim("a")

    status = machine.advance(LEASE.total_seconds()).lease_end("a")

    assert status == "queued"


@pytest.mark.parametrize("called", [False, True])
def test_a_step_that_is_lost_three_times_is_a_dead_letter(called: bool) -> None:
    machine = Machine(sequence("a", "b"))

    for _ in range(LOST_LIMIT):
        machine.claim("a")
        if called:
            machine.call("a", effect=Effect.READ)
        machine.lease_end("a", dead=True)

    assert machine.statuses == {"a": "dead_letter", "b": "skipped"}
    assert machine.play["steps"]["a"]["error"]["code"] == "dead_letter"
    assert machine.play["status"] == "FAIL"


def test_a_renewed_lease_lasts_longer_and_never_shorter() -> None:
    machine = Machine(sequence("a"))
    n = machine.begin("a")
    later = machine.now + timedelta(seconds=90)

    machine.play = transitions.renew(machine.play, machine.flow, "a", n, until=later)

    assert machine.play["until"] == later
    with pytest.raises(Stale):
        transitions.renew(machine.play, machine.flow, "a", n, until=later - timedelta(seconds=1))


def test_a_claim_that_is_given_back_costs_nothing() -> None:
    machine = Machine(sequence("a"))
    n = machine.claim("a")

    machine.play = transitions.give_back(machine.play, machine.flow, "a", n, now=machine.now)

    assert machine.status("a") == "queued"
    assert "lost" not in machine.play["steps"]["a"]


def test_a_call_that_has_begun_cannot_be_given_back() -> None:
    machine = Machine(sequence("a"))
    n = machine.begin("a")

    with pytest.raises(Stale):
        transitions.give_back(machine.play, machine.flow, "a", n, now=machine.now)


def test_a_mark_that_its_holder_knows_to_be_followed_by_no_call_is_taken_back_with_its_claim() -> None:
    machine = Machine(sequence("a"))
    n = machine.begin("a")

    machine.play = transitions.give_back(machine.play, machine.flow, "a", n, now=machine.now, uncalled=True)

    assert machine.status("a") == "queued"
    assert transitions.open_calls(machine.play) == []


def test_a_mark_that_a_cancellation_has_named_is_taken_back_as_cancelled_and_not_queued_again() -> None:
    machine = Machine(sequence("a"))
    n = machine.begin("a")
    assert machine.cancel() == [("a", n)]

    machine.play = transitions.give_back(machine.play, machine.flow, "a", n, now=machine.now, uncalled=True)

    assert (machine.status("a"), machine.play["status"]) == ("cancelled", "FAIL")
    assert transitions.open_calls(machine.play) == []


# ---- Parking


def test_a_parked_step_keeps_its_play_running_and_is_due_when_it_said() -> None:
    machine = Machine(sequence("a"))
    due_at = machine.now + timedelta(seconds=60)

    machine.run("a", "parked", error=DOWN, due_at=due_at)

    assert (machine.play["status"], machine.play["due_at"]) == ("RUN", due_at)
    with pytest.raises(Stale):
        machine.claim("a")
    assert machine.advance(60).claim("a") == 2


def test_retries_and_patience_are_counted_apart() -> None:
    machine = Machine(sequence("a"))

    for counts in (True, False, True):
        machine.run("a", "parked", error=DOWN, due_at=machine.now, counts=counts)

    assert (machine.play["steps"]["a"]["retries"], machine.play["steps"]["a"]["parks"]) == (2, 1)


def test_a_park_ends_as_failed_after_a_day_with_what_it_waited_for() -> None:
    machine = Machine(sequence("a"))
    machine.run("a", "parked", error=DOWN, due_at=machine.now + timedelta(days=30))
    assert machine.play["due_at"] == START + PARK_MAX

    machine.advance(PARK_MAX.total_seconds()).run("a", "parked", error=DOWN, due_at=machine.now)

    assert machine.play["status"] == "FAIL"
    error = machine.play["steps"]["a"]["error"]
    assert error["code"] == "provider_unavailable"
    assert "24 hours" in error["message"]


def test_a_step_that_waits_for_a_link_is_released_by_it_and_looks_by_itself_now_and_then() -> None:
    machine = Machine(parallel("a", "b"))
    machine.run("a", "parked", error=DOWN, waiting_for="link:1")
    machine.run("b", "parked", error=DOWN, waiting_for="link:2")
    assert heads.waited_for(machine.play["waiting_for"]) == ("link:1", "link:2")
    assert START < machine.play["due_at"] < START + timedelta(hours=1)

    machine.play = transitions.release(machine.play, machine.flow, "link:1", now=machine.now)

    assert machine.statuses == {"a": "queued", "b": "parked"}
    assert machine.play["waiting_for"] == "link:2"
    with pytest.raises(Stale):
        transitions.release(machine.play, machine.flow, "link:1", now=machine.now)


def test_a_landed_attempt_does_not_land_twice_after_its_step_was_released() -> None:
    machine = Machine(sequence("a"))
    machine.run("a", "parked", error=DOWN, waiting_for="link:1")
    machine.play = transitions.release(machine.play, machine.flow, "link:1", now=machine.now)

    with pytest.raises(Stale):
        machine.land("a", n=1)


def test_a_parked_step_can_be_made_due_and_a_step_that_is_not_there_cannot() -> None:
    machine = Machine(sequence("a"))
    machine.run("a", "parked", error=DOWN, due_at=machine.now + timedelta(hours=1))

    machine.play = transitions.make_due(machine.play, machine.flow, "a", now=machine.now)

    assert machine.claim("a") == 2
    for name in ("a", "nobody"):
        with pytest.raises(Stale):
            transitions.make_due(machine.play, machine.flow, name, now=machine.now)


# ---- Cancelling


def test_a_cancel_stops_everything_that_has_not_called() -> None:
    machine = Machine(flow_of(step("queued"), step("claimed"), step("parked"), step("calling"), step("waiting", 2)))
    machine.run("parked", "parked", error=DOWN, due_at=machine.now + timedelta(hours=1))
    machine.claim("claimed")
    n = machine.begin("calling")

    still_open = machine.cancel()

    assert still_open == [("calling", n)]
    assert machine.statuses == {
        "queued": "cancelled", "claimed": "cancelled", "parked": "cancelled", "calling": "calling",
        "waiting": "cancelled",
    }  # fmt: skip
    assert machine.play["status"] == "RUN"


def test_nothing_is_marked_after_a_cancel() -> None:
    machine = Machine(sequence("a"))
    n = machine.claim("a")
    machine.cancel()

    with pytest.raises(Stale):
        machine.call("a", n)

    assert machine.play["status"] == "FAIL"


def test_a_call_that_was_open_at_a_cancel_lands_and_its_play_ends() -> None:
    machine = Machine(sequence("a", "b"))
    machine.begin("a")
    machine.cancel()

    machine.land("a")

    assert machine.statuses == {"a": "done", "b": "cancelled"}
    assert machine.play["status"] == "FAIL"


def test_a_play_is_cancelled_once_and_not_after_its_end() -> None:
    machine = Machine(sequence("a"))
    machine.begin("a")
    machine.cancel()
    with pytest.raises(Stale):
        machine.cancel()

    machine.land("a")

    with pytest.raises(Stale):
        machine.cancel()


# ---- Heads, lanes, purity


def test_a_play_that_is_over_has_no_heads() -> None:
    machine = Machine(sequence("a"))

    machine.run("a")

    assert set(heads.HEADS) & machine.play.keys() == {"queue"}
    assert machine.play["queue"] == heads.OVER


def test_the_heads_show_the_earliest_of_what_is_due_and_what_is_leased() -> None:
    machine = Machine(parallel("a", "b", "c"))
    machine.claim("a", "w1")
    machine.advance(5).claim("b", "w2")

    shown = {name: machine.play.get(name) for name in heads.HEADS}

    assert shown["due_at"] == START
    assert shown["until"] == START + LEASE
    assert shown["owners"] == ["w1", "w2"]
    assert shown["lane"] == f"{COMPANY}:{USER}:slack-message"


def test_the_lane_is_the_credential_once_it_is_known() -> None:
    machine = Machine(flow_of(step("a", input_mapping={"link_id": "7"})))
    assert machine.play["lane"] == f"{COMPANY}:link:7"

    machine.claim("a")
    machine.call("a", credential="link:8")
    machine.land("a", "parked", error=DOWN, due_at=machine.now)

    assert machine.play["lane"] == f"{COMPANY}:link:8"


def test_a_head_that_nobody_takes_makes_room_for_another_lane() -> None:
    machine = Machine(flow_of(step("a", queue="big"), step("b", queue="small"), step("c", queue="big")))
    assert machine.play["queue"] == "big"
    assert machine.play["rotate_at"] == START + timedelta(seconds=1)

    with pytest.raises(Stale):
        transitions.rotate(machine.play, machine.flow, now=machine.now)
    machine.advance(1)
    machine.play = transitions.rotate(machine.play, machine.flow, now=machine.now)

    assert machine.play["queue"] == "small"


def test_a_play_of_one_lane_has_nothing_to_rotate() -> None:
    machine = Machine(parallel("a", "b"))

    assert "rotate_at" not in machine.play


def test_a_throttled_step_becomes_due_later_and_never_sooner() -> None:
    machine = Machine(sequence("a"))
    later = machine.now + timedelta(seconds=30)

    machine.play = transitions.postpone(machine.play, machine.flow, "a", until=later)

    assert machine.play["due_at"] == later
    with pytest.raises(Stale):
        transitions.postpone(machine.play, machine.flow, "a", until=machine.now)


def test_ready_names_what_is_due_in_the_queues_the_longest_due_first() -> None:
    machine = Machine(flow_of(step("a", defer_after_ms=2000), step("b", defer_after_ms=1000), step("c", queue="other")))

    def ready(*queues: str) -> list[str]:
        return list(transitions.ready(machine.play, machine.flow, now=machine.now, queues=queues))

    assert ready("default") == []
    machine.advance(2)
    assert ready("default") == ["b", "a"]
    assert ready("default", "other") == ["c", "b", "a"]


def test_recomputing_mends_a_play_that_has_lost_its_heads() -> None:
    machine = Machine(sequence("a"))
    broken = {key: value for key, value in machine.play.items() if key not in heads.HEADS}

    mended = transitions.recompute(broken, machine.flow, now=machine.now)

    assert {key: mended[key] for key in heads.HEADS if key in mended} == {
        key: machine.play[key] for key in heads.HEADS if key in machine.play
    }


def test_transitions_leave_their_argument_alone_and_share_what_they_do_not_change() -> None:
    machine = Machine(parallel("a", "b", "c", join="d"))
    seen: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def keep() -> None:
        seen.append((machine.play, copy.deepcopy(machine.play)))

    for drive in (
        lambda: machine.begin("a"),
        lambda: machine.land("a", "parked", error=DOWN, due_at=machine.now),
        lambda: machine.begin("b", effect=Effect.READ),
        lambda: machine.advance(60).lease_end("b"),
        lambda: machine.run("c", "failed", error=DOWN),
        lambda: machine.cancel(),
    ):
        keep()
        drive()

    assert all(before == copied for before, copied in seen)
    assert machine.play["rev"] > len(seen)


def test_every_transition_moves_rev() -> None:
    machine = Machine(sequence("a"))
    revs = [machine.play["rev"]]

    for drive in (lambda: machine.claim("a"), lambda: machine.call("a"), lambda: machine.land("a")):
        drive()
        revs.append(machine.play["rev"])

    assert revs == sorted(set(revs))


def test_an_error_of_an_earlier_attempt_does_not_outlive_success() -> None:
    machine = Machine(sequence("a"))
    machine.run("a", "parked", error=DOWN, due_at=machine.now)

    machine.run("a")

    assert "error" not in machine.play["steps"]["a"]


def test_a_result_that_is_no_result_of_this_attempt_is_stale() -> None:
    machine = Machine(sequence("a"))

    for n in (0, 1, 7):
        with pytest.raises(Stale):
            transitions.land(machine.play, machine.flow, "a", n, Result("done"), now=machine.now)


# ---- Cancelling one step


@pytest.mark.parametrize("status", ["queued", "claimed", "parked"])
def test_a_step_that_has_not_called_is_cancelled_and_what_comes_later_is_skipped(status: str) -> None:
    machine = Machine(sequence("a", "b"))
    if status == "claimed":
        machine.claim("a")
    if status == "parked":
        machine.begin("a")
        machine.land("a", "parked", error=DOWN, due_at=START + timedelta(hours=1), waiting_for="link:1")

    assert machine.cancel_step("a") == "cancelled"

    assert machine.statuses == {"a": "cancelled", "b": "skipped"}
    assert machine.play["status"] == "FAIL"
    assert machine.play["steps"]["a"]["error"]["code"] == "cancelled"
    assert not {"owner", "until", "due_at", "waiting_for"} & machine.play["steps"]["a"].keys()


def test_a_claim_that_was_cancelled_is_not_called() -> None:
    machine = Machine(sequence("a"))
    n = machine.claim("a")
    machine.cancel_step("a")

    with pytest.raises(Stale):
        machine.call("a", n)


def test_a_step_is_cancelled_before_its_turn_and_those_before_it_run() -> None:
    machine = Machine(sequence("a", "b", "c", "d"))

    machine.cancel_step("c")

    assert machine.statuses == {"a": "queued", "b": "waiting", "c": "cancelled", "d": "skipped"}
    machine.run("a")
    machine.run("b")
    assert machine.play["status"] == "FAIL"


@pytest.mark.parametrize("on_error", ["continue", "skip"])
def test_a_play_goes_on_without_a_cancelled_step_whose_failure_it_would_survive(on_error: str) -> None:
    machine = Machine(flow_of(step("a", 1, on_error=on_error), step("b", 2)))

    machine.cancel_step("a")

    assert machine.statuses == {"a": "cancelled", "b": "queued"}
    machine.run("b")
    assert machine.play["status"] == "FAIL"


def test_the_neighbours_of_a_cancelled_step_run_to_their_ends() -> None:
    machine = Machine(parallel("a", "b", join="c"))

    machine.cancel_step("a")

    assert machine.statuses == {"a": "cancelled", "b": "queued", "c": "skipped"}
    assert machine.play["status"] in ("NEW", "RUN")


@pytest.mark.parametrize("again", ["lease end", "429"])
def test_a_step_that_is_calling_may_end_well_but_is_not_called_again(again: str) -> None:
    machine, other = Machine(sequence("a", "b")), Machine(sequence("a"))
    for each in (machine, other):
        each.begin("a", effect=Effect.KEYED)
        assert each.cancel_step("a") == "calling"
        assert transitions.open_calls(each.play) == [("a", 1)]

    machine.land("a")
    if again == "429":
        other.land("a", "parked", error=DOWN, due_at=other.now)
    else:
        other.advance(3600).lease_end("a")

    assert machine.statuses == {"a": "done", "b": "queued"}
    assert other.status("a") == "cancelled"


def test_what_is_over_is_not_cancelled_and_nothing_is_cancelled_twice() -> None:
    machine = Machine(sequence("a", "b"))
    machine.run("a")
    machine.begin("b")
    machine.cancel_step("b")

    for name in ("a", "b"):
        with pytest.raises(Stale):
            machine.cancel_step(name)


def test_a_mark_that_the_cancel_of_its_step_has_named_is_given_back_as_cancelled() -> None:
    machine = Machine(sequence("a", "b", on_error="continue"))
    n = machine.begin("a", effect=Effect.KEYED)
    machine.cancel_step("a")

    machine.play = transitions.give_back(machine.play, machine.flow, "a", n, now=machine.now, uncalled=True)

    assert machine.statuses == {"a": "cancelled", "b": "queued"}
    assert transitions.open_calls(machine.play) == []
