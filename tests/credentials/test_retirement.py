"""Retiring a key: refused while anything needs it, and safe from processes that still write with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from bson import ObjectId

from credentials import key_census, key_rows
from credentials.audit import Audit
from credentials.components import Components
from credentials.key_rows import LOOK_S, Writer
from credentials.keyring import KeyMismatch, Keyring
from credentials.retirement import Retirement
from credentials.vault import Place, Vault
from flow8_core.errors import Conflict, NotFound, StoreUnavailable, ValidationFailed
from flow8_core.store import Store, open_store
from tests.credentials import rotating
from tests.credentials.rotating import NEW_KID, OLD_KID, after, before, furnish, kids, retire, rotate, wrong
from tests.credentials.test_keyring import NEW, OLD, OTHER, ring
from tests.processes import until


@pytest.fixture
def full(store_url: str) -> Iterator[Store]:
    """Everything sealed with the old key; the new one may write."""
    with closing(open_store(store_url)) as opened:
        rotating.declare(opened)
        before().verify(opened)
        after().verify(opened)
        yield opened


@pytest.fixture
def here(store: Store) -> Store:
    rotating.declare(store)
    before().verify(store)
    after().verify(store)
    return store


def looking_always(store: Store, keyring: Keyring) -> Vault:
    """A vault of another process, which looks at its key's row each time."""
    times = iter(range(10**9))
    return Vault(keyring, Writer(store, keyring, monotonic=lambda: next(times) * (LOOK_S + 1)))


def a_write(store: Store, vault: Vault, contents: rotating.Contents) -> Place:
    """A link that is stored now, sealed with what the vault seals with."""
    place = Place("db_links", ObjectId(), contents.company_id, "access_token")
    contents.secrets[place] = "token of a late link"
    sealed = vault.seal(place, contents.secrets[place])
    store.insert("db_links", {"_id": place.id, "company_id": place.company_id, "access_token": sealed})
    return place


def state(store: Store, kid: str = OLD_KID) -> str:
    return key_rows.state(key_rows.all_rows(store)[kid])


# refused


def test_it_is_refused_while_a_single_envelope_needs_the_key(full: Store) -> None:
    contents = furnish(full, before())
    rotate(full)
    late = a_write(full, Vault(before()), contents)

    with pytest.raises(Conflict, match="still needed"):
        retire(full)

    assert state(full) == "superseded"
    assert wrong(full, after(), contents) == []
    full.delete("db_links", {"_id": late.id})
    assert retire(full).kid == OLD_KID


@pytest.mark.parametrize("what", ["db_links", "component_configs", "oauth_states", "audit_logs"])
def test_it_is_refused_whatever_it_is_that_needs_the_key(here: Store, what: str) -> None:
    old, contents = Vault(before()), furnish(here, after(), link_count=0, component_count=0)
    if what == "db_links":
        a_write(here, old, contents)
    elif what == "component_configs":
        body = {"name": "late", "kind": "request", "config": rotating.BEARER}
        Components(here, old, contents.company_id).add(body)
        Audit(here, Vault(after()), contents.company_id).record("x_y", resource_type="x", resource_id="y")
    elif what == "oauth_states":
        rotating.States(here, old).keep(rotating.States.new(), rotating.intent(contents), None)
    else:
        Audit(here, old, contents.company_id).record("x_y", resource_type="x", resource_id="y")

    with pytest.raises(Conflict, match=rf"still needed \(1 in {what}\)"):
        retire(here)


def test_a_connect_that_was_not_finished_in_time_keeps_no_key(here: Store) -> None:
    furnish(here, before(), link_count=0)
    rotate(here, after())
    here.update("oauth_states", {}, {"$set": {"expires_at": here.now(), "bound.kid": OLD_KID}})

    assert retire(here).kid == OLD_KID


