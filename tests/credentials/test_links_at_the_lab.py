"""All six vendors as the laboratory plays them: connect, refresh, reconnect, import, with the seed's scope names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from credentials.grants import USER
from credentials.link import Link
from credentials.link_import import LinkImport
from credentials.providers.catalogue import Providers
from credentials.providers.settings import OAuthApp, ServiceSettings
from credentials.vault import Vault
from flow8_core import errors
from flow8_core.clock import ManualClock, SystemClock
from flow8_core.egress import Egress, EgressSettings
from flow8_core.store import open_store
from tests.counterparts.lab import Lab
from tests.credentials.desk import Desk, declare

SCOPES = {
    "slack": ["chat:write"],
    "microsoft": ["openid", "profile", "email", "Calendars.ReadWrite"],
    "google": ["gmail.send", "drive", "sheets"],
    "clio": ["client.read", "document.read"],
    "quickbooks": ["quickbooks"],
    "bexio": ["client.read", "contact.read"],
}


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, lab: Lab) -> Iterator[Desk]:
    """A desk at the laboratory; the parts of the description are pasted in as an operator would."""
    named = {name: app for name, app in lab.oauth2.items() if name in SCOPES}
    oauth2 = {name: OAuthApp.model_validate({**app, "scopes": SCOPES[name]}) for name, app in named.items()}
    services = {name: ServiceSettings.model_validate(lab.services[name]) for name in SCOPES}
    url = f"sqlite:///{tmp_path / 'desk.db'}"
    clock = ManualClock(SystemClock().now())  # the laboratory signs its ID tokens now
    settings = EgressSettings.model_validate(lab.egress)
    with closing(open_store(url, clock=clock)) as store, Egress(settings) as egress:
        declare(store)
        nobody: Any = None
        yield Desk(store, vault, nobody, Providers(oauth2, services), egress, clock)


def connected(desk: Desk, lab: Lab, service: str, *, link_id: str | None = None) -> Link:
    begun = desk.connect.begin(service, company_id=desk.company_id, user_id=desk.user_id, link_id=link_id)
    query = parse_qsl(urlsplit(lab.visit(begun.authorize_url)).query)
    return desk.connect.complete(query, service=service)


@pytest.mark.parametrize("service", list(SCOPES))
def test_an_account_is_connected_and_stays_connected_through_refreshes(desk: Desk, lab: Lab, service: str) -> None:
    link = connected(desk, lab, service)
    tokens = {desk.access_token(link)}

    for generation in (2, 3):
        desk.clock.advance(31 * 24 * 3600)  # Clio's live for a month
        link = desk.refresher.fresh(desk.now(link), deadline=desk.soon)
        assert link.generation == generation
        tokens.add(desk.access_token(link))

    assert len(tokens) == 3
    assert link.status == "active"
    assert desk.providers.get(service).scopes.missing(SCOPES[service], link.scopes) == ()
    assert link.provider_user_id
    assert link.account
    assert bool(link.document["provider_account"]) == (service not in ("google", "quickbooks"))


@pytest.mark.parametrize("service", list(SCOPES))
def test_a_reconnect_finds_the_same_account(desk: Desk, lab: Lab, service: str) -> None:
    link = connected(desk, lab, service)

    again = connected(desk, lab, service, link_id=str(link.id))

    assert again.id == link.id
    assert again.generation == 2


def test_slacks_user_token_lives_beside_the_bots(tmp_path: Path, desk: Desk, lab: Lab) -> None:
    app = OAuthApp.model_validate({**lab.oauth2["slack"], "scopes": ["chat:write"], "user_scopes": ["chat:write"]})
    desk.providers = Providers({"slack": app}, {"slack": ServiceSettings.model_validate(lab.services["slack"])})
    link = connected(desk, lab, "slack")
    before = (desk.access_token(link), desk.access_token(link, USER))
    desk.clock.advance(24 * 3600)

    fresh = desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert (fresh.generation, fresh.grant(USER).generation) == (2, 2)
    assert {desk.access_token(link), desk.access_token(link, USER)}.isdisjoint(before)


@pytest.mark.parametrize("service", list(SCOPES))
def test_a_link_from_another_system_is_imported_and_refreshed(desk: Desk, lab: Lab, service: str) -> None:
    line = lab.grant(service, scopes=SCOPES[service])
    take = LinkImport(desk.store, desk.vault, desk.providers, company_id=desk.company_id, user_id=desk.user_id)

    (answer,) = take.run([json.dumps(line)])
    fresh = desk.refresher.fresh(desk.links.get(answer["id"]), deadline=desk.soon, force=True)

    assert fresh.generation == 2


def test_the_vendors_refusals_at_the_token_endpoint_are_understood(desk: Desk, lab: Lab) -> None:
    link = connected(desk, lab, "slack")
    desk.clock.advance(24 * 3600)
    lab.fault("slack", "rate_limited", "token", retry_after=17)

    with pytest.raises(errors.RateLimited) as caught:
        desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert caught.value.retry_after == 17
    assert desk.now(link).status == "active"
