"""Who acts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from bson import ObjectId

from credentials.users import COLLECTION, Actor, Users
from flow8_core import errors
from flow8_core.store import Store


def test_embedded_mode_makes_one_user_in_one_company_however_many_begin_at_once(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        actors = list(pool.map(lambda _: Users(store).actor(company=None, user=None, embedded=True), range(8)))

    assert len(set(actors)) == 1
    assert store.count(COLLECTION, {}) == 1
    (document,) = store.find(COLLECTION, {"companies": actors[0].company_id})
    assert document["_id"] == actors[0].user_id


def test_named_ids_are_taken(store: Store) -> None:
    company, user = ObjectId(), ObjectId()

    found = Users(store).actor(company=str(company), user=str(user), embedded=True)

    assert found == Actor(company, user)
    assert store.count(COLLECTION, {}) == 0


@pytest.mark.parametrize(
    ("company", "user", "embedded", "paths"),
    [
        (None, None, False, ["company", "user"]),
        ("", "", False, ["company", "user"]),
        ("0" * 24, None, False, ["user"]),
        ("0" * 24, None, True, ["user"]),
        (None, "0" * 24, True, ["company"]),
        ("acme", "0" * 24, False, ["company"]),
    ],
)
def test_a_missing_or_wrong_id_is_named(
    store: Store, company: str | None, user: str | None, embedded: bool, paths: list[str]
) -> None:
    with pytest.raises(errors.ValidationFailed) as caught:
        Users(store).actor(company=company, user=user, embedded=embedded)

    assert [path for path, _ in caught.value.problems] == paths
