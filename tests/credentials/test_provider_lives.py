"""Each vendor from the browser's way out to the token given back, at a server that replies as the vendor does: one
table over all but Microsoft, whose ID tokens have to be signed by somebody (the laboratory)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from credentials.connect import Begun
from credentials.link import Link
from credentials.oauth import give_back
from credentials.providers.catalogue import Providers
from credentials.providers.settings import OAuthApp, ServiceSettings
from credentials.vault import Vault
from flow8_core import errors
from flow8_core.clock import Deadline, ManualClock
from flow8_core.egress import Egress
from flow8_core.secret import Secret
from tests.counterparts.token_server import Answer, TokenServer
from tests.credentials.desk import CLIENT_ID, CLIENT_SECRET, Desk, open_desk
from tests.credentials.provider_cases import CASES, DAY_S, Case
from tests.credentials.test_connect import callback, proof

COMMON = {"client_id", "redirect_uri", "state", "response_type", "nonce", "code_challenge", "code_challenge_method"}
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.service)
by_name = {case.service: case for case in CASES}


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    url = token_server.url
    app = OAuthApp.model_validate({"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET})
    here = {"authorize_url": f"{url}/authorize", "token_url": f"{url}/token", "base_url": f"{url}/api/"}
    place = ServiceSettings.model_validate(here | {"revoke_url": f"{url}/revoke"})
    services = [case.service for case in CASES]
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        yield replace(desk, providers=Providers(dict.fromkeys(services, app), dict.fromkeys(services, place)))


def begun(desk: Desk, case: Case) -> Begun:
    return desk.connect.begin(case.service, company_id=desk.company_id, user_id=desk.user_id, scopes=case.wanted)


def asked(begun: Begun) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(begun.authorize_url).query).items()}


def connected(desk: Desk, case: Case, **more: Any) -> Link:
    begin = begun(desk, case)
    reply = {**case.reply, **more}
    if case.id_token:
        claims = dict.fromkeys(("tid", "oid", "name", "preferred_username")) | {"iss": desk.server.url}
        reply["id_token"] = proof(desk, begin, **(claims | case.id_token))
    desk.server.pages = {path: (200, body) for path, body in case.pages.items()}
    return desk.connect.complete(callback(desk, begin, **reply) | case.callback)


@every_case
def test_the_browser_is_sent_out_as_the_vendor_wants_it(desk: Desk, case: Case) -> None:
    sent = asked(begun(desk, case))

    assert {name: value for name, value in sent.items() if name not in COMMON} == case.authorize
    assert sent["client_id"] == CLIENT_ID
    assert (sent.get("code_challenge_method") == "S256") == case.pkce


@every_case
def test_the_code_becomes_a_link_of_the_right_account(desk: Desk, case: Case) -> None:
    link = connected(desk, case)

    (exchange,) = desk.server.token_calls
    signed_in = exchange.basic == (CLIENT_ID, CLIENT_SECRET)
    in_form = (exchange.form.get("client_id"), exchange.form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
    assert (signed_in, in_form) == (case.client == "basic", case.client == "post")
    assert ("code_verifier" in exchange.form) == case.pkce
    assert (link.provider_user_id, link.document["provider_account"], link.account) == case.account
    assert link.metadata == case.metadata
    assert link.scopes == frozenset(case.scopes)
    issued = link.document["issued_at"]
    assert link.document["token_expiry"] == issued + timedelta(seconds=case.reply["expires_in"])
    idle_at = None if case.idle_s is None else issued + timedelta(seconds=case.idle_s)
    ends_at = None if case.ends_s is None else issued + timedelta(seconds=case.ends_s)
    assert (link.document.get("grant_idle_at"), link.document["grant_expires_at"]) == (idle_at, ends_at)


@every_case
def test_a_refresh_keeps_the_refresh_token_that_the_vendor_does_not_replace(desk: Desk, case: Case) -> None:
    link = connected(desk, case)
    spent, ends_at = desk.refresh_token(link), link.document["grant_expires_at"]
    said = {} if case.rotates else {"refresh_token": ""}
    said |= {name: case.reply[name] for name in ("x_refresh_token_expires_in",) if name in case.reply}
    desk.server.script.append(Answer(commit=True, edit=lambda reply: {**reply, **said}))
    desk.clock.advance(case.reply["expires_in"] - 30)

    fresh = desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    refresh = desk.server.token_calls[-1]
    assert (refresh.form["grant_type"], refresh.form["refresh_token"]) == ("refresh_token", spent)
    assert (refresh.basic is not None) == (case.client == "basic")
    assert "scope" not in refresh.form
    assert (desk.refresh_token(link) == spent) == (not case.rotates)
    assert fresh.generation == 2
    # what ends a grant was said when it began; a refresh that does not mention it has not moved it
    assert fresh.document["grant_expires_at"] == ends_at
    if case.idle_s is not None:
        assert fresh.document["grant_idle_at"] > link.document["grant_idle_at"]


@every_case
def test_without_a_refresh_token_a_link_lives_as_long_as_its_token_and_then_asks_for_its_user(
    desk: Desk, case: Case
) -> None:
    link = connected(desk, case, refresh_token=None)
    assert not link.grant().refreshable
    assert link.document.get("grant_idle_at") is None

    desk.clock.advance(case.reply["expires_in"] - 90)
    assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).status == "active"
    desk.clock.advance(60)
    with pytest.raises(errors.LinkError) as caught:
        desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert caught.value.reconnect
    assert "econnect" in caught.value.message
    assert (desk.now(link).status, desk.now(link).status_reason) == ("needs_reconnect", "token_expired")
    assert len(desk.server.token_calls) == 1


@pytest.mark.parametrize("service", ["clio", "bexio"])
def test_a_long_lived_token_without_an_end_is_used_until_the_vendor_refuses_it(desk: Desk, service: str) -> None:
    link = connected(desk, by_name[service], refresh_token=None, expires_in=None)

    desk.clock.advance(365 * DAY_S)
    assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).status == "active"
    with pytest.raises(errors.LinkError):
        desk.refresher.fresh(desk.now(link), deadline=desk.soon, force=True)

    assert (desk.now(link).status, desk.now(link).status_reason) == ("needs_reconnect", "token_revoked")


@every_case
def test_a_token_is_given_back_in_the_vendors_way(desk: Desk, case: Case) -> None:
    provider = desk.providers.get(case.service)

    assert give_back(provider, Secret("token-to-end"), desk.egress, desk.soon)

    (call,) = desk.server.calls
    auth, holder = case.gave_back
    secret = call.form.get("client_secret") == CLIENT_SECRET
    found = {"basic": call.basic, "bearer": call.bearer, "post": secret or None}
    assert [name for name, value in found.items() if value] == ([auth] if auth != "none" else [])
    if holder == "json":
        assert json.loads(call.body) == {"token": "token-to-end"}
        assert call.headers["content-type"] == "application/json"
    else:
        assert call.form.get("token") == (None if holder == "" else "token-to-end")
    assert case.gave_back[0] != "bearer" or call.bearer == "token-to-end"


def test_quickbooks_asks_for_the_hard_end_of_its_grants(desk: Desk) -> None:
    connected(desk, by_name["quickbooks"])

    assert desk.server.token_calls[0].headers["x-include-refresh-token-hard-expires-in"] == "true"


def test_quickbooks_without_an_answer_to_that_ends_after_five_years(desk: Desk) -> None:
    link = connected(desk, by_name["quickbooks"], x_refresh_token_hard_expires_in=None)

    assert link.document["grant_expires_at"] == link.document["issued_at"] + timedelta(days=5 * 365)


@pytest.mark.parametrize("realm", [None, "", "123", "9341453474484455/../1", "９３４１４５３４７４４８４４５５"])
def test_quickbooks_without_a_company_is_refused_before_the_code_is_spent(desk: Desk, realm: str | None) -> None:
    case = by_name["quickbooks"]
    begin = begun(desk, case)
    desk.server.codes["code-1"] = dict(case.reply)

    with pytest.raises(errors.VendorBadResponse, match="realmId"):
        desk.connect.complete({"code": "code-1", "state": begin.state, **({"realmId": realm} if realm else {})})

    assert desk.server.token_calls == []
    assert desk.links.list() == []


def test_two_companies_of_quickbooks_are_two_links_and_one_of_them_again_is_one(desk: Desk) -> None:
    case = by_name["quickbooks"]
    other = replace(case, callback={"realmId": "1234567890"}, pages={})

    first, second, again = connected(desk, case), connected(desk, other), connected(desk, case)

    assert first.id == again.id != second.id
    assert second.account == "1234567890"


def test_clios_permissions_are_those_that_the_configuration_says(desk: Desk) -> None:
    app = OAuthApp.model_validate(
        {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "scopes": ["documents.write", "client.read"]}
    )
    here = {"authorize_url": f"{desk.server.url}/authorize", "token_url": f"{desk.server.url}/token"}
    place = ServiceSettings.model_validate(here | {"base_url": f"{desk.server.url}/api/", "site": "eu"})
    told = replace(desk, providers=Providers({"clio": app}, {"clio": place}))
    rules = told.providers.get("clio").scopes

    link = connected(told, by_name["clio"])

    assert "scope" not in asked(begun(told, by_name["clio"]))
    assert link.scopes == {"documents.write", "contacts.read"}
    assert link.metadata["site"] == "eu"
    assert rules.missing(["documents.read", "contact.read"], link.scopes) == ()
    assert rules.missing(["matters.read"], link.scopes) == ("matters.read",)
    assert rules.missing(["matters.read"], ()) == ()


# --- bexio's endpoints are discovered


def discovering(desk: Desk, **place: str) -> Desk:
    app = OAuthApp.model_validate({"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET})
    settings = ServiceSettings.model_validate(
        {"issuer": desk.server.url, "base_url": f"{desk.server.url}/api/", **place}
    )
    desk.server.metadata = {"jwks_uri": f"{desk.server.url}/keys"}
    return replace(desk, providers=Providers({"bexio": app}, {"bexio": settings}))


def test_bexios_endpoints_come_from_its_issuer_and_its_habits_from_us(desk: Desk) -> None:
    found = discovering(desk).providers.endpoints("bexio", egress=desk.egress, deadline=desk.soon)

    assert (found.authorize_url, found.token_url) == (f"{desk.server.url}/authorize", f"{desk.server.url}/token")
    assert found.userinfo_url == f"{desk.server.url}/userinfo"
    assert found.revocation is not None
    assert (found.revocation.url, found.revocation.shared_by) == (f"{desk.server.url}/revoke", "user")
    assert found.id_token is not None
    assert found.id_token.jwks_url == f"{desk.server.url}/keys"
    assert (found.client_auth, found.replay, found.idle_s) == ("post", "single_use", 365 * DAY_S)


@pytest.mark.parametrize("issuer", [None, "https://auth.bexio.com/realms/bexio"])
def test_bexios_answer_must_name_its_issuer(desk: Desk, issuer: str | None) -> None:
    desk, case = discovering(desk), by_name["bexio"]
    begin = begun(desk, case)
    query = {"code": "code-1", "state": begin.state} | ({"iss": issuer} if issuer else {})

    with pytest.raises(errors.AccessDenied):
        desk.connect.complete(query)

    assert desk.server.token_calls == []


def test_a_bexio_link_is_connected_and_refreshed_at_what_was_discovered(desk: Desk) -> None:
    desk = discovering(desk)
    link = connected(desk, replace(by_name["bexio"], callback={"iss": desk.server.url}))

    desk.clock.advance(3590)
    fresh = desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert fresh.generation == 2
    assert sum(call.path.endswith("openid-configuration") for call in desk.server.calls) == 1


def test_yesterdays_endpoints_serve_while_the_issuers_document_cannot_be_had(desk: Desk) -> None:
    desk, clock = discovering(desk), ManualClock()
    soon = Deadline.after(10.0, clock)
    first = desk.providers.endpoints("bexio", egress=desk.egress, deadline=soon)
    clock.advance(25 * 3600)
    desk.server.metadata = {"token_endpoint": f"{desk.server.url}/new"}
    desk.server.pages = {"/.well-known/openid-configuration": (503, {})}

    later = desk.providers.endpoints("bexio", egress=desk.egress, deadline=Deadline.after(10.0, clock))

    assert later == first
    desk.server.pages = {}
    moved = desk.providers.endpoints("bexio", egress=desk.egress, deadline=Deadline.after(10.0, clock))
    assert moved.token_url == f"{desk.server.url}/new"


def test_a_server_that_was_never_found_is_told(desk: Desk) -> None:
    desk = discovering(desk)
    desk.server.pages = {"/.well-known/openid-configuration": (503, {})}

    with pytest.raises(errors.ProviderUnavailable):
        begun(desk, by_name["bexio"])
