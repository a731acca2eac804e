"""The keyring: what the environment must hold, and starting on a database with the right keys, wrong ones, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
from bson import ObjectId
from pydantic import ValidationError

from credentials import check_values
from credentials.check_values import KeyMismatch
from credentials.keyring import Keyring, KeySettings, UnboundSettings
from credentials.vault import Place, Vault
from flow8_core.errors import InternalError, ValidationFailed
from flow8_core.store import DuplicateKey, Store
from tests.credentials.conftest import ENVIRON
from tests.credentials.test_vault import of_older_server

OLD = ENVIRON["ENC_KEY_SECRET"]
NEW = "0f" * 128
OTHER = "77" * 128

# Profiles only matter where a test says so; this one is the fastest.
SETTINGS = KeySettings(kdf="scrypt")


@cache
def ring(
    current: str,
    *,
    previous: str = "",
    following: str = "",
    salt: str = ENVIRON["ENV_KEY_SALT"],
    settings: KeySettings = SETTINGS,
) -> Keyring:
    environ = {"ENC_KEY_SECRET": current, "ENV_KEY_SALT": salt}
    environ |= {"ENC_KEY_SECRET_PREVIOUS": previous} if previous else {}
    environ |= {"ENC_KEY_SECRET_NEXT": following} if following else {}
    return Keyring.derive(settings, environ)


class Counting:
    """A store that counts what is written through it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        if name in ("insert", "update", "delete", "batch", "declare"):
            self.writes += 1
        return getattr(self._store, name)


@pytest.fixture
def counting(store: Store) -> Counting:
    return Counting(store)


def everything(store: Store) -> dict[str, list[dict[str, Any]]]:
    return {name: store.find(name, {}) for name in ("keyring", "db_links", "component_configs", "audit_logs")}


def refuses(keyring: Keyring, store: Store) -> str:
    """Starting raises `KeyMismatch`, and nothing is written. Gives the message."""
    counting, before = Counting(store), everything(store)

    with pytest.raises(KeyMismatch) as caught:
        keyring.verify(counting)  # type: ignore[arg-type]

    assert isinstance(caught.value, InternalError)
    assert counting.writes == 0
    assert everything(store) == before
    return caught.value.message


# what the environment must hold


@pytest.mark.parametrize("missing", ["ENC_KEY_SECRET", "ENV_KEY_SALT"])
def test_a_missing_secret_is_named(missing: str):
    environ = {name: value for name, value in ENVIRON.items() if name != missing}

    with pytest.raises(ValidationFailed) as caught:
        Keyring.derive(SETTINGS, environ)

    assert caught.value.path == missing


@pytest.mark.parametrize("name", ["ENC_KEY_SECRET_NEXT", "ENC_KEY_SECRET_PREVIOUS"])
def test_a_malformed_second_secret_is_named(name: str):
    with pytest.raises(ValidationFailed) as caught:
        Keyring.derive(SETTINGS, {**ENVIRON, name: "ab"})

    assert caught.value.path == name


@pytest.mark.parametrize("name", ["ENC_KEY_SECRET_NEXT", "ENC_KEY_SECRET_PREVIOUS"])
def test_a_rotation_to_the_same_secret_is_refused(name: str):
    with pytest.raises(ValidationFailed, match="a rotation needs a new secret"):
        Keyring.derive(SETTINGS, {**ENVIRON, name: OLD})


def test_an_empty_second_secret_counts_as_unset():
    """`ENC_KEY_SECRET_NEXT=` in a `.env` file."""
    keyring = Keyring.derive(SETTINGS, {**ENVIRON, "ENC_KEY_SECRET_NEXT": ""})

    assert list(keyring.keys) == [keyring.primary.kid]


def test_kdf_parameters_that_no_profile_has_are_refused():
    """flow8 reads them from the environment; with others its keys are not ours."""
    with pytest.raises(ValidationFailed, match="ENC_KEY_P_N must be 32768"):
        Keyring.derive(SETTINGS, {**ENVIRON, "ENC_KEY_P_N": "16384"})

    Keyring.derive(SETTINGS, {**ENVIRON, "ENC_KEY_P_N": "32768", "ENC_KEY_LEN": "32"})
    Keyring.derive(KeySettings(), {**ENVIRON, "ENC_KEY_P_N": "16384"})


