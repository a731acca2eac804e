"""What is sealed is declared in one place, and nothing else can be sealed."""

from __future__ import annotations

from typing import Any

import pytest
from bson import ObjectId

from credentials import sealed
from credentials.vault import Place, Vault
from flow8_core.errors import InternalError
from flow8_core.store import Store
from flow8_runtime.platform import COLLECTIONS

ENVELOPE = {"encrypted": True, "v": 2, "kid": "k", "nonce": "n", "ciphertext": "c"}


def test_a_collection_that_is_not_declared_cannot_be_sealed_for(vault: Vault) -> None:
    """Whoever adds a sealed field learns at the first test that a rotation has to know of it."""
    place = Place("step_runs", ObjectId(), ObjectId(), "output.token")

    with pytest.raises(InternalError, match="list it in credentials/sealed"):
        vault.seal(place, "secret-value")


def test_what_is_declared_are_collections_of_the_platform() -> None:
    assert {name for name, _, _ in COLLECTIONS} >= sealed.COLLECTIONS


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        ({"access_token": ENVELOPE, "status": "active"}, ["access_token"]),
        ({"refresh": {"reply": ENVELOPE}, "user_token": {"refresh_token": ENVELOPE}},
         ["refresh.reply", "user_token.refresh_token"]),
        ({"config": {"auth": {"value": ENVELOPE}}, "next": {"config": {"key": ENVELOPE}}},
         ["config.auth.value", "next.config.key"]),
        ({"parts": [{"a": 1}, {"b": ENVELOPE}]}, ["parts.1.b"]),
        ({"encrypted": True, "token": ENVELOPE}, ["token"]),
        ({"flag": {"encrypted": "yes"}, "off": {"encrypted": False}}, []),
    ],
)  # fmt: skip
def test_envelopes_are_found_wherever_they_lie_in_a_document(document: dict[str, Any], paths: list[str]) -> None:
    assert [path for path, _ in sealed.envelopes(document)] == paths


def test_documents_are_read_in_batches_and_what_is_over_is_left_out(store: Store) -> None:
    ids = [ObjectId() for _ in range(450)]
    for _id in ids:
        store.insert("oauth_states", {"_id": _id})
    store.insert("oauth_states", {"_id": ObjectId(), "expires_at": store.now()})

    (states,) = (each for each in sealed.SEALED if each.ends_at)
    found = [row["_id"] for row in sealed.documents(store, states)]

    assert found == sorted(ids)