@pytest.mark.parametrize(
    ("keyring", "kid", "says"),
    [
        (after, NEW_KID, "writes"),
        (before, OLD_KID, "still the ENC_KEY_SECRET here"),
        (lambda: ring(NEW), OLD_KID, "not one that this process has"),
    ],
)
def test_a_key_that_writes_here_or_is_not_here_is_refused(
    here: Store, keyring: Callable[[], Keyring], kid: str, says: str
) -> None:
    rotate(here)

    with pytest.raises(Conflict, match=says):
        Retirement(here, keyring(), pause=lambda _: None).run(kid)

    assert state(here) == "superseded"


def test_a_key_is_not_retired_under_a_living_process_that_would_not_start_again(here: Store) -> None:
    rotate(here)

    with pytest.raises(Conflict, match="1 living worker processes"):
        retire(here, primaries={"host:1:a": OLD_KID, "host:2:b": NEW_KID})


def test_a_key_that_nobody_knows_is_told(here: Store) -> None:
    with pytest.raises(NotFound):
        Retirement(here, after()).run("0123456789abcdef")


def test_where_nothing_can_be_meant_it_is_told(store: Store) -> None:
    rotating.declare(store)
    ring(OLD).verify(store)

    with pytest.raises(ValidationFailed, match="no key can be retired"):
        Retirement(store, ring(OLD)).the_one()


def test_what_does_not_open_with_the_key_either_can_be_left_behind_and_nothing_else(full: Store) -> None:
    contents = furnish(full, before())
    bad = next(iter(contents.secrets))
    full.update(bad.collection, {"_id": bad.id}, {"$set": {f"{bad.field}.ciphertext": "AAAA"}})
    rotate(full, after())
    good = a_write(full, Vault(before()), contents)

    with pytest.raises(Conflict):
        retire(full, abandon=True)
    full.delete("db_links", {"_id": good.id})
    with pytest.raises(Conflict):
        retire(full)
    retired = retire(full, abandon=True)

    assert retired.abandoned == 1


# races


def test_a_process_that_writes_while_writes_are_given_time_makes_it_fail(full: Store) -> None:
    """It looked before anybody said `retiring`, and stores what it sealed a moment later."""
    contents, stale = furnish(full, before()), Vault(before())
    rotate(full)

    with pytest.raises(Conflict, match="still needed"):
        retire(full, pause=lambda _: a_write(full, stale, contents))

    assert state(full) == "superseded"
    assert wrong(full, after(), contents) == []
    rotate(full, after())
    assert retire(full).kid == OLD_KID
    assert wrong(full, ring(NEW), contents) == []


def test_a_process_that_has_the_old_key_alone_takes_the_retirement_back(full: Store) -> None:
    contents, alone = furnish(full, before()), looking_always(full, ring(OLD))
    rotate(full)

    class Counting:
        """Lets the process write after the second count, when there is only the last step left."""

        def __getattr__(self, name: str) -> Any:
            return getattr(full, name)

        def update(self, collection: str, wanted: Any, update: Any, **options: Any) -> Any:
            if "retired_at" in update.get("$set", {}) and update["$set"]["retired_at"] is not None:
                a_write(full, alone, contents)
            return full.update(collection, wanted, update, **options)

    with pytest.raises(Conflict, match="was used"):
        retire(Counting())  # type: ignore[arg-type]

    assert state(full) == "superseded"
    assert wrong(full, after(), contents) == []


def test_a_process_that_comes_after_the_retirement_revives_the_key_and_loses_nothing(full: Store) -> None:
    contents, alone = furnish(full, before()), looking_always(full, ring(OLD))
    rotate(full)
    retire(full)

    a_write(full, alone, contents)

    assert state(full) == "superseded"
    with pytest.raises(KeyMismatch, match=OLD_KID):
        ring(NEW).verify(full)  # whoever starts without the old key is told
    rotate(full, after())
    assert retire(full).kid == OLD_KID
    assert wrong(full, ring(NEW), contents) == []


