"""The credential of a step: which one, whose, and that nobody gets another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from credentials.components import Components
from credentials.grants import COLLECTION
from credentials.link import Link
from credentials.resolver import LinkAccess, Resolver
from credentials.vault import Vault
from flow8_core import errors
from flow8_core.egress import Egress
from tests.counterparts.token_server import Answer, TokenServer
from tests.credentials.desk import Desk, open_desk


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        yield desk


def access(desk: Desk, **changes: Any) -> LinkAccess:
    wanted: dict[str, Any] = {
        "company_id": desk.company_id,
        "user_id": desk.user_id,
        "service": "acme",
        "link_id": None,
        "scopes": frozenset({"read"}),
        "deadline": desk.soon,
    }
    return desk.resolver.link(**wanted | changes)


def test_a_users_own_link_is_opened(desk: Desk) -> None:
    link = desk.link()

    found = access(desk)

    assert found.link_id == str(link.id)
    assert found.credential == f"link:{link.id}"
    assert found.access_token.reveal() == "access-token-0"
    assert found.scopes == {"read", "write"}
    assert (found.service, found.generation, found.user_token) == ("acme", 1, None)
    assert found.hosts.covers(f"{desk.server.url}/anything")
    assert not found.hosts.covers("https://evil.example/")
    assert found.base_url == f"{desk.server.url}/"
    assert "access-token-0" not in repr(found)


def test_a_due_link_is_refreshed_on_the_way(desk: Desk) -> None:
    desk.link(expires_in=30)

    assert access(desk).access_token.reveal().startswith("at-g1")
    assert len(desk.server.token_calls) == 1


def test_a_token_that_the_vendor_refused_is_renewed_once(desk: Desk) -> None:
    desk.link()
    refused = access(desk)

    renewed = desk.resolver.renew(refused, deadline=desk.soon)
    again = desk.resolver.renew(refused, deadline=desk.soon)

    assert renewed.access_token != refused.access_token
    assert (renewed.generation, again.generation) == (2, 2)
    assert len(desk.server.token_calls) == 1


class Counting:
    """A store that counts what is asked of it."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name != "now":
            self.asked.append(name)
        return getattr(self._store, name)


@pytest.mark.parametrize("named", [True, False])
def test_the_usual_path_is_one_read(desk: Desk, named: bool) -> None:
    link = desk.link()
    counting: Any = Counting(desk.store)
    resolver = Resolver(counting, desk.vault, desk.providers, desk.refresher)

    resolver.link(
        company_id=desk.company_id,
        user_id=desk.user_id,
        service="acme",
        link_id=str(link.id) if named else None,
        scopes=frozenset({"read"}),
        deadline=desk.soon,
    )

    assert counting.asked == ["find"]


def test_only_the_access_token_is_opened(desk: Desk) -> None:
    link = desk.link()
    desk.set(link, refresh_token__ciphertext="AAAA")

    assert access(desk).access_token.reveal() == "access-token-0"


# --- which one


def test_a_shared_link_serves_those_who_have_none(desk: Desk) -> None:
    shared = desk.link(user_id=ObjectId())
    desk.links.share(shared.id)

    assert access(desk).link_id == str(shared.id)
    own = desk.link(account="own")
    assert access(desk).link_id == str(own.id)


def test_two_candidates_and_no_choice_is_a_conflict_that_names_both(desk: Desk) -> None:
    first, second = desk.link(account="a"), desk.link(account="b")

    with pytest.raises(errors.Conflict) as caught:
        access(desk)

    assert str(first.id) in caught.value.message
    assert str(second.id) in caught.value.message
    assert access(desk, link_id=str(second.id)).link_id == str(second.id)


def test_a_link_that_does_not_work_is_no_candidate(desk: Desk) -> None:
    desk.set(desk.link(account="a"), status="needs_reconnect")
    works = desk.link(account="b")

    assert access(desk).link_id == str(works.id)


def test_a_shared_link_that_works_is_better_than_an_own_one_that_does_not(desk: Desk) -> None:
    desk.set(desk.link(account="a"), status="needs_reconnect")
    shared = desk.link(account="b", user_id=ObjectId())
    desk.links.share(shared.id)

    assert access(desk).link_id == str(shared.id)


def test_nothing_connected_says_which_service_to_connect(desk: Desk) -> None:
    desk.link("slack")

    with pytest.raises(errors.AccessDenied, match="flow8 link connect acme"):
        access(desk)


def test_a_step_for_any_service_has_to_name_its_link(desk: Desk) -> None:
    link = desk.link()

    with pytest.raises(errors.AccessDenied, match="link_id"):
        access(desk, service=None)
    assert access(desk, service=None, link_id=str(link.id)).service == "acme"


# --- what must not be had


STRANGERS = [
    pytest.param(lambda _: {"company_id": ObjectId()}, id="another company"),
    pytest.param(lambda _: {"user_id": ObjectId()}, id="another user, not shared"),
    pytest.param(lambda _: {"link_id": str(ObjectId())}, id="not there"),
    pytest.param(lambda _: {"link_id": "link_123"}, id="no id"),
    pytest.param(lambda _: {"link_id": ""}, id="empty"),
    pytest.param(lambda _: {"link_id": {"$ne": None}}, id="an operator"),
]


