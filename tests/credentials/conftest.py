"""What the tests of credentials share: keys derived once, a store of their own, a company."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from bson import ObjectId

from credentials import audit, check_values, components, kdf
from credentials.keyring import Keyring, KeySettings
from credentials.vault import Vault
from flow8_core.store import Store, open_store
from tests import keys, stores
from tests.keys import ENVIRON


@pytest.fixture(autouse=True)
def _a_key_is_derived_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same secret and salt give the same key each time, at a fifth of a second; test_kdf.py is about that."""
    monkeypatch.setattr(kdf, "derive", keys.derive)


@pytest.fixture(scope="session")
def keyring() -> Keyring:
    return Keyring.derive(KeySettings(), ENVIRON)


@pytest.fixture(scope="session")
def vault(keyring: Keyring) -> Vault:
    return Vault(keyring)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty SQLite store with our collections."""
    with closing(declared(stores.lay(tmp_path / "store.db", declare))) as opened:
        yield opened


@pytest.fixture
def either_store(store_url: str) -> Iterator[Store]:
    """The same on SQLite and on MongoDB, for what depends on how values come back and on what is atomic."""
    with closing(declared(store_url)) as opened:
        yield opened


def declared(url: str) -> Store:
    opened = open_store(url)
    declare(opened)
    return opened


def declare(store: Store) -> None:
    for module in (audit, check_values, components):
        store.declare(module.COLLECTION, module.INDEXES, durable=True)


@pytest.fixture
def company_id() -> ObjectId:
    return ObjectId()
