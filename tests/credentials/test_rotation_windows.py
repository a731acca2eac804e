"""A rotation that is broken off at any point, by its process dying, stopping or failing: nothing is unreadable, and the
next one goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from credentials import key_census, key_rows, retirement, rotation
from credentials.vault import Vault
from flow8_core import crashpoints
from flow8_core.errors import StoreUnavailable
from flow8_core.store import Store, open_store
from tests.credentials import rotating
from tests.credentials.rotating import (
    AWAY,
    NEW_KID,
    OLD_KID,
    after,
    before,
    furnish,
    insert_links,
    kids,
    rotator,
    wrong,
)
from tests.credentials.test_keyring import NEW, ring
from tests.environment import rounds
from tests.processes import is_stopped, until

POINTS = [name for name in crashpoints.registered() if name.startswith(("rotation.", "retire."))]
OF_RETIRING = {retirement.RETIRING, retirement.COUNTED}


@pytest.fixture
def full(store_url: str) -> Iterator[Store]:
    yield from opened(store_url)


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.proof)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store that processes share; MongoDB among the proofs, for processes take their time."""
    return f"sqlite:///{tmp_path}/store.db" if request.param == "sqlite" else request.getfixturevalue("mongo_uri")


@pytest.fixture
def shared(url: str) -> Iterator[Store]:
    yield from opened(url)


def opened(store_url: str) -> Iterator[Store]:
    """A store with our collections, where the new key may write already."""
    with closing(open_store(store_url)) as store:
        rotating.declare(store)
        before().verify(store)
        after().verify(store)
        yield store
    crashpoints.arm("")


def finish(store: Store, contents: rotating.Contents) -> None:
    """Whoever comes next ends the rotation, and nothing needs the old key."""
    assert wrong(store, after(), contents) == []
    rotating.rotate(store, after())
    rotating.retire(store)
    assert wrong(store, ring(NEW), contents) == []
    assert kids(store) == {NEW_KID}
    assert key_rows.state(key_rows.all_rows(store)[OLD_KID]) == "retired"


def test_all_points_of_a_rotation_are_known() -> None:
    of_rotation = {rotation.HANDED_OVER, rotation.OPENED, rotation.RESEALED, rotation.SIGNED}
    assert set(POINTS) == of_rotation | OF_RETIRING


@pytest.mark.parametrize("point", POINTS)
def test_a_rotation_that_fails_at_a_point_is_made_good_by_the_next(full: Store, point: str) -> None:
    contents = furnish(full, before())
    if point in OF_RETIRING:
        rotating.rotate(full, after())
    crashpoints.arm(f"{point}:raise")

    with pytest.raises(crashpoints.CrashPointReached):
        (rotating.retire if point in OF_RETIRING else rotating.rotate)(full, after())

    crashpoints.arm("")
    finish(full, contents)


@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at_a_point_of_a_rotation_is_made_good_by_the_next(
    shared: Store, url: str, point: str
) -> None:
    contents = furnish(shared, before())

    process = rotator(url, f"{point}:kill")
    process.join(60)

    assert process.exitcode == -signal.SIGKILL
    finish(shared, contents)


@pytest.mark.parametrize("point", POINTS)
def test_a_process_stopped_at_a_point_of_a_rotation_and_resumed_after_the_next_does_no_harm(
    shared: Store, url: str, point: str
) -> None:
    contents = furnish(shared, before())
    process = rotator(url, f"{point}:stop")
    until(lambda: is_stopped(process.pid), f"the stop at {point}", timeout=60)

    finish(shared, contents)
    os.kill(process.pid or 0, signal.SIGCONT)
    process.join(60)

    assert process.exitcode == 0
    assert wrong(shared, ring(NEW), contents) == []
    assert kids(shared) == {NEW_KID}


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_of_a_rotation_that_fails_at_each_of_1000_records_none_is_unreadable(full: Store) -> None:
    count = rounds(1000, short=60)
    contents = furnish(full, before(), link_count=0, component_count=0)
    insert_links(full, Vault(before()), contents, count)
    points = (rotation.OPENED, rotation.RESEALED)

    ends = 0
    while True:
        # dies with its second record, before and after that is written in turn: so each one is once where it ends
        crashpoints.arm(f"{points[ends % 2]}:2:raise")
        try:
            rotating.rotate(full, after())
        except crashpoints.CrashPointReached:
            ends += 1
            assert patiently(lambda: wrong(full, after(), contents)) == []
        except StoreUnavailable:  # on a machine that is too busy to answer
            continue
        else:
            break
    crashpoints.arm("")

    assert ends >= count * 2 // 3 - 1
    finish(full, contents)


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_of_a_rotation_whose_process_is_killed_at_each_record_none_is_unreadable(shared: Store, url: str) -> None:
    count = rounds(1000, short=24)
    contents = furnish(shared, before(), link_count=0, component_count=0)
    insert_links(shared, Vault(before()), contents, count)

    kills = 0
    while True:
        process = rotator(url, f"{(rotation.OPENED, rotation.RESEALED)[kills % 2]}:2:kill", steps=["rotate"])
        process.join(300)
        if process.exitcode == 0:
            break
        if process.exitcode == AWAY:  # on a machine that is too busy to answer
            continue
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        assert patiently(lambda: wrong(shared, after(), contents)) == []
        assert set(patiently(lambda: key_census.take(shared, Vault(after())))) <= {OLD_KID, NEW_KID}

    assert kills >= count * 2 // 3 - 1
    print(f"killed {kills} times on the way through {count} records: none is unreadable")  # noqa: T201
    finish(shared, contents)


def patiently(look: Callable[[], Any]) -> Any:
    """What it finds, once the store answers."""
    for _ in range(30):  # each waits for it a while
        with suppress(StoreUnavailable):
            return look()
    return look()
