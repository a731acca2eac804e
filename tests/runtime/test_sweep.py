"""The sweep on both stores: what it takes back, releases, rotates, wakes and finds lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from flow8_core.store import Insert, Store
from flow8_modules.effect import Effect
from flow8_runtime.claims import Claim, Outcome, row_of
from flow8_runtime.documents import PLAYS, STEP_RUNS
from flow8_runtime.ledger import Ledger
from flow8_runtime.states import GRACE, LOST_LIMIT
from flow8_runtime.sweep import Sweep, SweepReport
from tests.runtime.kit import (
    COMPANY,
    Watched,
    call,
    flow_of,
    outcome,
    parallel,
    run_all,
    sequence,
    step,
    submit,
)


def sweep(
    ledger: Ledger,
    watched: Watched,
    *,
    dead: tuple[str, ...] = (),
    active: Callable[[ObjectId, str], bool] = lambda _company, _link: False,
) -> SweepReport:
    return Sweep(ledger, watched, dead=lambda owner: owner in dead, link_settled=active).run()


def begin(ledger: Ledger, owner: str = "w1", *, effect: Effect = Effect.ONCE) -> Claim:
    (claim,) = ledger.claim(1, owner=owner)
    marked = call(ledger, claim, effect=effect)
    assert marked is not None
    return marked


def statuses(ledger: Ledger, play_id: ObjectId) -> dict[str, str]:
    play = ledger.get(play_id, company_id=COMPANY)
    return {name: state["status"] for name, state in play["steps"].items()}


def write_row_only(watched: Watched, landed: Outcome) -> None:
    """What a crash between the two writes of a landing leaves behind on MongoDB."""
    watched.batch([Insert(STEP_RUNS, row_of(landed))])


def test_a_sweep_of_a_healthy_ledger_changes_nothing(ledger: Ledger, watched: Watched) -> None:
    plays = [submit(ledger, sequence("a", "b")) for _ in range(4)]
    run_all(ledger, most=2)
    begin(ledger)
    before = [ledger.get(play, company_id=COMPANY) for play in plays]

    report = sweep(ledger, watched)

    assert [ledger.get(play, company_id=COMPANY) for play in plays] == before
    assert report == SweepReport(due={"default"})


# ---- (1) Leases and owners


def test_a_dead_owners_steps_are_taken_back_at_once(ledger: Ledger, watched: Watched) -> None:
    play_id = submit(ledger, parallel("a", "b"))
    ledger.claim(1, owner="dead")
    begin(ledger, "alive", effect=Effect.READ)

    report = sweep(ledger, watched, dead=("dead",))

    assert (report.requeued, report.due) == (1, {"default"})
    assert statuses(ledger, play_id) == {"a": "queued", "b": "calling"}


def test_a_lease_that_is_over_is_ended_whoever_holds_it(ledger: Ledger, watched: Watched) -> None:
    play_id = submit(ledger, sequence("a"))
    begin(ledger, effect=Effect.KEYED)
    watched.advance(31)

    report = sweep(ledger, watched)

    assert report.requeued == 1
    assert statuses(ledger, play_id) == {"a": "queued"}


@pytest.mark.parametrize(("effect", "status"), [(Effect.ONCE, "outcome_unknown"), (Effect.KEYED, "queued")])
def test_what_a_dead_worker_was_calling_is_repeated_only_where_that_does_no_harm(
    ledger: Ledger, watched: Watched, effect: Effect, status: str
) -> None:
    play_id = submit(ledger, sequence("a", "b"))
    begin(ledger, "dead", effect=effect)

    report = sweep(ledger, watched, dead=("dead",))

    assert statuses(ledger, play_id)["a"] == status
    assert (report.unknown, report.finished) == ((1, [play_id]) if status == "outcome_unknown" else (0, []))


def test_a_once_call_of_a_live_owner_has_its_grace(ledger: Ledger, watched: Watched) -> None:
    play_id = submit(ledger, sequence("a"))
    marked = begin(ledger)
    watched.advance(31)
    assert sweep(ledger, watched).unknown == 0

    ledger.land([outcome(marked)], owner="w1")

    watched.advance(GRACE.total_seconds())
    assert sweep(ledger, watched).unknown == 0
    assert ledger.get(play_id, company_id=COMPANY)["status"] == "DONE"


def test_a_once_call_is_unknown_when_its_grace_is_over_and_a_late_answer_changes_nothing(
    ledger: Ledger, watched: Watched
) -> None:
    play_id = submit(ledger, sequence("a"))
    marked = begin(ledger)
    watched.advance(31 + GRACE.total_seconds())
    assert sweep(ledger, watched).unknown == 1

    landing = ledger.land([outcome(marked)], owner="w1")

    assert len(landing.lost) == 1
    assert statuses(ledger, play_id) == {"a": "outcome_unknown"}


def test_a_step_that_kills_its_worker_is_started_three_times_and_no_more(ledger: Ledger, watched: Watched) -> None:
    play_id = submit(ledger, sequence("a"))
    starts = 0

    while claims := ledger.claim(1, owner="dead"):
        starts += 1
        call(ledger, claims[0], effect=Effect.READ)
        report = sweep(ledger, watched, dead=("dead",))

    assert (starts, report.dead_letters) == (LOST_LIMIT, 1)
    assert statuses(ledger, play_id) == {"a": "dead_letter"}


@pytest.mark.parametrize("effect", [Effect.ONCE, Effect.KEYED])
def test_an_outcome_whose_row_was_written_is_landed_for_its_dead_owner(
    ledger: Ledger, watched: Watched, effect: Effect
) -> None:
    play_id = submit(ledger, sequence("a", "b"))
    marked = begin(ledger, "dead", effect=effect)
    write_row_only(watched, outcome(marked, output={"x": 1}))

    report = sweep(ledger, watched, dead=("dead",))

    assert (report.landed, report.unknown, report.requeued) == (1, 0, 0)
    assert statuses(ledger, play_id) == {"a": "done", "b": "queued"}
    assert ledger.outputs(ledger.get(play_id, company_id=COMPANY))["a"] == {"x": 1}


def test_a_park_whose_row_was_written_is_parked_for_its_dead_owner(ledger: Ledger, watched: Watched) -> None:
    play_id = submit(ledger, sequence("a"))
    marked = begin(ledger, "dead")
    due_at = watched.now() + timedelta(minutes=5)
    write_row_only(watched, outcome(marked, "parked", due_at=due_at, counts=True))

    sweep(ledger, watched, dead=("dead",))

    state = ledger.get(play_id, company_id=COMPANY)["steps"]["a"]
    assert (state["status"], state["due_at"], state["retries"]) == ("parked", due_at, 1)


def test_every_lease_of_a_play_ends_in_one_sweep(ledger: Ledger, watched: Watched) -> None:
    names = [f"s{index}" for index in range(20)]
    play_id = submit(ledger, parallel(*names))
    ledger.claim(20, owner="dead")

    report = sweep(ledger, watched, dead=("dead",))

    assert report.requeued == 20
    assert set(statuses(ledger, play_id).values()) == {"queued"}


def test_a_cancelled_play_whose_worker_died_ends(ledger: Ledger, watched: Watched) -> None:
    play_id = submit(ledger, sequence("a", "b"))
    begin(ledger, "dead", effect=Effect.KEYED)
    ledger.cancel(play_id, company_id=COMPANY)

    report = sweep(ledger, watched, dead=("dead",))

    assert report.finished == [play_id]
    assert set(statuses(ledger, play_id).values()) == {"cancelled"}


def test_several_sweeps_at_once_take_back_once(ledger: Ledger, watched: Watched, store: Store) -> None:
    plays = [submit(ledger, parallel("a", "b")) for _ in range(10)]
    ledger.claim(20, owner="dead")
    reports: list[SweepReport] = []

    def work() -> None:
        reports.append(Sweep(Ledger(store), store, dead=lambda owner: owner == "dead").run())

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(report.requeued for report in reports) == 20
    states = [state for play in plays for state in ledger.get(play, company_id=COMPANY)["steps"].values()]
    assert {(state["status"], state["lost"]) for state in states} == {("queued", 1)}


# ---- (2) Links


def test_an_active_link_releases_what_waits_for_it_and_only_that(ledger: Ledger, watched: Watched) -> None:
    plays = {link: [submit(ledger, flow_of(step("a"))) for _ in range(3)] for link in ("1", "2")}
    by_play = {play: link for link, ids in plays.items() for play in ids}
    claims = ledger.claim(6, owner="w1")
    ledger.land([outcome(c, "parked", waiting_for=f"link:{by_play[c.play_id]}") for c in claims], owner="w1")
    asked: list[tuple[ObjectId, str]] = []

    def active(company_id: ObjectId, link_id: str) -> bool:
        asked.append((company_id, link_id))
        return link_id == "2"

    report = sweep(ledger, watched, active=active)

    assert asked == [(COMPANY, "1"), (COMPANY, "2")]
    assert report.released == 3
    assert {link: {statuses(ledger, play)["a"] for play in ids} for link, ids in plays.items()} == {
        "1": {"parked"},
        "2": {"queued"},
    }


def test_a_play_that_waits_for_several_links_is_released_by_any_of_them(ledger: Ledger, watched: Watched) -> None:
    plays = [submit(ledger, parallel("a", "b")) for _ in range(3)]
    claims = ledger.claim(6, owner="w1")
    ledger.land([outcome(c, "parked", waiting_for=f"link:{c.step}") for c in claims], owner="w1")
    asked: list[str] = []

    def settled(_company: ObjectId, link_id: str) -> bool:
        asked.append(link_id)
        return link_id == "b"

    report = sweep(ledger, watched, active=settled)

    assert (asked, report.released) == (["a", "b"], 3)
    assert [statuses(ledger, play) for play in plays] == [{"a": "parked", "b": "queued"}] * 3
    assert sweep(ledger, watched, active=lambda _company, link_id: link_id == "a").released == 3
    assert [statuses(ledger, play) for play in plays] == [{"a": "queued", "b": "queued"}] * 3


def test_a_step_that_waits_for_a_link_looks_by_itself_after_a_while(ledger: Ledger, watched: Watched) -> None:
    submit(ledger, sequence("a"))
    (claim,) = ledger.claim(1, owner="w1")
    ledger.land([outcome(claim, "parked", waiting_for="link:1")], owner="w1")
    assert sweep(ledger, watched).due == set()

    watched.advance(601)

    assert sweep(ledger, watched).due == {"default"}
    assert [claim.n for claim in ledger.claim(1, owner="w1")] == [2]


# ---- (3) Heads


def test_a_head_that_nobody_takes_does_not_hide_the_others(ledger: Ledger, watched: Watched) -> None:
    submit(ledger, flow_of(step("a", queue="unserved"), step("b")))
    assert ledger.claim(1, owner="w1") == []
    assert sweep(ledger, watched).rotated == 0
    watched.advance(1.1)

    report = sweep(ledger, watched)

    assert report.rotated == 1
    assert report.due == {"default"}
    assert [claim.step for claim in ledger.claim(1, owner="w1")] == ["b"]


# ---- (4) Wake-ups


def test_every_queue_with_something_due_is_named(ledger: Ledger, watched: Watched) -> None:
    for queue in ("one", "two", "two"):
        submit(ledger, flow_of(step("a", queue=queue)))
    submit(ledger, flow_of(step("a", queue="later", defer_after_ms=60_000)))
    submit(ledger, flow_of(step("a", queue="taken")))
    ledger.claim(1, owner="w1", queues=("taken",))

    assert sweep(ledger, watched).due == {"one", "two"}


# ---- (5) Orphans


@pytest.mark.parametrize("status", ["NEW", "RUN"])
def test_a_play_without_any_head_is_taken_up_again_and_reported(
    ledger: Ledger, watched: Watched, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    play_id = submit(ledger, sequence("a"))
    heads: dict[str, Any] = dict.fromkeys(("due_at", "queue", "lane", "rank"), "")
    watched.update(PLAYS, {"_id": play_id}, {"$unset": heads, "$set": {"status": status}})
    assert not ledger.due()

    report = sweep(ledger, watched)

    assert (report.orphans, report.due) == (1, {"default"})
    assert "neither a due time nor a lease" in caplog.text
    assert run_all(ledger) == ["a"]


def test_no_play_is_ever_without_a_head_while_it_runs(ledger: Ledger, watched: Watched) -> None:
    for flow in (sequence("a", "b"), parallel("a", "b", join="c"), flow_of(step("a", defer_after_ms=1))):
        submit(ledger, flow)
    for _ in range(12):
        assert sweep(ledger, watched).orphans == 0
        run_all(ledger, most=1)
        watched.advance(0.01)

    assert {play["status"] for play in ledger.list(company_id=COMPANY)} == {"DONE"}