def test_what_a_process_stored_that_was_stopped_for_too_long_is_found_and_mended(full: Store) -> None:
    """The one case that is not prevented: sealed before, stored after. It is counted, and the old secret opens it."""
    contents = furnish(full, before())
    rotate(full)
    retire(full)
    a_write(full, Vault(before()), contents)  # looked at nothing since

    census = key_census.take(full, Vault(after()))
    rotate(full, after())

    assert census[OLD_KID] == {"db_links": 1}
    assert wrong(full, ring(NEW), contents) == []


def test_of_two_retirements_at_once_one_is_enough(full: Store) -> None:
    rotate(full)
    outcomes = []

    first = retire(full, pause=lambda _: outcomes.append(retire(full).kid))

    assert [first.kid, *outcomes] == [OLD_KID, OLD_KID]
    assert state(full) == "retired"


@pytest.mark.parametrize("has_next", [True, False])
def test_no_retirement_succeeds_while_a_process_seals_with_the_key(full: Store, has_next: bool) -> None:
    """A writer beside it, without end: with the next key it follows and the key goes; with the old one alone the key
    stays. Whenever it is gone, nothing needs it."""
    contents = furnish(full, before(), link_count=2, component_count=1)
    vault = looking_always(full, before() if has_next else ring(OLD))
    writes, over = [0], threading.Event()

    def write() -> None:
        components = Components(full, vault, contents.company_id)
        while not over.is_set():
            with suppress(Conflict):  # a rotation does not change the version; this is for the store's sake
                components.update("component-0", {"config": {"auth": {"value": f"sk-live-{writes[0]:032}"}}})
            writes[0] += 1

    def settled(_: float) -> None:
        """As long as it takes for writes under way to arrive."""
        seen = writes[0]
        until(lambda: writes[0] >= seen + 2 or not writer.is_alive(), "two more writes")

    writer = threading.Thread(target=write)
    writer.start()
    succeeded = 0
    try:
        for _ in range(4):
            rotate(full, after())
            with suppress(Conflict):
                retire(full, pause=settled)
                succeeded += 1
                if state(full) == "retired":
                    assert OLD_KID not in key_census.take(full, Vault(after()))
    finally:
        over.set()
        writer.join()

    place = next(place for place in contents.secrets if place.collection == "component_configs")
    del contents.secrets[place]
    assert wrong(full, after(), contents) == []
    assert (succeeded > 0) is has_next
    assert (OLD_KID in kids(full)) is not has_next


# which key a process seals with


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_process_follows_to_the_next_key_within_seconds(here: Store) -> None:
    clock = Clock()
    writer = Writer(here, before(), monotonic=clock)
    assert writer().kid == OLD_KID

    rotate(here)

    assert writer().kid == OLD_KID
    clock.now += LOOK_S
    assert writer().kid == NEW_KID


def test_a_process_is_led_to_no_key_that_it_was_not_given_as_the_next_one(here: Store) -> None:
    """Whoever can write to the database cannot have tokens sealed with a key that was given up."""
    here.update("keyring", {"_id": NEW_KID}, {"$set": {"superseded_by": OLD_KID}})

    assert Writer(here, after())().kid == NEW_KID
    here.update("keyring", {"_id": OLD_KID}, {"$set": {"superseded_by": ring(OTHER).primary.kid}})
    assert Writer(here, before())().kid == OLD_KID


def test_a_store_that_is_away_changes_nothing_and_is_not_waited_for_again_and_again(here: Store) -> None:
    clock, asked = Clock(), []

    class Away:
        def get(self, *_: Any) -> Any:
            asked.append(True)
            raise StoreUnavailable("away")

    writer = Writer(Away(), before(), monotonic=clock)  # type: ignore[arg-type]

    assert [writer().kid for _ in range(3)] == [OLD_KID] * 3
    assert len(asked) == 1