@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_is_not_yours_looks_like_what_is_not_there(desk: Desk, stranger: Any) -> None:
    link = desk.link()
    wanted = {"link_id": str(link.id)} | stranger(link)

    with pytest.raises(errors.AccessDenied) as caught:
        access(desk, **wanted)
    with pytest.raises(errors.AccessDenied) as absent:
        access(desk, link_id=str(ObjectId()))

    assert caught.value.to_dict() == absent.value.to_dict()
    assert desk.server.calls == []


def test_a_link_of_another_service_is_refused(desk: Desk) -> None:
    link = desk.link("slack")

    with pytest.raises(errors.AccessDenied, match="of slack, and the step needs acme"):
        access(desk, link_id=str(link.id))


def test_a_shared_link_may_be_named_by_everybody_in_the_company(desk: Desk) -> None:
    link = desk.link(user_id=ObjectId())
    desk.links.share(link.id)

    assert access(desk, link_id=str(link.id)).link_id == str(link.id)
    with pytest.raises(errors.AccessDenied):
        access(desk, link_id=str(link.id), company_id=ObjectId())


def test_a_missing_scope_is_named_before_anything_is_sent(desk: Desk) -> None:
    link = desk.link(expires_in=30)

    with pytest.raises(errors.InsufficientScope) as caught:
        access(desk, scopes=frozenset({"read", "admin", "delete"}))

    assert "admin, delete" in caught.value.message
    assert caught.value.link_id == str(link.id)
    assert caught.value.reconnect
    assert desk.server.calls == []


def test_microsofts_scopes_are_compared_as_microsoft_does(desk: Desk) -> None:
    link = desk.set(desk.link("microsoft"), scopes=["Calendars.ReadWrite", "openid"])

    found = access(desk, service="microsoft", scopes=frozenset({"calendars.readwrite", "offline_access"}))

    assert found.link_id == str(link.id)


# --- links that do not work


def broken(desk: Desk, status: str, reason: str | None = None) -> Link:
    return desk.set(desk.link(), status=status, status_reason=reason)


@pytest.mark.parametrize("named", [True, False])
def test_a_link_that_needs_its_owner_says_so_with_its_id(desk: Desk, named: bool) -> None:
    link = broken(desk, "needs_reconnect", "token_revoked")

    with pytest.raises(errors.InvalidGrant, match="revoked at the provider") as caught:
        access(desk, link_id=str(link.id) if named else None)

    assert caught.value.link_id == str(link.id)
    assert desk.server.calls == []


def test_a_revoked_link_fails_at_once_and_nothing_waits_for_it(desk: Desk) -> None:
    link = broken(desk, "revoked")

    with pytest.raises(errors.AccessDenied, match="was revoked here") as caught:
        access(desk, link_id=str(link.id))
    with pytest.raises(errors.AccessDenied):
        access(desk)

    assert caught.value.link_id is None


def test_a_link_that_was_deleted_while_a_step_held_it_is_gone(desk: Desk) -> None:
    link = desk.link()
    held = access(desk)
    desk.store.delete(COLLECTION, {"_id": link.id})

    with pytest.raises(errors.AccessDenied):
        desk.resolver.renew(held, deadline=desk.soon)


def test_a_blocked_application_is_the_operators_to_mend_once_the_access_token_is_over(desk: Desk) -> None:
    link = desk.link(expires_in=300)
    desk.server.script.append(Answer(401, b'{"error": "invalid_client"}'))

    assert access(desk).access_token.reveal() == "access-token-0"
    assert desk.now(link).status == "app_blocked"

    assert access(desk).access_token.reveal() == "access-token-0"
    desk.clock.advance(300 - 59)
    desk.server.script.append(Answer(401, b'{"error": "invalid_client"}'))
    with pytest.raises(errors.AppBlocked, match=r"oauth2\.acme") as caught:
        access(desk)
    assert caught.value.link_id == str(link.id)


def test_a_refresh_that_fails_late_is_the_steps_error(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    desk.server.script.append(Answer(429, b"", {"Retry-After": "9"}))

    with pytest.raises(errors.RateLimited) as caught:
        access(desk)

    assert (caught.value.retry_after, caught.value.link_id) == (9, str(link.id))


def test_a_slack_link_gives_both_tokens(desk: Desk) -> None:
    desk.link("slack", user_refresh_token="user-refresh-token")

    found = access(desk, service="slack", scopes=frozenset())

    assert found.user_token is not None
    assert found.user_token.reveal() == "user-token-0"


# --- components


def test_a_component_is_resolved_with_its_secrets(desk: Desk) -> None:
    body = {
        "name": "files",
        "kind": "storage",
        "config": {
            "provider": "s3",
            "bucket": "b-1",
            "region": "eu-central-1",
            "access_key_id": "AKIAQ3EGWJ5TZ2NM7XKL",
            "secret_access_key": "aB3dEfGhIjKlMnOpQrStUvWxYz0123456789aBcD",
        },
    }
    added = Components(desk.store, desk.vault, desk.company_id).add(body)

    found = desk.resolver.component(company_id=desk.company_id, kind="storage")

    assert found.id == added["id"]
    assert found.config["secret_access_key"].reveal() == body["config"]["secret_access_key"]
    with pytest.raises(errors.AccessDenied):
        desk.resolver.component(company_id=ObjectId(), kind="storage", component_id=added["id"])
