"""Who acts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from bson import ObjectId

from credentials.users import COLLECTION, Actor, Users, named
from flow8_core import errors
from flow8_core.store import Store


def test_embedded_mode_makes_one_user_in_one_company_however_many_begin_at_once(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        actors = list(pool.map(lambda _: Users(store).local(), range(8)))

    assert len(set(actors)) == 1
    assert store.count(COLLECTION, {}) == 1
    (document,) = store.find(COLLECTION, {"companies": actors[0].company_id})
    assert document["_id"] == actors[0].user_id


def test_named_ids_are_taken() -> None:
    company, user = ObjectId(), ObjectId()

    assert named(str(company), str(user)) == Actor(company, user)


@pytest.mark.parametrize(
    ("company", "user", "paths"),
    [
        (None, None, ["company", "user"]),
        ("", "", ["company", "user"]),
        ("0" * 24, None, ["user"]),
        (None, "0" * 24, ["company"]),
        ("acme", "0" * 24, ["company"]),
    ],
)
def test_a_missing_or_wrong_id_is_named(company: str | None, user: str | None, paths: list[str]) -> None:
    with pytest.raises(errors.ValidationFailed) as caught:
        named(company, user)

    assert [path for path, _ in caught.value.problems] == paths
