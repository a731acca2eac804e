"""Users that a Microsoft sign-in makes: known by tenant and object id, and by nothing that can be chosen."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from credentials.audit import Audit
from credentials.link import Link
from credentials.providers.catalogue import Providers
from credentials.providers.settings import OAuthApp, ServiceSettings
from credentials.users import COLLECTION, Person, Users
from credentials.vault import Vault
from flow8_core import errors
from flow8_core.egress import Egress
from tests.counterparts.token_server import TokenServer
from tests.credentials import signing
from tests.credentials.desk import CLIENT_ID, CLIENT_SECRET, Desk, open_desk
from tests.credentials.test_connect import TENANT, asked, callback, proof

OTHER_TENANT = "11111111-2222-4333-8444-555555555555"


def opened(
    folder: Path, vault: Vault, server: TokenServer, egress: Egress, *, auto_create_users: bool = True
) -> Iterator[Desk]:
    """A desk whose Microsoft application makes users, or does not."""
    app = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "auto_create_users": auto_create_users}
    microsoft = {"microsoft": OAuthApp.model_validate(app)}
    here = {"microsoft": ServiceSettings.model_validate({"authority": server.url, "base_url": f"{server.url}/v1.0/"})}
    with open_desk(folder, vault, server, egress) as desk:
        yield replace(desk, providers=Providers(microsoft, here))


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    yield from opened(tmp_path, vault, token_server, token_egress)


@pytest.fixture
def closed(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    yield from opened(tmp_path, vault, token_server, token_egress, auto_create_users=False)


def signed_in(desk: Desk, *, by: ObjectId | None = None, company_id: ObjectId | None = None, **claims: Any) -> Link:
    """Somebody connects Microsoft; `by` is the user who began it, if anybody did."""
    company = company_id or desk.company_id
    begin = desk.connect.begin("microsoft", company_id=company, user_id=by)
    return desk.connect.complete(callback(desk, begin, id_token=proof(desk, begin, **claims)))


def users(desk: Desk) -> list[dict[str, Any]]:
    return desk.store.find(COLLECTION, {}, sort=[("created_at", 1)])


def test_whoever_signs_in_is_a_user_and_owns_the_link(desk: Desk) -> None:
    link = signed_in(desk)

    (user,) = users(desk)
    assert (user["tid"], user["oid"]) == (TENANT, "oid-1")
    assert (user["email"], user["name"], user["companies"]) == ("a@b.example", "A User", [desk.company_id])
    assert (link.user_id, link.company_id) == (user["_id"], desk.company_id)
    assert desk.actions() == ["user_created", "integration_linked"]


def test_the_same_person_is_the_same_user_whatever_they_call_themselves(desk: Desk) -> None:
    first = signed_in(desk)

    again = signed_in(desk, preferred_username="new@name.example", name="New Name")

    (user,) = users(desk)
    assert (again.user_id, again.id) == (first.user_id, first.id)
    assert (user["email"], user["name"]) == ("new@name.example", "New Name")


@pytest.mark.parametrize("other", [{"oid": "oid-2"}, {"tid": OTHER_TENANT}], ids=str)
def test_somebody_elses_account_with_the_same_e_mail_address_is_somebody_else(
    desk: Desk, other: dict[str, Any]
) -> None:
    own = signed_in(desk, email="ceo@company.example")

    begin = desk.connect.begin("microsoft", company_id=desk.company_id, user_id=None)
    claims = {"email": "ceo@company.example", "email_verified": True, **other}
    link = desk.connect.complete(callback(desk, begin, id_token=signed_proof(desk, begin, claims)))

    assert link.user_id != own.user_id
    assert link.id != own.id
    assert len(users(desk)) == 2


def signed_proof(desk: Desk, begin: Any, claims: dict[str, Any]) -> str:
    """A proof whose tenant and issuer are as given."""
    now = int(desk.store.now().timestamp())
    tid = claims.get("tid", TENANT)
    whole = {"iss": f"{desk.server.url}/{tid}/v2.0", "aud": CLIENT_ID, "sub": "s", "tid": tid, "oid": "oid-1"}
    return signing.key("own").token(whole | {"nonce": asked(begin)["nonce"], "iat": now, "exp": now + 60} | claims)


def test_a_user_of_the_engines_with_that_e_mail_address_is_not_taken_over(desk: Desk) -> None:
    victim = {"_id": ObjectId(), "email": "a@b.example", "name": "A User", "companies": [desk.company_id]}
    desk.store.insert(COLLECTION, victim)

    link = signed_in(desk)

    assert link.user_id != victim["_id"]
    assert desk.store.get(COLLECTION, victim["_id"]) == victim


def test_a_user_of_the_engines_with_that_tenant_and_object_id_is_the_one(desk: Desk) -> None:
    known = {"_id": ObjectId(), "tid": TENANT, "oid": "oid-1", "email": "old@b.example", "companies": []}
    desk.store.insert(COLLECTION, known)

    assert signed_in(desk).user_id == known["_id"]
    assert len(users(desk)) == 1


def test_a_connection_that_a_user_began_is_that_users_link(desk: Desk) -> None:
    link = signed_in(desk, by=desk.user_id)

    assert link.user_id == desk.user_id
    assert [user["oid"] for user in users(desk)] == ["oid-1"]


def test_one_person_may_be_in_several_companies(desk: Desk) -> None:
    first, elsewhere = signed_in(desk), ObjectId()

    second = signed_in(desk, company_id=elsewhere)

    (user,) = users(desk)
    assert user["companies"] == [desk.company_id, elsewhere]
    assert (first.user_id, first.company_id) == (second.user_id, desk.company_id)
    assert second.company_id == elsewhere


def test_without_an_object_id_nobody_is_made(desk: Desk) -> None:
    with pytest.raises(errors.VendorBadResponse, match="who signed in"):
        signed_in(desk, oid=None, sub="user-1")

    assert (users(desk), desk.links.list()) == ([], [])


def test_where_it_is_not_switched_on_a_connection_needs_a_user_and_makes_none(closed: Desk) -> None:
    with pytest.raises(errors.ValidationFailed) as caught:
        signed_in(closed)
    assert [path for path, _ in caught.value.problems] == ["user_id"]

    signed_in(closed, by=closed.user_id)

    assert users(closed) == []


def test_a_user_who_cannot_be_recorded_is_not_made(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise errors.StoreUnavailable("away")

    monkeypatch.setattr(Audit, "record", fails)

    with pytest.raises(errors.StoreUnavailable):
        signed_in(desk)

    assert users(desk) == []


def test_one_person_who_arrives_often_at_once_is_one_user(desk: Desk) -> None:
    person = Person(tid=TENANT, oid="oid-1", email="a@b.example", name=None)
    audit = Audit(desk.store, desk.vault, desk.company_id)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Users(desk.store).of(person, company_id=desk.company_id, audit=audit), range(8)))

    assert len(set(made)) == 1
    assert [user["companies"] for user in users(desk)] == [[desk.company_id]]
