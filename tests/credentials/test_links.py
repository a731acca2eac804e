"""A company's links in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from credentials.grants import COLLECTION, USER
from credentials.link import Granted, Link
from credentials.links import Links
from credentials.token_reply import Tokens
from credentials.vault import EnvelopeRejected, Vault
from flow8_core import errors
from flow8_core.egress import Egress
from flow8_core.secret import Secret
from flow8_core.store import Store
from tests.counterparts.token_server import TokenServer
from tests.credentials.desk import Desk, declare, open_desk, providers_at

CANARY = "canary-access-token-0123456789"


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        yield desk


def granted(desk: Desk, **changes: Any) -> Granted:
    fields: dict[str, Any] = {
        "tokens": Tokens(Secret(CANARY), Secret("canary-refresh-token-0123456789"), 3600),
        "issued_at": desk.store.now(),
        "scopes": ("chat:write", "files:write"),
        "provider_user_id": "U1",
        "provider_account": "T1",
        "email": "user@company.example",
        "metadata": {"team_id": "T1", "name": "Example"},
    }
    return Granted(**fields | changes)


def saved(desk: Desk, service: str = "slack", *, link_id: ObjectId | None = None, **changes: Any) -> Link:
    provider = desk.providers.get(service)
    return desk.links.save(
        granted(desk, **changes), provider=provider, user_id=desk.user_id, link_id=link_id, source="test"
    )


def test_a_document_has_the_fields_that_others_query(desk: Desk) -> None:
    document = desk.document(saved(desk))

    assert document["user_id"] == desk.user_id
    assert document["company_id"] == desk.company_id
    assert document["integration_type"] == "slack"
    assert document["token_expiry"] == desk.store.now() + timedelta(hours=1)
    assert document["scopes"] == ["chat:write", "files:write"]
    assert document["provider_user_id"] == "U1"
    assert document["provider_user_email"] == "user@company.example"
    assert {"access_token", "refresh_token", "created_at", "updated_at", "generation", "issued_at"} <= set(document)
    assert set(document["access_token"]) == {"encrypted", "v", "kid", "nonce", "ciphertext"}
    assert CANARY not in str(document)


def test_the_seeds_query_for_links_that_end_soon_works_as_it_stands(desk: Desk) -> None:
    soon = saved(desk)
    saved(desk, provider_user_id="U2", expires_at=desk.store.now() + timedelta(days=8))
    now = desk.store.now()

    found = desk.store.find(COLLECTION, {"token_expiry": {"$gt": now, "$lt": now + timedelta(days=7)}})

    assert [row["_id"] for row in found] == [soon.id]


def test_an_answer_shows_the_link_and_no_token(desk: Desk) -> None:
    link = saved(desk)

    answer = link.describe()

    assert json.loads(json.dumps(answer)) == {
        "id": str(link.id),
        "service": "slack",
        "status": "active",
        "status_reason": None,
        "account": "user@company.example",
        "scopes": ["chat:write", "files:write"],
        "token_expiry": "2026-04-04T11:00:00.000Z",
        "refresh_at": "2026-04-04T10:45:00.000Z",
    }


@pytest.mark.parametrize(
    ("changes", "account"), [({"email": None}, "Example"), ({"email": None, "metadata": {}}, "U1")]
)
def test_an_account_is_shown_as_people_know_it(desk: Desk, changes: dict[str, Any], account: str) -> None:
    assert saved(desk, **changes).account == account


def test_nothing_can_be_decrypted_from_a_list(desk: Desk) -> None:
    saved(desk)

    (listed,) = desk.links.list()

    assert not any("token" in name and name != "token_expiry" for name in listed.document)
    assert listed.describe() == desk.now(listed).describe()
    with pytest.raises(KeyError):
        listed.open("access_token")


def test_a_link_is_listed_by_service_user_and_status(desk: Desk) -> None:
    slack = saved(desk)
    desk.clock.advance(1)
    acme = saved(desk, "acme")
    desk.set(acme, status="needs_reconnect")

    assert [link.id for link in desk.links.list()] == [acme.id, slack.id]
    assert [link.id for link in desk.links.list(service="slack")] == [slack.id]
    assert [link.id for link in desk.links.list(status="needs_reconnect")] == [acme.id]
    assert desk.links.list(user_id=ObjectId()) == []
    assert len(desk.links.list(limit=1)) == 1


def test_another_companys_link_looks_like_none(desk: Desk) -> None:
    link = saved(desk)
    other = Links(desk.store, desk.vault, ObjectId())

    assert other.find(link.id) is None
    assert other.list() == []
    with pytest.raises(errors.NotFound) as foreign:
        other.get(link.id)
    with pytest.raises(errors.NotFound) as absent:
        other.get(ObjectId())
    assert foreign.value.message == absent.value.message
    with pytest.raises(errors.NotFound):
        other.share(link.id)


@pytest.mark.parametrize("wrong", ["", "link_123", "0" * 23, "zz" * 12, {"$ne": None}, None, 7])
def test_what_is_no_id_is_not_there(desk: Desk, wrong: Any) -> None:
    saved(desk)

    with pytest.raises(errors.NotFound):
        desk.links.get(wrong)


def test_a_token_that_is_moved_to_another_link_does_not_open(desk: Desk) -> None:
    first, second = saved(desk), saved(desk, provider_user_id="U2")
    moved = desk.set(second, access_token=desk.document(first)["access_token"])

    with pytest.raises(EnvelopeRejected):
        moved.open("access_token")


def test_a_token_that_is_moved_within_its_link_does_not_open(desk: Desk) -> None:
    link = saved(desk, user_tokens=Tokens(Secret("user-access-token"), Secret("user-refresh-token"), 3600))
    document = desk.document(link)
    moved = desk.set(link, refresh_token=document["access_token"], user_token__access_token=document["access_token"])

    with pytest.raises(EnvelopeRejected):
        moved.open("refresh_token")
    with pytest.raises(EnvelopeRejected):
        moved.open("access_token", USER)


# --- the same account again


def test_the_same_account_keeps_its_link_and_gets_the_new_tokens(desk: Desk) -> None:
    first = saved(desk)
    desk.set(
        first,
        status="needs_reconnect",
        status_reason="invalid_grant",
        refresh={"owner": "x"},
        not_before=desk.store.now(),
    )

    again = saved(desk, tokens=Tokens(Secret("another-access-token"), Secret("another-refresh-token"), 3600))

    assert again.id == first.id
    assert again.generation == 2
    assert (again.status, again.status_reason) == ("active", None)
    assert again.open("access_token").reveal() == "another-access-token"
    assert "refresh" not in again.document
    assert "not_before" not in again.document
    assert again.document["created_at"] == first.document["created_at"]


def test_a_reconnect_without_a_refresh_token_keeps_the_one_that_is_there(desk: Desk) -> None:
    saved(desk)

    again = saved(desk, tokens=Tokens(Secret("another-access-token"), None, None))

    assert again.open("refresh_token").reveal() == "canary-refresh-token-0123456789"
    assert again.document["token_expiry"] is not None


def test_two_workspaces_of_one_user_are_two_links(desk: Desk) -> None:
    assert saved(desk).id != saved(desk, provider_account="T2").id


def test_a_link_that_does_not_know_its_workspace_learns_it(desk: Desk) -> None:
    imported = saved(desk, provider_account="")

    again = saved(desk)

    assert again.id == imported.id
    assert again.document["provider_account"] == "T1"


def test_an_account_that_does_not_say_its_workspace_is_the_one_that_is_there(desk: Desk) -> None:
    link = saved(desk)

    again = saved(desk, provider_account="", metadata={}, email=None)

    assert again.id == link.id
    assert again.document["provider_account"] == "T1"
    assert again.metadata["team_id"] == "T1"
    assert again.account == "user@company.example"


def test_an_account_that_could_be_of_two_workspaces_has_to_say_which(desk: Desk) -> None:
    saved(desk)
    saved(desk, provider_account="T2")

    with pytest.raises(errors.Conflict, match="workspace"):
        saved(desk, provider_account="")

    assert len(desk.links.list()) == 2


def test_the_same_account_connected_many_times_at_once_is_one_link(desk: Desk) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: saved(desk), range(8)))

    assert len({link.id for link in found}) == 1
    assert len(desk.links.list()) == 1
    assert desk.now(found[0]).generation == 8


def test_doubles_that_an_older_server_left_do_not_keep_the_database_closed(desk: Desk) -> None:
    older = {name: value for name, value in desk.document(saved(desk)).items() if name not in ("_id", "generation")}
    for _ in range(2):
        desk.store.insert(COLLECTION, {"_id": ObjectId(), **older})

    declare(desk.store)

    assert len(desk.links.for_user("slack", desk.user_id)) == 3


def test_two_users_of_one_account_have_a_link_each(desk: Desk) -> None:
    first = saved(desk)
    second = desk.links.save(granted(desk), provider=desk.providers.get("slack"), user_id=ObjectId(), source="test")

    assert first.id != second.id


@pytest.mark.parametrize("other", [{"provider_user_id": "U2"}, {"provider_account": "T2"}, {"provider_user_id": ""}])
def test_a_link_never_becomes_another_accounts(desk: Desk, other: dict[str, Any]) -> None:
    link = saved(desk)
    before = desk.document(link)

    with pytest.raises(errors.Conflict) as caught:
        saved(desk, link_id=link.id, **other)

    assert caught.value.link_id == str(link.id)
    assert desk.document(link) == before


def test_a_link_that_is_gone_is_not_made_anew_by_its_reconnect(desk: Desk) -> None:
    with pytest.raises(errors.NotFound):
        saved(desk, link_id=ObjectId())

    assert desk.links.list() == []


def test_a_user_token_comes_and_goes_with_the_grant(desk: Desk) -> None:
    user = Tokens(Secret("user-access-token"), Secret("user-refresh-token"), 3600)
    with_user = saved(desk, user_tokens=user)
    again = saved(desk, user_tokens=user)
    without = saved(desk)

    assert with_user.grant(USER).generation == 1
    assert again.grant(USER).generation == 2
    assert again.open("refresh_token", USER).reveal() == "user-refresh-token"
    assert not without.grant(USER).exists


# --- changes


def test_a_link_is_shared_with_the_company_and_taken_back(desk: Desk) -> None:
    link = saved(desk)

    desk.links.share(str(link.id))
    assert [found.id for found in desk.links.shared("slack")] == [link.id]
    desk.links.share(link.id, shared=False)
    assert desk.links.shared("slack") == []


def test_every_change_is_in_the_audit_log_without_any_token(desk: Desk) -> None:
    link = saved(desk)
    desk.links.share(link.id)
    with pytest.raises(errors.Conflict):
        saved(desk, link_id=link.id, provider_user_id="U2")

    from credentials.audit import Audit

    events = Audit(desk.store, desk.vault, desk.company_id).query()
    assert [event["action_type"] for event in reversed(events)] == [
        "integration_linked",
        "integration_shared",
    ]
    assert events[-1]["after_state"]["scopes"] == ["chat:write", "files:write"]
    assert events[-1]["after_state"]["provider_user_id"] == "U1"
    assert all(event["resource_id"] == str(link.id) for event in events)
    assert CANARY not in str(events)


def test_both_stores_keep_links_alike(either_store: Store, vault: Vault) -> None:
    declare(either_store)
    company_id, user_id = ObjectId(), ObjectId()
    links = Links(either_store, vault, company_id, actor=user_id)
    provider = providers_at("https://127.0.0.1:1").get("slack")
    one = Granted(
        tokens=Tokens(Secret("access-token"), Secret("refresh-token"), 3600),
        issued_at=either_store.now(),
        scopes=("chat:write",),
        provider_user_id="U1",
    )

    first = links.save(one, provider=provider, user_id=user_id, source="test")
    second = links.save(one, provider=provider, user_id=user_id, source="test")

    assert (first.id, second.generation) == (second.id, 2)
    assert links.get(str(first.id)).open("access_token").reveal() == "access-token"
    assert [link.id for link in links.for_user("slack", user_id)] == [first.id]
