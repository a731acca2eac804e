"""Re-sealing everything with another key: what may be in the way, and that nothing is lost or forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from bson import ObjectId

from credentials import key_census, key_rows, rotation
from credentials.audit import Audit
from credentials.components import Components
from credentials.keyring import KeyMismatch, KeySettings, UnboundSettings
from credentials.oauth_states import States
from credentials.rotation import DEPLOYMENT, Rotation
from credentials.vault import Place, Vault
from flow8_core import crashpoints
from flow8_core.errors import AccessDenied, Conflict, NotFound
from flow8_core.store import Store, open_store
from tests.credentials import rotating
from tests.credentials.rotating import NEW_KID, OLD_KID, after, before, furnish, kids, rotate, wrong
from tests.credentials.test_keyring import NEW, OLD, ring
from tests.credentials.test_vault import of_older_server


@pytest.fixture
def full(store_url: str) -> Iterator[Store]:
    """An empty store with our collections, SQLite and MongoDB in turn."""
    with closing(open_store(store_url)) as opened:
        rotating.declare(opened)
        before().verify(opened)
        yield opened
    crashpoints.arm("")


@pytest.fixture
def here(store: Store) -> Iterator[Store]:
    """The same on SQLite alone, for what does not depend on the store."""
    rotating.declare(store)
    before().verify(store)
    yield store
    crashpoints.arm("")


# what is in the way


def test_a_key_that_a_living_process_cannot_read_does_not_write(here: Store) -> None:
    """Readers first."""
    furnish(here, before())

    with pytest.raises(Conflict, match="ENC_KEY_SECRET_NEXT"):
        Rotation(here, before(), to=NEW_KID, unable=lambda kid: ["host:1:a"] if kid == NEW_KID else []).run()
    with pytest.raises(KeyMismatch, match="1 living worker processes cannot read"):
        after().verify(here, unable=lambda kid: ["host:1:a"] if kid == NEW_KID else [])

    assert kids(here) == {OLD_KID}
    assert key_rows.all_rows(here)[NEW_KID]["active_since"] is None


def test_a_key_that_this_process_does_not_have_cannot_be_rotated_to(here: Store) -> None:
    with pytest.raises(NotFound):
        Rotation(here, ring(OLD), to=NEW_KID)


@pytest.mark.parametrize("damage", [{"ciphertext": "AAAA"}, {"kid": "0123456789abcdef"}, {"v": 3}, {"kid": None}])
def test_an_envelope_that_does_not_open_is_reported_and_stops_nothing_else(
    full: Store, damage: Mapping[str, Any]
) -> None:
    contents = furnish(full, before())
    bad = next(place for place in contents.secrets if place.field == "access_token")
    changes = {f"{bad.field}.{name}": value for name, value in damage.items()}
    full.update(bad.collection, {"_id": bad.id}, {"$set": changes})
    damaged = (full.get(bad.collection, bad.id) or {})[bad.field]

    report = rotate(full)

    assert report.unreadable == [(bad.collection, str(bad.id), bad.field)]
    assert wrong(full, ring(NEW), contents) == [bad]  # its neighbours in the same record included
    assert (full.get(bad.collection, bad.id) or {})[bad.field] == damaged


def test_a_record_without_a_company_is_reported_and_stops_nothing_else(here: Store) -> None:
    contents = furnish(here, before())
    bad = next(iter(contents.secrets))
    here.update(bad.collection, {"_id": bad.id}, {"$unset": {"company_id": ""}})

    report = rotate(here)

    assert {each.id for each in report.unreadable} == {str(bad.id)}
    assert {place.id for place in wrong(here, ring(NEW), contents)} == {bad.id}


def test_what_is_stored_between_reading_and_writing_wins(here: Store) -> None:
    """A refresh lands new tokens, sealed with the old key, just before the rotation writes."""
    contents = furnish(here, before(), link_count=2, component_count=0)
    place = next(place for place in contents.secrets if place.field == "refresh_token")
    stale, landed = Vault(before()), []

    class Late:
        def __getattr__(self, name: str) -> Any:
            return getattr(here, name)

        def update(self, collection: str, wanted: Any, update: Any, **options: Any) -> Any:
            if wanted["_id"] == place.id and not landed:
                landed.append(True)
                fresh = {"refresh_token": stale.seal(place, "a newer token"), "generation": 2}
                here.update(place.collection, {"_id": place.id}, {"$set": fresh})
            return here.update(collection, wanted, update, **options)

    report = Rotation(Late(), before(), to=NEW_KID).run()  # type: ignore[arg-type]

    contents.secrets[place] = "a newer token"
    assert landed
    assert report.unreadable == []
    assert wrong(here, ring(NEW), contents) == []
    assert (here.get(place.collection, place.id) or {})["generation"] == 2


def test_a_record_that_others_change_without_end_is_left_and_named(here: Store) -> None:
    contents = furnish(here, before(), link_count=3, component_count=0)
    busy = next(iter(contents.secrets)).id

    class Restless:
        def __getattr__(self, name: str) -> Any:
            return getattr(here, name)

        def update(self, collection: str, wanted: Any, update: Any, **options: Any) -> Any:
            return None if wanted["_id"] == busy else here.update(collection, wanted, update, **options)

    report = Rotation(Restless(), before(), to=NEW_KID).run()  # type: ignore[arg-type]

    assert {each.id for each in report.unreadable} == {str(busy)}
    assert wrong(here, before(), contents) == []


def test_a_record_that_is_deleted_meanwhile_is_no_fault(here: Store) -> None:
    contents = furnish(here, before(), link_count=3, component_count=0)
    gone = next(iter(contents.secrets)).id

    class Deleting:
        def __getattr__(self, name: str) -> Any:
            return getattr(here, name)

        def update(self, collection: str, wanted: Any, update: Any, **options: Any) -> Any:
            if wanted["_id"] == gone:
                here.delete(collection, {"_id": gone})
            return here.update(collection, wanted, update, **options)

    assert Rotation(Deleting(), before(), to=NEW_KID).run().unreadable == []  # type: ignore[arg-type]


# what is done


def test_everything_that_is_sealed_opens_with_the_new_key_alone(full: Store) -> None:
    contents = furnish(full, before())
    census = key_census.take(full, Vault(before()))

    report = rotate(full)

    counts = {"db_links": 20, "component_configs": 3, "oauth_states": 4, "outbox": 1, "audit_logs": 1}
    assert census == {OLD_KID: counts}
    assert key_census.take(full, Vault(ring(NEW))) == {NEW_KID: {**counts, "audit_logs": 2}}
    assert (report.records, report.envelopes, report.logs, report.unreadable) == (12, 26, 1, [])
    assert wrong(full, ring(NEW), contents) == []
    assert Components(full, Vault(ring(NEW)), contents.company_id).resolve("request", id="component-0").config["auth"]
    state = States(full, Vault(ring(NEW))).consume(contents.states[0].reveal(), service="acme", browser=None)
    assert state.verifier is not None
    assert state.verifier.reveal() == "verifier-0123456789"
    assert Audit(full, Vault(ring(NEW)), contents.company_id).verify().ok


def test_a_state_that_was_changed_is_not_made_good_by_a_rotation(here: Store) -> None:
    contents = furnish(here, before())
    here.update("oauth_states", {}, {"$set": {"user_id": ObjectId()}})

    rotate(here)

    outcomes = []
    for state in contents.states:
        try:
            States(here, Vault(after())).consume(state.reveal(), service="acme", browser=None)
        except AccessDenied:
            outcomes.append("refused")
        else:
            outcomes.append("let in")
    assert sorted(outcomes) == ["let in", "refused"]


def test_a_second_rotation_finds_nothing_to_do(here: Store) -> None:
    furnish(here, before())
    rotate(here)
    sealed_before = {name: here.find(name, {}) for name in ("db_links", "component_configs", "oauth_states")}

    report = rotate(here, after())

    assert (report.records, report.logs) == (0, 0)
    assert {name: here.find(name, {}) for name in sealed_before} == sealed_before


def test_a_rotation_can_be_turned_back(here: Store) -> None:
    contents = furnish(here, before())
    rotate(here)

    report = Rotation(here, before(), to=OLD_KID).run()

    assert report.records == 12
    assert wrong(here, ring(OLD), contents) == []
    assert {kid: key_rows.state(row) for kid, row in key_rows.all_rows(here).items()} == {
        OLD_KID: "writing",
        NEW_KID: "superseded",
    }


def test_two_rotations_at_once_share_the_work(full: Store) -> None:
    contents = furnish(full, before(), link_count=40)

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda _: rotate(full), range(2)))

    assert sum(report.records for report in reports) == 46
    assert [report.unreadable for report in reports] == [[], []]
    assert wrong(full, ring(NEW), contents) == []


def test_progress_is_told_for_each_record_once(here: Store) -> None:
    furnish(here, before())
    steps: list[None] = []

    Rotation(here, before(), to=NEW_KID).run(lambda: steps.append(None))

    assert len(steps) == rotation.size(here) == 12


def test_what_was_done_is_in_the_audit_logs_of_the_deployment_and_of_each_company(here: Store) -> None:
    contents = furnish(here, before())

    rotate(here)
    rotating.retire(here)

    assert rotating.events(here, contents.company_id) == [("encryption_key_rotated", NEW_KID)]
    assert rotating.events(here, DEPLOYMENT) == [
        ("encryption_key_rotation_started", NEW_KID),
        ("encryption_key_rotated", NEW_KID),
        ("encryption_key_retired", OLD_KID),
    ]
    for company_id in (contents.company_id, DEPLOYMENT):
        assert Audit(here, Vault(ring(NEW)), company_id).verify().ok


# envelopes of an older server


def shared(*, write: bool) -> KeySettings:
    return KeySettings(kdf="scrypt", unbound=UnboundSettings(kdf="scrypt", write=write))


@pytest.mark.parametrize("write", [False, True])
def test_envelopes_of_an_older_server_get_the_form_that_the_settings_say(here: Store, write: bool) -> None:
    place = Place("db_links", ObjectId(), ObjectId(), "access_token")
    here.insert(
        "db_links", {"_id": place.id, "company_id": place.company_id, "access_token": of_older_server("token-1")}
    )
    both = ring(OLD, following=NEW, settings=shared(write=write))
    assert key_census.take(here, Vault(both)) == {OLD_KID: {"db_links": 1}}

    report = Rotation(here, both, to=NEW_KID).run()

    envelope = (here.get("db_links", place.id) or {})["access_token"]
    assert report.records == 1
    assert ("kid" in envelope) is not write
    alone = Vault(ring(NEW, settings=shared(write=write)))
    assert alone.open(place, envelope).reveal() == "token-1"
    assert key_census.take(here, alone)[NEW_KID]["db_links"] == 1


def test_without_the_setting_envelopes_of_an_older_server_are_reported_and_stay(here: Store) -> None:
    row = {"_id": ObjectId(), "company_id": ObjectId(), "access_token": of_older_server("token-1")}
    here.insert("db_links", row)

    report = rotate(here)

    assert [each.field for each in report.unreadable] == ["access_token"]
    assert here.get("db_links", row["_id"]) == row
    assert key_census.take(here, Vault(after()))[key_census.UNKNOWN] == {"db_links": 1}
