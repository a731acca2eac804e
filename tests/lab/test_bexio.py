"""Bexio's own rules: a Keycloak realm that is discovered, offline sessions, and an API that tells little."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from tests import contracts
from tests.counterparts.lab import Lab
from tests.lab.conftest import Http, StandardApp, answer_of

CONTRACT = "oauth_endpoints.clio_quickbooks_bexio.json"
SPECIFICATION = "bexio/bexio-trimmed.openapi.json"
DAY_S = 24 * 3600
JSON = {"Accept": "application/json"}


@pytest.fixture
def bexio(lab: Lab, http: Http) -> StandardApp:
    return StandardApp(lab, http, "bexio")


def documented() -> dict[str, Any]:
    return dict(contracts.load(CONTRACT)["bexio"])


def test_the_realm_is_discovered_and_its_paths_are_keycloaks(lab: Lab, http: Http) -> None:
    found = http.get(lab.oidc["bexio"]["discovery_url"]).json

    known = documented()
    theirs, ours = known["issuer"].removesuffix("/realms/bexio"), found["issuer"].removesuffix("/realms/bexio")
    names = {
        "issuer": "issuer",
        "authorize": "authorization_endpoint",
        "token": "token_endpoint",
        "introspect": "introspection_endpoint",
        "userinfo": "userinfo_endpoint",
        "end_session": "end_session_endpoint",
        "jwks": "jwks_uri",
    }
    assert {name: found[there].replace(ours, theirs) for name, there in names.items()} == {n: known[n] for n in names}
    assert found["revocation_endpoint"].replace(ours, theirs) == known["revoke"]["url"]
    assert found["code_challenge_methods_supported"] == known["pkce"]
    assert found["authorization_response_iss_parameter_supported"] is known["iss_in_authorization_response"]
    scopes = contracts.load(SPECIFICATION)["components"]["securitySchemes"]["oauth2"]["flows"]["authorizationCode"]
    assert set(scopes["scopes"]) <= set(found["scopes_supported"])


@pytest.mark.parametrize(("said", "issuer"), [("good", True), ("wrong", False), ("absent", None)])
def test_the_callback_names_the_issuer(lab: Lab, bexio: StandardApp, said: str, issuer: bool | None) -> None:
    lab.configure("bexio", callback_iss=said)

    given = bexio.consent().get("iss")
    lab.configure("bexio", deny=True)
    refused = bexio.consent().get("iss")

    assert given == refused
    assert (None if given is None else given == lab.oidc["bexio"]["issuer"]) == issuer


def test_without_offline_access_there_is_no_refresh_token(bexio: StandardApp) -> None:
    assert "refresh_token" not in bexio.connect(scope="openid contact_show")


def test_a_grant_without_the_dance_can_always_be_refreshed(lab: Lab, bexio: StandardApp) -> None:
    line = lab.grant("bexio", scopes=["contact_show"])

    assert bexio.refresh(line["refresh_token"]).status == 200


def test_offline_access_that_the_user_unticked_is_not_granted(lab: Lab, bexio: StandardApp) -> None:
    lab.configure("bexio", granted_scopes=["openid", "email"])

    reply = bexio.connect()

    assert reply["scope"] == "openid email"
    assert "refresh_token" not in reply


def test_a_refresh_replaces_the_refresh_token_and_the_old_one_is_stale(bexio: StandardApp) -> None:
    first = bexio.connect()["refresh_token"]
    second = bexio.refresh(first).json["refresh_token"]

    refused = bexio.refresh(first)

    assert refused.json == {"error": "invalid_grant", "error_description": "Stale token"}
    assert bexio.refresh(second).status == 200


def test_a_refresh_may_leave_the_refresh_token_as_it_is(lab: Lab, bexio: StandardApp) -> None:
    token = bexio.connect()["refresh_token"]
    said = {}
    for way in ("omit", "empty", "null", "same"):
        lab.configure("bexio", refresh_reply=way)
        said[way] = bexio.refresh(token).json.get("refresh_token", "nothing")

    assert said == {"omit": "nothing", "empty": "", "null": None, "same": token}


def test_scopes_cannot_be_widened_by_a_refresh(bexio: StandardApp) -> None:
    token = bexio.connect()["refresh_token"]

    assert bexio.refresh(token, scope="openid contact_show").json["scope"] == "openid contact_show"


def test_a_scope_that_was_not_consented_is_refused_before_the_token_is_spent(bexio: StandardApp) -> None:
    token = bexio.connect()["refresh_token"]

    refused = bexio.refresh(token, scope="openid kb_invoice_show")

    assert (refused.status, refused.json["error"]) == (400, "invalid_scope")
    assert bexio.refresh(token).status == 200


def test_a_year_of_idling_ends_the_session(lab: Lab, bexio: StandardApp) -> None:
    token = bexio.connect()["refresh_token"]
    lab.control("/clock", {"advance_s": 300 * DAY_S})
    token = bexio.refresh(token).json["refresh_token"]
    lab.control("/clock", {"advance_s": 366 * DAY_S})

    refused = bexio.refresh(token)

    assert refused.json["error_description"] == "Token is not active"


def test_an_offline_session_says_no_end_unless_it_is_told_to(lab: Lab, bexio: StandardApp) -> None:
    silent = bexio.connect()["refresh_expires_in"]
    lab.configure("bexio", tell_idle=True)

    assert (silent, bexio.connect()["refresh_expires_in"]) == (0, 365 * DAY_S)


@pytest.mark.parametrize(("way", "statuses"), [("either", [200, 200]), ("post", [200, 401]), ("basic", [401, 200])])
def test_how_the_secret_may_come_is_a_switch(lab: Lab, bexio: StandardApp, way: str, statuses: list[int]) -> None:
    lab.configure("bexio", client_auth=way, refresh_reply="same")
    token = {"grant_type": "refresh_token", "refresh_token": lab.grant("bexio")["refresh_token"]}
    client, url = bexio.client, bexio.urls["token_url"]

    by_form = bexio.http.form(url, client | token)
    by_basic = bexio.http.form(url, token, basic=(client["client_id"], client["client_secret"]))

    assert [by_form.status, by_basic.status] == statuses
    ways = bexio.http.get(lab.oidc["bexio"]["discovery_url"]).json["token_endpoint_auth_methods_supported"]
    assert [f"client_secret_{w}" in ways for w in ("post", "basic")] == [status == 200 for status in statuses]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "openid client.read"}, "invalid_scope"),
        ({"code_challenge": "short"}, "invalid_request"),
    ],
)
def test_a_wrong_request_is_sent_back_with_its_error(bexio: StandardApp, changes: dict[str, str], error: str) -> None:
    answer = answer_of(bexio.lab.visit(bexio.authorize_url(**changes)))

    assert (answer["error"], answer["state"]) == (error, "s")


def test_userinfo_has_the_recorded_claims(bexio: StandardApp) -> None:
    token = bexio.connect()["access_token"]
    url = bexio.urls["userinfo_url"]

    assert set(bexio.http.get(url, token=token).json) == set(documented()["userinfo_claims_recorded"])
    assert bexio.http.get(url, token="dead").status == 401
    assert bexio.http.get(url, token=bexio.connect(scope="contact_show")["access_token"]).status == 403


def test_a_token_is_of_one_company(lab: Lab, bexio: StandardApp) -> None:
    one = bexio.connect()
    lab.configure("bexio", company=99)
    other = bexio.connect()

    companies = [
        bexio.http.get(bexio.urls["userinfo_url"], token=reply["access_token"]).json["company_id"]
        for reply in (one, other)
    ]

    assert companies == ["4711", "99"]
    assert len(lab.control("/grants")["bexio"]) == 2


def test_introspection_tells_a_live_token_from_a_dead_one(bexio: StandardApp, lab: Lab) -> None:
    reply, url = bexio.connect(), f"{bexio.urls['token_url']}/introspect"

    live = bexio.http.form(url, {"token": reply["access_token"], **bexio.client}).json
    lab.control("/revoke", {"service": "bexio"})

    assert (live["active"], "contact_show" in live["scope"].split()) == (True, True)
    assert bexio.http.form(url, {"token": reply["access_token"], **bexio.client}).json == {"active": False}
    assert bexio.http.form(url, {"token": reply["access_token"]}).status == 401


def test_revoking_says_200_for_an_unknown_token_too_but_not_to_a_stranger(bexio: StandardApp) -> None:
    assert bexio.revoke("nobody's").status == 200
    assert bexio.http.form(bexio.urls["revoke_url"], {"token": "any"}).status == 401


@pytest.mark.parametrize("path", ["3.0/users/me", "2.0/company_profile"])
def test_the_api_answers_as_specified(lab: Lab, bexio: StandardApp, path: str) -> None:
    token, url = bexio.connect()["access_token"], bexio.urls["base_url"] + path
    specification = contracts.load(SPECIFICATION)
    shape = specification["paths"][f"/{path}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]

    told = bexio.http.get(url, token=token, headers=JSON)
    lab.configure("bexio", forbidden=True)
    denied = bexio.http.get(url, token=token, headers=JSON)

    jsonschema.validate(told.json, {**specification, **shape})
    assert told.headers["ratelimit-limit"] == "1000"
    assert bexio.http.get(url, token=token).status == 406
    for refused, status in ((denied, 403), (bexio.http.get(url, token="dead", headers=JSON), 401)):
        assert (refused.status, refused.json["error_code"]) == (status, status)
        jsonschema.validate(refused.json, specification["components"]["schemas"]["Error"])


def test_the_apis_429_says_in_a_header_of_its_own_how_long_to_wait(lab: Lab, bexio: StandardApp) -> None:
    lab.fault("bexio", "rate_limited", "users.me", retry_after=39)

    limited = bexio.probe("any")

    assert (limited.status, limited.headers["ratelimit-reset"]) == (429, "39")
    assert "Retry-After" not in limited.headers