@pytest.mark.parametrize(
    "section", [{"kdf": "md5"}, {"cipher": "aes"}, {"unbound": {}}, {"unbound": {"kdf": "scrypt", "write": "maybe"}}]
)
def test_an_unknown_setting_is_refused(section: Mapping[str, Any]):
    with pytest.raises(ValidationError):
        KeySettings.model_validate(section)


def test_a_kid_follows_from_secret_salt_and_profile():
    kids = {
        ring(OLD).primary.kid,
        ring(NEW).primary.kid,
        ring(OLD, salt="00" * 32).primary.kid,
        ring(OLD, settings=KeySettings()).primary.kid,
    }

    assert len(kids) == 4
    assert all(len(kid) == 16 for kid in kids)
    assert ring(OLD).primary.kid in kids


# check values


def test_the_first_start_records_a_check_value_and_no_key(store: Store):
    keyring = ring(OLD, following=NEW)

    keyring.verify(store)

    rows = store.find("keyring", {}, sort=[("ordinal", 1)])
    assert [row["_id"] for row in rows] == [keyring.primary.kid, *keyring.announced]
    assert rows[0]["kdf"] == {"name": "scrypt", "n": 32768, "r": 8, "p": 1}
    assert rows[0]["active_since"] == rows[0]["created_at"]
    assert rows[1]["active_since"] is None
    for key in keyring.keys.values():
        assert key.raw().hex() not in repr(rows)
    assert OLD not in repr(rows)


def test_a_second_start_writes_nothing(counting: Counting):
    ring(OLD).verify(counting)  # type: ignore[arg-type]
    first = counting.writes

    ring(OLD).verify(counting)  # type: ignore[arg-type]

    assert counting.writes == first


WRONG: dict[str, dict[str, Any]] = {
    "another secret": {"current": OTHER},
    "another salt": {"current": OLD, "salt": "00" * 32},
    "another profile": {"current": OLD, "settings": KeySettings(kdf="argon2id")},
    "another secret, with a next one": {"current": OTHER, "following": NEW},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_key_refuses_to_start_and_writes_nothing(store: Store, wrong: dict[str, Any]):
    ring(OLD).verify(store)

    message = refuses(ring(**wrong), store)

    assert ring(OLD).primary.kid in message
    assert "ENC_KEY_SECRET" in message


def test_a_wrong_profile_is_told_apart(store: Store):
    ring(OLD).verify(store)

    message = refuses(ring(OLD, settings=KeySettings(kdf="argon2id")), store)

    assert "scrypt; keys.kdf says argon2id" in message


def test_a_check_value_that_does_not_open_refuses_to_start(store: Store):
    keyring = ring(OLD)
    keyring.verify(store)
    good = store.get("keyring", keyring.primary.kid)
    assert good is not None

    for check in (
        None,
        {},
        "x",
        {**good["check"], "nonce": "AAAA"},
        {**good["check"], "ciphertext": good["check"]["nonce"]},
    ):
        store.update("keyring", {"_id": keyring.primary.kid}, {"$set": {"check": check}})

        refuses(keyring, store)


def test_another_keys_check_value_does_not_pass(store: Store):
    """A database writer renames the row of a key of his own."""
    keyring, other = ring(OLD), ring(OTHER)
    other.verify(store)
    row = store.get("keyring", other.primary.kid)
    assert row is not None
    store.delete("keyring", {"_id": other.primary.kid})
    store.insert("keyring", {**row, "_id": keyring.primary.kid})

    refuses(keyring, store)


@pytest.mark.parametrize("collection", ["db_links", "component_configs"])
def test_sealed_fields_of_another_key_refuse_the_start_even_where_the_check_values_are_gone(
    store: Store, collection: str
):
    place = Place(collection, ObjectId(), ObjectId(), "config.key")
    envelope = Vault(ring(OTHER)).seal(place, "secret-value")
    store.insert(collection, {"_id": place.id, "company_id": place.company_id, "config": {"auth": {"key": envelope}}})

    message = refuses(ring(OLD), store)

    assert collection in message


def test_a_rotation_goes_through_without_a_refused_start(store: Store):
    ring(OLD).verify(store)
    ring(OLD, following=NEW).verify(store)
    ring(OLD).verify(store)  # a process that was not restarted yet
    ring(NEW, previous=OLD).verify(store)
    ring(OLD, following=NEW).verify(store)

    rows = {row["_id"]: row for row in store.find("keyring", {})}
    assert {kid: bool(row["active_since"]) for kid, row in rows.items()} == {
        ring(OLD).primary.kid: True,
        ring(NEW).primary.kid: True,
    }


def test_a_rotation_may_skip_the_announcement(store: Store):
    ring(OLD).verify(store)

    ring(NEW, previous=OLD).verify(store)

    assert store.count("keyring", {}) == 2


def test_after_the_switch_neither_key_may_be_missing(store: Store):
    ring(OLD).verify(store)
    ring(NEW, previous=OLD).verify(store)

    assert ring(OLD).primary.kid in refuses(ring(NEW), store)
    assert ring(NEW).primary.kid in refuses(ring(OLD), store)


def test_an_announced_key_that_never_wrote_may_be_dropped(store: Store):
    ring(OLD, following=NEW).verify(store)

    ring(OLD).verify(store)


def test_a_retired_key_is_missed_by_nobody_and_cannot_write_again(store: Store):
    ring(OLD).verify(store)
    ring(NEW, previous=OLD).verify(store)
    store.update("keyring", {"_id": ring(OLD).primary.kid}, {"$set": {"retired_at": store.now()}})

    ring(NEW).verify(store)

    assert "retired" in refuses(ring(OLD, previous=NEW), store)


def test_of_two_first_starts_with_different_keys_at_once_one_refuses(store: Store):
    """Both find the database empty before either writes."""
    rings = [ring(OLD), ring(OTHER)]

    class Late:
        """Lets the other process start between the look and the first write."""

        def __init__(self) -> None:
            self.waiting = True

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def insert(self, collection: str, document: Mapping[str, Any]) -> None:
            if self.waiting:
                self.waiting = False
                rings[1].verify(store)
            store.insert(collection, document)

    with pytest.raises(KeyMismatch):
        rings[0].verify(Late())  # type: ignore[arg-type]

    assert [row["_id"] for row in store.find("keyring", {})] == [rings[1].primary.kid]


def test_many_first_starts_with_the_same_key_at_once_all_pass(store: Store):
    keyring = ring(OLD)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: keyring.verify(store), range(16)))

    assert store.count("keyring", {}) == 1


