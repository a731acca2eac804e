"""All six vendors as the laboratory plays them: connect, refresh, reconnect, import, with the seed's scope names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from bson import ObjectId

from credentials.grants import USER
from credentials.link import Link
from credentials.link_import import LinkImport
from credentials.oauth import client_for
from credentials.providers.catalogue import Providers
from credentials.providers.settings import OAuthApp, ServiceSettings
from credentials.token_errors import refusal
from credentials.vault import Vault
from flow8_core import errors
from flow8_core.clock import ManualClock, SystemClock
from flow8_core.egress import Egress, EgressSettings
from flow8_core.secret import Secret
from flow8_core.store import open_store
from tests.counterparts.lab import Lab
from tests.credentials.desk import Desk, declare
from tests.credentials.post import post_of

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


def unlinked(desk: Desk, link: Link) -> str:
    """Unlink, and what came of it at the vendor."""
    post = post_of(desk, None, desk.egress)
    post.unlink(desk).link(link.id)
    post.round()
    (item,) = post.items()
    return str(item.get("ended"))


def alive(desk: Desk, service: str, refresh_token: str) -> bool:
    """Whether the vendor would still refresh this, asked without us."""
    provider = desk.providers.endpoints(service, egress=desk.egress, deadline=desk.soon)
    reply = client_for(provider, desk.egress, desk.soon).refresh(
        refresh_token=Secret(refresh_token), scopes=SCOPES[service], answered=lambda: None
    )
    return refusal(provider, reply, phase="refresh", now=desk.store.now()) is None


@pytest.mark.parametrize("service", list(SCOPES))
def test_an_unlinked_account_is_of_no_use_to_whoever_kept_its_tokens(desk: Desk, lab: Lab, service: str) -> None:
    link = connected(desk, lab, service)
    kept = desk.refresh_token(link)

    outcome = unlinked(desk, link)

    takes_back = service != "microsoft"
    assert outcome == ("revoked" if takes_back else "not_possible")
    assert alive(desk, service, kept) is not takes_back


def test_a_vendor_that_believes_the_bearer_alone_is_asked_with_a_token_that_works(desk: Desk, lab: Lab) -> None:
    """Clio takes a grant back from a living access token only; the refresh token would outlive a dead one."""
    link = connected(desk, lab, "clio")
    kept = desk.refresh_token(link)
    for clock in (desk.clock.advance, lambda seconds: lab.control("/clock", {"advance_s": seconds})):
        clock(31 * 24 * 3600)

    assert unlinked(desk, link) == "revoked"
    assert not alive(desk, "clio", kept)


def test_a_google_grant_is_left_while_another_user_here_lives_by_it(desk: Desk, lab: Lab) -> None:
    mine = connected(desk, lab, "google")
    kept, desk.user_id = desk.refresh_token(mine), ObjectId()
    theirs = connected(desk, lab, "google")

    assert unlinked(desk, mine) == "kept_for_others"
    assert alive(desk, "google", kept)
    assert desk.refresher.fresh(theirs, deadline=desk.soon, force=True).status == "active"


FLAWS = ("wrong_key", "wrong_audience", "wrong_issuer", "wrong_nonce", "expired", "absent")
FORGERIES = ("forged_kid", "unsigned", "hmac", "no_nonce")  # those that Microsoft's part does not have


@pytest.mark.parametrize(
    ("service", "flaw"),
    [
        *(("microsoft", flaw) for flaw in FLAWS),
        *((service, flaw) for service in ("google", "bexio") for flaw in (*FLAWS, *FORGERIES)),
    ],
)
def test_who_connected_is_not_believed_where_the_proof_is_flawed(desk: Desk, lab: Lab, service: str, flaw: str) -> None:
    lab.configure(service, id_tokens=flaw)

    with pytest.raises((errors.AccessDenied, errors.VendorBadResponse)):
        connected(desk, lab, service)

    assert desk.links.list() == []
    assert lab.requests(service, "token.exchange")["count"] == 1


@pytest.mark.parametrize("service", ["google", "bexio"])
def test_a_key_that_was_rolled_a_moment_ago_is_found(desk: Desk, lab: Lab, service: str) -> None:
    lab.configure(service, keys_rolled=True)

    assert connected(desk, lab, service).status == "active"


@pytest.mark.parametrize(("ahead_s", "taken"), [(100, True), (-100, True), (3600, False)])
def test_a_vendors_clock_may_be_two_minutes_off(desk: Desk, lab: Lab, ahead_s: int, taken: bool) -> None:
    lab.configure("google", clock_skew_s=ahead_s)

    if taken:
        assert connected(desk, lab, "google").status == "active"
    else:
        with pytest.raises(errors.AccessDenied, match="clock"):
            connected(desk, lab, "google")


@pytest.mark.parametrize(
    ("service", "issuer", "taken"),
    [
        ("google", "good", True),
        ("google", "absent", True),
        ("google", "wrong", False),
        ("bexio", "good", True),
        ("bexio", "absent", False),
        ("bexio", "wrong", False),
    ],
)
def test_the_issuer_of_the_callback_is_compared(desk: Desk, lab: Lab, service: str, issuer: str, taken: bool) -> None:
    lab.configure(service, callback_iss=issuer)

    if taken:
        assert connected(desk, lab, service).status == "active"
        return
    with pytest.raises(errors.AccessDenied, match="server"):
        connected(desk, lab, service)
    assert lab.requests(service, "token.exchange")["count"] == 0


@pytest.mark.parametrize("service", list(SCOPES))
def test_consent_that_is_denied_makes_no_link_and_uses_no_code(desk: Desk, lab: Lab, service: str) -> None:
    lab.configure(service, deny=True)

    with pytest.raises(errors.AccessDenied, match="declined"):
        connected(desk, lab, service)

    assert desk.links.list() == []
    assert lab.requests(service, "token.exchange")["count"] == 0


@pytest.mark.parametrize("service", ["microsoft", "google", "bexio", "clio"])
def test_another_account_never_takes_a_links_place(desk: Desk, lab: Lab, service: str) -> None:
    link = connected(desk, lab, service)
    before = desk.document(link)
    lab.configure(service, account="somebody.else@company.com")

    with pytest.raises(errors.Conflict, match="another"):
        connected(desk, lab, service, link_id=str(link.id))

    assert desk.document(link) == before
