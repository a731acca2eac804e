"""What several steps need is read once for all of them: no oftener, nobody else's, and not for longer than that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from credentials import components, grants
from credentials.components import Components
from credentials.link import Link
from credentials.resolver import Resolver
from credentials.vault import Vault
from flow8_core import errors
from flow8_core.egress import Egress
from tests.counterparts.token_server import TokenServer
from tests.credentials.desk import Desk, open_desk


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        yield desk


class Reads:
    """A store that notes what is read of which collection."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.of: list[str] = []

    def find(self, collection: str, *args: Any, **more: Any) -> Any:
        self.of.append(collection)
        return self._store.find(collection, *args, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def reads(desk: Desk) -> Reads:
    return Reads(desk.store)


@pytest.fixture
def resolver(desk: Desk, reads: Any) -> Resolver:
    return Resolver(reads, desk.vault, desk.providers, desk.refresher)


def components_of(desk: Desk, company_id: ObjectId | None = None) -> Components:
    return Components(desk.store, desk.vault, company_id or desk.company_id)


def added(components: Components, name: str = "web") -> str:
    config = {"hosts": ["api.example.com"], "auth": {"type": "bearer", "value": f"the-key-of-{name}"}}
    return str(components.add({"name": name, "kind": "request", "config": config})["id"])


def link_of(desk: Desk, resolver: Resolver, link: Link) -> str:
    found = resolver.link(
        company_id=desk.company_id,
        user_id=desk.user_id,
        service="acme",
        link_id=str(link.id),
        scopes=frozenset({"read"}),
        deadline=desk.soon,
    )
    return found.access_token.reveal()


def key_of(resolver: Resolver, company_id: ObjectId, component_id: Any) -> str:
    found = resolver.component(company_id=company_id, kind="request", component_id=component_id)
    key: str = found.config["auth"]["value"].reveal()
    return key


def test_many_steps_with_one_component_and_one_link_take_two_reads(
    desk: Desk, reads: Reads, resolver: Resolver
) -> None:
    component, link = added(components_of(desk)), desk.link()
    wanted = [f"component:{component}"] * 5 + [f"link:{link.id}"] * 3

    with resolver.ahead([(desk.company_id, each) for each in wanted]):
        assert {key_of(resolver, desk.company_id, component) for _ in range(5)} == {"the-key-of-web"}
        assert {link_of(desk, resolver, link) for _ in range(3)} == {"access-token-0"}

    assert sorted(reads.of) == sorted([components.COLLECTION, grants.COLLECTION])


def test_several_components_of_a_company_are_one_read(desk: Desk, reads: Reads, resolver: Resolver) -> None:
    ids = {name: added(components_of(desk), name) for name in ("one", "two", "three")}

    with resolver.ahead([(desk.company_id, f"component:{each}") for each in ids.values()]):
        for name, component in ids.items():
            assert key_of(resolver, desk.company_id, component) == f"the-key-of-{name}"

    assert reads.of == [components.COLLECTION]


def test_a_step_that_is_alone_reads_for_itself(desk: Desk, reads: Reads, resolver: Resolver) -> None:
    component = added(components_of(desk))

    with resolver.ahead([(desk.company_id, f"component:{component}"), (ObjectId(), f"component:{ObjectId()}")]):
        assert reads.of == []
        key_of(resolver, desk.company_id, component)

    assert reads.of == [components.COLLECTION]


def test_what_another_company_has_is_not_there_though_it_was_read_for_that_one(desk: Desk, resolver: Resolver) -> None:
    theirs = ObjectId()
    component = added(components_of(desk, theirs))

    with resolver.ahead([(each, f"component:{component}") for each in (theirs, theirs, desk.company_id) * 2]):
        assert key_of(resolver, theirs, component) == "the-key-of-web"
        with pytest.raises(errors.AccessDenied):
            key_of(resolver, desk.company_id, component)


def test_a_link_of_another_user_that_was_read_ahead_looks_like_none(desk: Desk, resolver: Resolver) -> None:
    link = desk.link()
    desk.set(link, user_id=ObjectId())

    with resolver.ahead([(desk.company_id, f"link:{link.id}")] * 2), pytest.raises(errors.AccessDenied):
        link_of(desk, resolver, link)


def test_nothing_outlives_the_block(desk: Desk, resolver: Resolver) -> None:
    component = added(components_of(desk))
    with resolver.ahead([(desk.company_id, f"component:{component}")] * 2):
        pass
    components_of(desk).remove(component)

    with pytest.raises(errors.AccessDenied):
        key_of(resolver, desk.company_id, component)
    with resolver.ahead([(desk.company_id, f"component:{component}")] * 2), pytest.raises(errors.AccessDenied):
        key_of(resolver, desk.company_id, component)


@pytest.mark.parametrize("odd", ["web", "", "no-id", {"$ne": None}, ["web"], 7, None])
def test_what_is_not_named_by_its_id_is_found_as_ever(desk: Desk, resolver: Resolver, odd: Any) -> None:
    component = added(components_of(desk))
    wanted = [(desk.company_id, f"component:{each}") for each in (odd, component, component)]

    with resolver.ahead([*wanted, (desk.company_id, "no-such-kind:1"), (desk.company_id, "")]):
        if odd in ("web", None):
            assert key_of(resolver, desk.company_id, odd) == "the-key-of-web"
        else:
            with pytest.raises((errors.AccessDenied, errors.ValidationFailed)):
                key_of(resolver, desk.company_id, odd)