def test_check_values_that_never_settle_end_in_an_error(store: Store):
    class Restless:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def insert(self, collection: str, document: Mapping[str, Any]) -> None:
            raise DuplicateKey("somebody else was first")

    with pytest.raises(InternalError.__base__, match="keep changing"):
        ring(OLD).verify(Restless())  # type: ignore[arg-type]


# an older server's database


def shared(kdf: Any) -> KeySettings:
    return KeySettings(kdf="scrypt", unbound=UnboundSettings(kdf=kdf))


def insert_unbound(store: Store, envelopes: Sequence[dict[str, Any]]) -> None:
    for envelope in envelopes:
        store.insert("db_links", {"_id": ObjectId(), "company_id": ObjectId(), "access_token": envelope})


def test_an_older_servers_database_opens_with_its_profile(store: Store):
    insert_unbound(store, [of_older_server("token-1")])

    ring(OLD, settings=shared("scrypt")).verify(store)

    assert store.count("keyring", {}) == 1


def test_an_older_servers_database_refuses_another_profile_or_secret(store: Store):
    insert_unbound(store, [of_older_server("token-1"), of_older_server("token-2")])

    assert "keys.unbound.kdf" in refuses(ring(OLD, settings=shared("flow8-argon2id-literal")), store)
    assert "ENC_KEY_SECRET" in refuses(ring(OTHER, settings=shared("scrypt")), store)


def test_one_broken_link_of_an_older_server_does_not_stop_everybody(store: Store):
    broken = {**of_older_server("token-1"), "ciphertext": "AAAA"}
    insert_unbound(store, [broken, of_older_server("token-2")])

    ring(OLD, settings=shared("scrypt")).verify(store)


def test_the_unbound_key_rotates_with_the_others():
    keyring = ring(NEW, previous=OLD, settings=shared("scrypt"))
    place = Place("db_links", ObjectId(), ObjectId(), "access_token")

    assert Vault(keyring).open(place, of_older_server("token-1")).reveal() == "token-1"


def test_the_index_that_keeps_first_starts_apart_is_declared():
    assert check_values.INDEXES[0].unique
