"""Who is alive: locks on this host, heartbeats elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from flow8_core.clock import ManualClock
from flow8_core.store import open_store
from flow8_runtime.owners import COLLECTION, INDEXES, Keys, Owner, Owners

HOLD = """
import sys
from pathlib import Path
from flow8_runtime.owners import Owner
owner = Owner(Path(sys.argv[1]))
print(owner.id, flush=True)
sys.stdin.read()
"""


def _owners(home: Path) -> tuple[Owners, ManualClock]:
    clock = ManualClock()
    store = open_store(f"sqlite:///{home / 'flow8.db'}", clock=clock)
    store.declare(COLLECTION, INDEXES)
    return Owners(store, home), clock


def test_an_owner_that_was_killed_is_dead_at_once_though_its_zombie_answers(tmp_path: Path) -> None:
    owners, _ = _owners(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        owner = child.stdout.readline().strip()
        alive_before = not owners.dead(owner)

        os.kill(child.pid, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now: kill(pid, 0) still works
        os.kill(child.pid, 0)
        dead_after = owners.dead(owner)

    assert (alive_before, dead_after) == (True, True)


def test_an_owner_that_left_in_good_order_is_dead(tmp_path: Path) -> None:
    owners, _ = _owners(tmp_path)
    owner = Owner(tmp_path)

    owner.close()

    assert owners.dead(owner.id)


def test_an_owner_elsewhere_is_dead_when_its_heartbeats_are_missing(tmp_path: Path) -> None:
    clock = ManualClock()
    store = open_store(f"sqlite:///{tmp_path / 'flow8.db'}", clock=clock)
    store.declare(COLLECTION, INDEXES)
    owners = Owners(store, tmp_path)
    elsewhere = "another-host-1-2:77:abcd"
    store.insert(
        COLLECTION, {"_id": elsewhere, "host": "another-host-1-2", "beat_until": store.now() + timedelta(seconds=6)}
    )

    alive = owners.dead(elsewhere)
    clock.advance(7)
    dead = owners.dead(elsewhere)

    assert (alive, dead) == (False, True)


def test_a_deployment_without_workers_has_nobody_alive(tmp_path: Path) -> None:
    owners, clock = _owners(tmp_path)
    owner = Owner(tmp_path)
    before = owners.any_alive()
    owner.beat(owners._store, alive_s=6)
    during = owners.any_alive()

    clock.advance(7)
    after = owners.any_alive()

    owner.close()
    assert (before, during, after) == (False, True, False)


def test_what_the_long_dead_left_is_removed(tmp_path: Path) -> None:
    owners, clock = _owners(tmp_path)
    owner = Owner(tmp_path)
    owner.beat(owners._store, alive_s=6)
    os.close(owner._fd)  # as the kernel does at its death
    clock.advance(2 * 3600)

    buried = owners.bury()

    owner_file = tmp_path / "owners" / owner.id.replace(":", "-")
    assert buried == 1
    assert not owner_file.exists()


def test_an_owner_that_lives_is_not_buried_after_hours_without_a_heartbeat(tmp_path: Path) -> None:
    # a laptop that was asleep, or a store that was away: the first sweep comes before the first heartbeat
    owners, clock = _owners(tmp_path)
    owner = Owner(tmp_path)
    owner.beat(owners._store, alive_s=6)
    clock.advance(7200)

    buried = owners.bury()

    assert buried == 0
    assert not owners.dead(owner.id)


def test_what_lies_in_spools_is_counted_once_a_host_and_only_of_those_who_live(tmp_path: Path) -> None:
    owners, clock = _owners(tmp_path)
    here = Owner(tmp_path)
    here.beat(owners._store, alive_s=6, keys=Keys("a", ("a",), {"a": 5}))
    until = owners._store.now() + timedelta(seconds=6)
    for name, host, spooled in (
        ("1", "x", {"a": 2}),
        ("2", "x", {"a": 3, "b": 1}),
        ("3", "y", {"a": 1}),
        ("4", "y", {}),
    ):
        row = {"host": host, "beat_until": until, "keys": {"primary": "a", "reads": ["a"], "spooled": spooled}}
        owners._store.insert(COLLECTION, {"_id": f"{host}:{name}:abcd", **row})

    assert owners.spooled(here=False) == {"a": 4, "b": 1}
    assert owners.spooled(here=True) == {"a": 9, "b": 1}
    clock.advance(7)
    assert owners.spooled(here=False) == {}
    here.close()
