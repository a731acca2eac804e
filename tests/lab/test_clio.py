"""Clio's own rules: regions, no scopes, a refresh token that stays, and `who_am_i` with its fields."""

from __future__ import annotations

import jsonschema
import pytest

from tests import contracts
from tests.counterparts.lab import Lab
from tests.lab.conftest import Http, StandardApp, answer_of

CONTRACT = "oauth_endpoints.clio_quickbooks_bexio.json"
SPECIFICATION = "clio/clio-v4-trimmed.openapi.json"
ASKED = "?fields=id,name,email,account{id,name}"


@pytest.fixture
def clio(lab: Lab, http: Http) -> StandardApp:
    return StandardApp(lab, http, "clio")


@pytest.fixture
def elsewhere(lab: Lab, http: Http) -> StandardApp:
    """The application's twin in the European region."""
    return StandardApp(lab, http, "clio", lab.regions["clio"]["eu"])


def who_am_i(clio: StandardApp, token: str, query: str = ASKED, **headers: str) -> object:
    return clio.http.get(f"{clio.urls['base_url']}users/who_am_i.json{query}", token=token, headers=headers)


def test_the_endpoints_are_where_clio_documents_them(lab: Lab) -> None:
    documented = contracts.load(CONTRACT)["clio"]

    assert set(lab.regions["clio"]) == set(documented["regions"])
    urls = lab.regions["clio"]["eu"]
    host = urls["authorize_url"].split("/")[2]
    for name, ours in (("authorize", "authorize_url"), ("token", "token_url"), ("api", "base_url")):
        assert documented[name].replace("{host}", host) == urls[ours].rstrip("/")
    assert documented["revoke"]["url"].replace("{host}", host) == urls["revoke_url"]


def test_replies_hold_what_clio_documents_and_a_refresh_no_refresh_token(clio: StandardApp) -> None:
    reply = clio.connect()
    renewed = clio.refresh(reply["refresh_token"]).json

    documented = contracts.load(CONTRACT)["clio"]
    assert set(reply) == set(documented["token_response_fields"])
    assert set(renewed) == set(documented["token_response_fields"]) - {"refresh_token"}
    assert reply["expires_in"] == documented["access_token_seconds_documented"]


def test_a_refresh_token_does_not_end(lab: Lab, clio: StandardApp) -> None:
    token = clio.connect()["refresh_token"]

    lab.control("/clock", {"advance_s": 10 * 365 * 24 * 3600})

    assert clio.refresh(token).status == 200
    assert lab.control("/expire", {"service": "clio", "refresh": True}) == {"tokens": 0}


def test_regions_know_neither_each_others_codes_nor_tokens(clio: StandardApp, elsewhere: StandardApp) -> None:
    code = clio.consent()["code"]
    reply = clio.connect()

    assert elsewhere.exchange(code).json["error"] == "invalid_grant"
    assert elsewhere.refresh(reply["refresh_token"]).json["error"] == "invalid_grant"
    assert elsewhere.probe(reply["access_token"]).status == 401
    assert elsewhere.probe(elsewhere.connect()["access_token"]).status == 200
    assert sorted(g["account"]["region"] for g in clio.lab.control("/grants")["clio"]) == ["eu", "us"]


def test_a_refused_consent_leads_back_only_where_that_was_asked_for(lab: Lab, clio: StandardApp) -> None:
    lab.configure("clio", deny=True)

    assert answer_of(lab.visit(clio.authorize_url())) == {"error": "access_denied", "state": "s"}
    with pytest.raises(ValueError, match=r"(?s)HTTP 200.*You declined"):
        lab.visit(clio.authorize_url(redirect_on_decline=None))


def test_deauthorizing_needs_a_live_access_token(lab: Lab, clio: StandardApp) -> None:
    reply = clio.connect()
    lab.control("/expire", {"service": "clio"})

    assert clio.revoke(reply["access_token"]).status == 401
    assert clio.revoke(reply["refresh_token"]).status == 401
    assert clio.revoke(clio.refresh(reply["refresh_token"]).json["access_token"]).status == 200


def test_who_am_i_gives_the_fields_that_were_asked_for(clio: StandardApp) -> None:
    token = clio.connect()["access_token"]

    told = who_am_i(clio, token)
    bare = who_am_i(clio, token, "")
    shallow = who_am_i(clio, token, "?fields=id,account")

    assert set(told.json["data"]) == {"id", "name", "email", "account"}
    assert set(told.json["data"]["account"]) == {"id", "name"}
    assert set(bare.json["data"]) == {"id", "etag"}
    assert set(shallow.json["data"]["account"]) == {"id", "etag"}
    schema = contracts.closed_schema(SPECIFICATION, "User")
    everything = "id,etag,name,first_name,last_name,email,enabled,roles,subscription_type,time_zone,updated_at,account"
    jsonschema.validate(who_am_i(clio, token, f"?fields={everything}").json["data"], schema)


@pytest.mark.parametrize("fields", ["nothing", "account{nothing}", "account{id{deep}}", "id,,name"])
def test_fields_that_do_not_exist_or_nest_too_deep_are_refused(clio: StandardApp, fields: str) -> None:
    refused = who_am_i(clio, clio.connect()["access_token"], f"?fields={fields}")

    assert refused.status == 400
    jsonschema.validate(refused.json["error"], contracts.load(SPECIFICATION)["components"]["schemas"]["ErrorDetail"])


def test_a_retired_version_is_gone(clio: StandardApp) -> None:
    token = clio.connect()["access_token"]
    latest = contracts.load(CONTRACT)["clio"]["headers"]["X-API-VERSION"]

    statuses = [who_am_i(clio, token, ASKED, **{"X-API-VERSION": v}).status for v in (latest, "4.9.0", "3.0.0", "x")]

    assert statuses == [200, 410, 410, 410]


def test_a_user_without_the_right_and_an_application_without_the_permission_look_alike(
    lab: Lab, clio: StandardApp
) -> None:
    lab.configure("clio", forbidden=True)
    without_right = who_am_i(clio, clio.connect()["access_token"])
    lab.configure("clio", forbidden=False, permissions=["contacts"])

    without_permission = who_am_i(clio, clio.connect(client_id=clio.client["client_id"])["access_token"])

    assert without_right.json["error"]["type"] == "ForbiddenError"
    assert (without_right.status, without_right.json) == (without_permission.status, without_permission.json)


def test_every_answer_tells_the_limit_and_a_429_how_long_to_wait(lab: Lab, clio: StandardApp) -> None:
    token = clio.connect()["access_token"]
    lab.fault("clio", "rate_limited", "who_am_i", retry_after=24)

    limited, fine = who_am_i(clio, token), who_am_i(clio, token)

    assert (limited.status, limited.headers["Retry-After"]) == (429, "24")
    assert [a.headers["X-RateLimit-Remaining"] for a in (limited, fine)] == ["0", "49"]
    assert int(fine.headers["X-RateLimit-Reset"]) % 60 == 0
