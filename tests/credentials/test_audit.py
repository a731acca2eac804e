"""The audit log: nothing secret gets in, nothing changes unseen, and what cannot be recorded does not happen."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from credentials import audit as audit_module
from credentials import audit_states
from credentials.audit import COLLECTION, Audit, Head, Origin, Selection
from credentials.audit_chain import digest_after
from credentials.keyring import Keyring, KeySettings
from credentials.vault import Place, Vault
from flow8_core.errors import InternalError, InvalidGrant, StoreUnavailable, ValidationFailed
from flow8_core.secret import Secret
from flow8_core.store import DuplicateKey, Store, open_store
from tests.credentials.conftest import ENVIRON


@pytest.fixture
def audit(store: Store, vault: Vault, company_id: ObjectId) -> Audit:
    return Audit(store, vault, company_id)


def record(audit: Audit, count: int = 1, **details: Any) -> None:
    for number in range(count):
        audit.record("integration_linked", resource_type="integration", resource_id=f"link-{number}", **details)


def rows(store: Store) -> list[dict[str, Any]]:
    return store.find(COLLECTION, {}, sort=[("seq", 1)])


# what an event holds


def test_the_seeds_example_is_recorded_as_flow8_does(audit: Audit, store: Store, company_id: ObjectId):
    user_id = ObjectId()

    audit.record(
        "integration_linked",
        resource_type="integration",
        resource_id="link_123",
        before={},
        after={"integration_type": "slack", "provider_user_id": "U123", "scopes": ["chat:write", "files:write"]},
        user_id=user_id,
    )

    (row,) = rows(store)
    assert {
        name: row[name] for name in ("action_type", "resource_type", "resource_id", "before_state", "after_state")
    } == {
        "action_type": "integration_linked",
        "resource_type": "integration",
        "resource_id": "link_123",
        "before_state": {},
        "after_state": {
            "integration_type": "slack",
            "provider_user_id": "U123",
            "scopes": ["chat:write", "files:write"],
        },
    }
    assert (row["company_id"], row["user_id"], row["seq"]) == (company_id, user_id, 1)
    assert row["timestamp"].tzinfo is not None
    assert row["timestamp"].microsecond % 1000 == 0


def test_the_request_behind_an_action_is_recorded_without_its_query(store: Store, vault: Vault, company_id: ObjectId):
    origin = Origin(
        user_email="a@b.ch",
        user_ip_address="192.0.2.1",
        user_agent="curl",
        http_method="GET",
        http_path="/auth/callback?code=abc&state=def",
        http_status=303,
        request_duration=12,
        correlation_id="c-1",
        session_id="fingerprint",
        tags={"source": "page"},
    )

    record(Audit(store, vault, company_id, origin=origin))

    (row,) = rows(store)
    assert row["http_path"] == "/auth/callback"
    assert row["http_status"] == 303
    assert row["tags"] == {"source": "page"}
    assert row["user_email"] == "a@b.ch"


def test_a_failure_is_recorded_with_its_code(audit: Audit, store: Store):
    record(audit, error=InvalidGrant("Connect again."))

    (row,) = rows(store)
    assert (row["error_type"], row["error_message"]) == ("invalid_grant", "Connect again.")


def test_fields_that_are_not_on_the_list_are_masked(audit: Audit, store: Store):
    state = {"name": "x", "api_key": "sk-proj-abc", "config": {"bucket": "b", "secret_access_key": "wJalr", "new": 7}}

    record(audit, before=state, after=state)

    (row,) = rows(store)
    expected = {
        "name": "x",
        "api_key": "[secret]",
        "config": {"bucket": "b", "secret_access_key": "[secret]", "new": "[secret]"},
    }
    assert row["before_state"] == row["after_state"] == expected


def envelope(vault: Vault) -> dict[str, Any]:
    return vault.seal(Place("db_links", ObjectId(), ObjectId(), "access_token"), "token")


SECRETS: dict[str, Callable[[Vault], Any]] = {
    "a Secret": lambda _: Secret("xoxb-1"),
    "a Secret in a list": lambda _: [{"a": Secret("xoxb-1")}],
    "an envelope": envelope,
    "an unbound envelope": lambda _: {"encrypted": True, "nonce": "", "ciphertext": ""},
    "part of an envelope": lambda _: {"ciphertext": "abc"},
    "bytes": lambda _: b"raw",
    "too deep": lambda _: {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}},
}


@pytest.mark.parametrize("make", SECRETS.values(), ids=SECRETS.keys())
@pytest.mark.parametrize("field", ["config", "access_token"], ids=["listed field", "unlisted field"])
def test_a_secret_or_an_envelope_in_a_state_is_refused(
    audit: Audit, store: Store, vault: Vault, make: Callable[[Vault], Any], field: str
):
    with pytest.raises(InternalError, match="audit"):
        record(audit, after={field: make(vault)})

    assert rows(store) == []


def test_a_known_secret_within_a_listed_text_is_scrubbed(audit: Audit, store: Store):
    token = Secret("tok-Zq81mmV0pL2x").reveal()

    record(audit, after={"name": f"my {token}"}, error=InvalidGrant(f"refused {token}"))

    assert token not in repr(rows(store))


def test_text_that_no_database_takes_is_repaired(audit: Audit, store: Store):
    record(audit, after={"name": "a\ud800b " + "word " * 1000})

    (row,) = rows(store)
    assert row["after_state"]["name"].startswith("a?b")
    assert len(row["after_state"]["name"]) == audit_states.TEXT_LIMIT
    assert audit.verify().ok


# the chain


def test_an_untouched_log_verifies_on_both_stores(either_store: Store, vault: Vault, company_id: ObjectId):
    audit = Audit(either_store, vault, company_id)
    assert audit.verify().ok

    record(
        audit,
        30,
        after={"scopes": ["a"], "token_expiry": datetime(2026, 4, 4, 10, 0, 0, 123456, UTC), "lifetime_s": 3.5},
    )

    found = audit.verify()
    assert (found.ok, found.checked, found.head) == (True, 30, audit.head())


def test_a_long_log_is_walked_in_batches(audit: Audit, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audit_module, "_BATCH", 7)
    record(audit, 21)

    assert audit.verify().checked == 21


def test_companies_have_chains_of_their_own(store: Store, vault: Vault):
    first, second = Audit(store, vault, ObjectId()), Audit(store, vault, ObjectId())
    for _ in range(3):
        record(first)
        record(second)

    assert [first.verify().checked, second.verify().checked] == [3, 3]
    assert first.head() != second.head()


COUNT = 24


def put_back(store: Store, company_id: ObjectId, documents: list[dict[str, Any]]) -> None:
    """What a database writer can do: anything, except compute a MAC."""
    while store.delete(COLLECTION, {"company_id": company_id}):
        pass
    for document in documents:
        store.insert(COLLECTION, document)


@pytest.fixture(scope="module")
def log(
    tmp_path_factory: pytest.TempPathFactory, keyring: Keyring
) -> tuple[Store, Audit, ObjectId, list[dict[str, Any]]]:
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('log') / 'store.db'}")
    store.declare(COLLECTION, audit_module.INDEXES)
    company_id = ObjectId()
    audit = Audit(store, Vault(keyring), company_id)
    record(audit, COUNT, after={"name": "a", "scopes": ["x", "y"]}, user_id=ObjectId())
    return store, audit, company_id, rows(store)


def edits() -> dict[str, Callable[[dict[str, Any]], dict[str, Any]]]:
    return {
        "action": lambda row: {**row, "action_type": "integration_unlinked"},
        "resource": lambda row: {**row, "resource_id": row["resource_id"] + "0"},
        "time by a millisecond": lambda row: {**row, "timestamp": row["timestamp"] + timedelta(milliseconds=1)},
        "user": lambda row: {**row, "user_id": ObjectId()},
        "no user": lambda row: {name: value for name, value in row.items() if name != "user_id"},
        "state": lambda row: {**row, "after_state": {"name": "b", "scopes": ["x", "y"]}},
        "list regrouped": lambda row: {**row, "after_state": {"name": "a", "scopes": [["x", "y"]]}},
        "field added": lambda row: {**row, "error_message": "x"},
        "bytes added": lambda row: {**row, "extra": b"x"},
        "identity": lambda row: {**row, "_id": ObjectId()},
        "chain": lambda row: {**row, "chain": "0" * 64},
        "no chain": lambda row: {name: value for name, value in row.items() if name != "chain"},
        "digest": lambda row: {**row, "chain_digest": "0" * 64},
        "kid": lambda row: {**row, "kid": "0" * 16},
        "no kid": lambda row: {name: value for name, value in row.items() if name != "kid"},
        "number as a float": lambda row: {**row, "seq": float(row["seq"])},
    }


@pytest.mark.parametrize("edit", edits().values(), ids=edits().keys())
def test_every_edited_event_is_found_at_its_number(log: Any, edit: Callable[[dict[str, Any]], dict[str, Any]]):
    store, audit, company_id, documents = log

    found = {}
    for index in range(0, COUNT, 5):
        put_back(store, company_id, [*documents[:index], edit(documents[index]), *documents[index + 1 :]])
        found[index + 1] = audit.verify().broken_at

    assert found == {number: number for number in found}


def test_every_deleted_event_is_found_at_its_number(log: Any):
    """The last one excepted, which only an anchor shows."""
    store, audit, company_id, documents = log

    found = {}
    for index in range(COUNT - 1):
        put_back(store, company_id, documents[:index] + documents[index + 1 :])
        found[index + 1] = audit.verify().broken_at

    assert found == {number: number for number in range(1, COUNT)}


def test_every_deleted_event_is_found_where_the_rest_was_renumbered(log: Any):
    store, audit, company_id, documents = log

    found = {}
    for index in range(COUNT - 1):
        behind = [{**document, "seq": document["seq"] - 1} for document in documents[index + 1 :]]
        put_back(store, company_id, documents[:index] + behind)
        found[index + 1] = audit.verify().broken_at

    assert found == {number: number for number in range(1, COUNT)}


def test_every_swap_of_neighbours_is_found_at_the_first(log: Any):
    store, audit, company_id, documents = log

    found = {}
    for index in range(COUNT - 1):
        one, other = documents[index], documents[index + 1]
        swapped = [{**other, "seq": one["seq"]}, {**one, "seq": other["seq"]}]
        put_back(store, company_id, documents[:index] + swapped + documents[index + 2 :])
        found[index + 1] = audit.verify().broken_at

    assert found == {number: number for number in range(1, COUNT)}


def test_every_inserted_event_is_found_at_its_number(log: Any):
    store, audit, company_id, documents = log

    found = {}
    for index in range(0, COUNT, 3):
        forged = {**documents[index], "_id": ObjectId(), "action_type": "forged"}
        behind = [{**document, "seq": document["seq"] + 1} for document in documents[index:]]
        put_back(store, company_id, [*documents[:index], forged, *behind])
        found[index + 1] = audit.verify().broken_at

    assert found == {number: number for number in found}


@pytest.mark.parametrize("seq", [0, -3, "7", None, 2.5])
def test_an_event_outside_the_numbers_is_found_and_shown_to_nobody(log: Any, seq: Any):
    store, audit, company_id, documents = log

    put_back(store, company_id, [*documents, {**documents[0], "_id": ObjectId(), "action_type": "forged", "seq": seq}])

    assert not audit.verify().ok
    if not isinstance(seq, float):
        assert "forged" not in {event["action_type"] for event in audit.query(limit=100)}
    record(audit)  # and nobody is kept from recording


def test_a_cut_off_end_is_found_by_an_anchor(log: Any):
    store, audit, company_id, documents = log
    put_back(store, company_id, documents)
    anchor = audit.head()
    assert anchor is not None

    put_back(store, company_id, documents[:-3])

    assert audit.verify().ok
    assert audit.verify(anchor).broken_at == COUNT - 2
    assert audit.verify(Head(5, documents[4]["chain"])).ok


def test_a_log_that_was_written_anew_is_found_by_an_anchor(store: Store, vault: Vault, company_id: ObjectId):
    """Even by somebody who has the key."""
    audit = Audit(store, vault, company_id)
    record(audit, 3)
    anchor = audit.head()
    put_back(store, company_id, [])
    record(audit, 4)

    assert audit.verify().ok
    assert audit.verify(anchor).broken_at == 3


def test_an_older_servers_events_in_the_same_collection_do_no_harm(
    either_store: Store, vault: Vault, company_id: ObjectId
):
    """They have no number, nor could two of them have the same."""
    audit = Audit(either_store, vault, company_id)
    for _ in range(2):
        either_store.insert(COLLECTION, {"_id": ObjectId(), "company_id": company_id, "action_type": "auth_logout"})

    record(audit, 3)

    assert audit.verify().checked == 3
    assert audit.count() == 3
    assert len(audit.query()) == 3


# keys that come and go


def rotated(environ: dict[str, str]) -> Vault:
    return Vault(Keyring.derive(KeySettings(kdf="scrypt"), environ))


@pytest.fixture(scope="module")
def vaults() -> dict[str, Vault]:
    new = {**ENVIRON, "ENC_KEY_SECRET": "0f" * 128}
    return {
        "old": rotated(ENVIRON),
        "both": rotated({**new, "ENC_KEY_SECRET_PREVIOUS": ENVIRON["ENC_KEY_SECRET"]}),
        "new": rotated(new),
    }


def test_the_chain_goes_on_over_a_rotation_and_holds_after_the_old_key_is_gone(
    store: Store, company_id: ObjectId, vaults: dict[str, Vault]
):
    record(Audit(store, vaults["old"], company_id), 4)
    record(Audit(store, vaults["both"], company_id), 3)

    assert Audit(store, vaults["both"], company_id).verify().checked == 7
    assert Audit(store, vaults["new"], company_id).verify().ok


def test_an_edit_under_a_retired_key_is_still_found(store: Store, company_id: ObjectId, vaults: dict[str, Vault]):
    record(Audit(store, vaults["old"], company_id), 4)
    record(Audit(store, vaults["both"], company_id), 3)
    store.update(COLLECTION, {"seq": 2}, {"$set": {"action_type": "other"}})

    assert Audit(store, vaults["new"], company_id).verify().broken_at == 2


def test_an_end_that_no_known_key_signed_is_not_believed(store: Store, company_id: ObjectId, vaults: dict[str, Vault]):
    """A forger names a key that nobody has, and computes the plain digests himself."""
    audit = Audit(store, vaults["new"], company_id)
    record(audit, 5)
    last = rows(store)[-1]
    forged = {**last, "_id": ObjectId(), "seq": 6, "kid": "0" * 16}
    forged["chain_digest"] = digest_after(last["chain_digest"], forged)
    store.insert(COLLECTION, forged)

    assert audit.verify().broken_at == 6


def test_an_edit_hidden_behind_an_unknown_key_is_found_where_it_is(
    store: Store, company_id: ObjectId, vaults: dict[str, Vault]
):
    audit = Audit(store, vaults["new"], company_id)
    record(audit, 6)
    documents = rows(store)
    edited = {**documents[3], "action_type": "other", "kid": "0" * 16}
    edited["chain_digest"] = digest_after(documents[2]["chain_digest"], edited)
    behind = {**documents[4]}
    behind["chain_digest"] = digest_after(edited["chain_digest"], behind)
    put_back(store, company_id, [*documents[:3], edited, behind, documents[5]])

    assert audit.verify().broken_at == 4


# many writers


def test_20_writers_at_once_never_fork_the_chain(either_store: Store, vault: Vault, company_id: ObjectId):
    audit = Audit(either_store, vault, company_id)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: record(audit), range(100)))

    assert audit.verify().checked == 100
    assert [row["seq"] for row in rows(either_store)] == list(range(1, 101))


def test_4_processes_at_once_never_fork_the_chain(
    tmp_path: Path, store: Store, audit: Audit, vault: Vault, company_id: ObjectId
):
    """Derived before the fork: the children inherit the keys."""
    record(audit)
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                mine = open_store(f"sqlite:///{tmp_path / 'store.db'}")
                record(Audit(mine, vault, company_id), 20)
                mine.close()
                status = 0
            finally:
                os._exit(status)
        children.append(child)

    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
    assert audit.verify().checked == 81


# failing closed


class Blocked:
    """A store whose audit collection cannot be written."""

    def __init__(self, store: Store, error: Exception) -> None:
        self._store = store
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def insert(self, collection: str, document: Any) -> None:
        raise self._error


def test_where_nothing_can_be_recorded_the_caller_is_told_within_the_limit(
    store: Store, vault: Vault, company_id: ObjectId, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(audit_module, "LIMIT_S", 0.2)
    blocked: Any = Blocked(store, DuplicateKey("taken"))
    started = time.monotonic()

    with pytest.raises(StoreUnavailable, match="nothing was done"):
        record(Audit(blocked, vault, company_id))

    assert time.monotonic() - started < 1.0


def test_a_store_that_is_down_is_reported_as_it_is(store: Store, vault: Vault, company_id: ObjectId):
    blocked: Any = Blocked(store, StoreUnavailable("down"))

    with pytest.raises(StoreUnavailable):
        record(Audit(blocked, vault, company_id))


# reading


def test_events_are_shown_newest_first_in_pages(audit: Audit, company_id: ObjectId):
    record(audit, 5)

    first = audit.query(limit=2)
    second = audit.query(limit=2, before_seq=first[-1]["seq"])

    assert [event["seq"] for event in first + second] == [5, 4, 3, 2]
    assert first[0]["company_id"] == str(company_id)
    assert isinstance(first[0]["id"], str)
    assert audit.count() == 5


def test_events_are_selected_by_what_they_say(audit: Audit, store: Store):
    user_id = ObjectId()
    record(audit, 2, user_id=user_id)
    audit.record("component_created", resource_type="component", resource_id="c-1")
    moment = rows(store)[1]["timestamp"] + timedelta(hours=1)

    assert audit.count(Selection(action="component_created")) == 1
    assert audit.count(Selection(resource_type="integration", resource_id="link-1")) == 1
    assert audit.count(Selection(user_id=user_id)) == 2
    assert audit.count(Selection(since=moment)) == 0
    assert audit.count(Selection(until=moment)) == 3
    assert audit.count(Selection(action="component_created", user_id=user_id)) == 0


def test_one_company_never_sees_anothers_events(store: Store, vault: Vault, audit: Audit):
    record(audit, 3)

    other = Audit(store, vault, ObjectId())

    assert other.query() == []
    assert other.count() == 0
    assert other.head() is None


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_a_size(audit: Audit, limit: int):
    with pytest.raises(ValidationFailed):
        audit.query(limit=limit)


def test_the_indexes_are_flow8s_and_nothing_expires():
    declared = {index.keys: index for index in audit_module.INDEXES}

    assert (("company_id", 1), ("seq", 1)) in declared
    assert (("company_id", 1), ("timestamp", -1)) in declared
    assert (("user_id", 1), ("timestamp", -1)) in declared
    assert (("resource_type", 1), ("resource_id", 1), ("timestamp", -1)) in declared
    assert all(index.expire_after_s is None for index in audit_module.INDEXES)
