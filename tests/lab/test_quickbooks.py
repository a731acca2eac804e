"""QuickBooks' own rules: the company in the callback, a refresh token that changes daily, two environments."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest

from tests import contracts
from tests.counterparts.lab import Lab
from tests.lab.conftest import Http, StandardApp

CONTRACT = "oauth_endpoints.clio_quickbooks_bexio.json"
SPECIFICATION = "quickbooks/quickbooks-v3-trimmed.openapi.json"
DAY_S = 24 * 3600
TELL_HARD_END = {"x-include-refresh-token-hard-expires-in": "true"}


@pytest.fixture
def quickbooks(lab: Lab, http: Http) -> StandardApp:
    return StandardApp(lab, http, "quickbooks")


def documented() -> dict[str, Any]:
    return dict(contracts.load(CONTRACT)["quickbooks"])


def test_the_paths_are_those_that_intuit_documents(lab: Lab, quickbooks: StandardApp, http: Http) -> None:
    known, urls = documented(), quickbooks.urls
    paths = {name: "/" + known[name].split("/", 3)[3] for name in ("authorize", "token", "issuer", "jwks")}

    assert urls["authorize_url"].endswith(paths["authorize"])
    assert urls["token_url"].endswith(paths["token"])
    assert urls["revoke_url"].endswith(known["revoke"]["url"].split("/", 3)[3])
    assert lab.oidc["quickbooks"]["jwks_url"].endswith(paths["jwks"])
    for name, path in (("production", "openid_configuration"), ("sandbox", "openid_sandbox_configuration")):
        assert known["discovery"][name].endswith(f"/.well-known/{path}/")
        found = http.get(lab.oidc["quickbooks"]["discovery_url"].replace("openid_configuration", path)).json
        assert found["userinfo_endpoint"].startswith(lab.regions["quickbooks"][name]["base_url"])


def test_the_company_stands_in_the_callback_and_in_no_reply(lab: Lab, quickbooks: StandardApp) -> None:
    lab.configure("quickbooks", realm="1234567890123")
    callback = quickbooks.consent()
    reply = quickbooks.exchange(callback["code"]).json

    assert callback["realmId"] == "1234567890123"
    assert re.fullmatch(documented()["realm_id_pattern"], callback["realmId"])
    assert set(callback) == {"code", "state", "realmId"}
    assert "1234567890123" not in str({name: value for name, value in reply.items() if name != "id_token"})


def test_a_reply_holds_what_intuit_documents(quickbooks: StandardApp) -> None:
    reply = quickbooks.connect()

    assert set(reply) == {name.rstrip("?") for name in documented()["token_response_fields"]}
    assert reply["expires_in"] == documented()["access_token_seconds_documented"]
    assert reply["x_refresh_token_expires_in"] in (8_726_399, 8_726_400)


def test_the_secret_must_come_by_http_basic(quickbooks: StandardApp) -> None:
    fields = {"grant_type": "refresh_token", "refresh_token": quickbooks.connect()["refresh_token"]}

    in_the_form = quickbooks.http.form(quickbooks.urls["token_url"], quickbooks.client | fields)

    assert (in_the_form.status, in_the_form.json) == (401, {"error": "invalid_client"})


def test_the_refresh_token_changes_once_it_is_a_day_old_and_the_last_one_stops_working(
    lab: Lab, quickbooks: StandardApp
) -> None:
    first = quickbooks.connect()["refresh_token"]
    same = quickbooks.refresh(first).json["refresh_token"]
    lab.control("/clock", {"advance_s": DAY_S + 1})

    changed = quickbooks.refresh(first).json["refresh_token"]

    refused = quickbooks.refresh(first)
    assert (same, changed != first) == (first, True)
    assert refused.json == {"error": "invalid_grant", "error_description": "Incorrect or invalid refresh token"}
    assert quickbooks.refresh(changed).status == 200
    assert quickbooks.grant()["reuses"] == 1


def test_use_keeps_a_grant_and_a_hundred_days_of_idling_end_it(lab: Lab, quickbooks: StandardApp) -> None:
    token = quickbooks.connect()["refresh_token"]
    for _ in range(2):
        lab.control("/clock", {"advance_s": 60 * DAY_S})
        token = quickbooks.refresh(token).json["refresh_token"]

    lab.control("/clock", {"advance_s": 102 * DAY_S})

    assert quickbooks.refresh(token).json["error"] == "invalid_grant"


def test_five_years_after_the_consent_it_ends_and_a_header_makes_the_reply_say_so(
    lab: Lab, quickbooks: StandardApp
) -> None:
    lab.configure("quickbooks", hard_lifetime_s=50 * DAY_S)
    token = quickbooks.connect()["refresh_token"]
    lab.control("/clock", {"advance_s": 40 * DAY_S})
    client, url = quickbooks.client, quickbooks.urls["token_url"]

    plain = quickbooks.refresh(token).json
    headers = TELL_HARD_END | {"Content-Type": "application/x-www-form-urlencoded"} | basic(client)
    body = f"grant_type=refresh_token&refresh_token={plain['refresh_token']}".encode()
    told = quickbooks.http.send("POST", url, headers=headers, body=body).json
    lab.control("/clock", {"advance_s": 11 * DAY_S})

    field = documented()["refresh_hard_expiry"]["response_field"]
    assert field not in plain
    assert 9.9 * DAY_S < told[field] <= 10 * DAY_S
    assert told["x_refresh_token_expires_in"] == told[field]
    assert quickbooks.refresh(told["refresh_token"]).json["error"] == "invalid_grant"


def basic(client: dict[str, str]) -> dict[str, str]:
    import base64

    return {"Authorization": f"Basic {base64.b64encode(':'.join(client.values()).encode()).decode()}"}


def test_a_request_without_state_ends_on_a_page_and_an_unknown_scope_leads_back(quickbooks: StandardApp) -> None:
    with pytest.raises(ValueError, match="state"):
        quickbooks.consent(state=None)
    assert quickbooks.consent(scope="quickbooks") == {"error": "invalid_scope", "state": "s"}


def test_revoking_wants_json_and_the_client(quickbooks: StandardApp, http: Http) -> None:
    token, url = quickbooks.connect()["refresh_token"], quickbooks.urls["revoke_url"]

    assert http.post(url, {"token": token}).status == 401
    assert http.post(url, ["any"], headers=basic(quickbooks.client)).status == 400
    assert http.form(url, {"token": token}, basic=tuple(quickbooks.client.values())).status == 400  # type: ignore[arg-type]
    assert quickbooks.revoke(token).status == 200
    assert quickbooks.revoke(token).status == 400


def test_companyinfo_is_of_the_granted_company_in_the_environment_that_it_belongs_to(
    lab: Lab, http: Http, quickbooks: StandardApp
) -> None:
    sandbox = StandardApp(lab, http, "quickbooks", lab.regions["quickbooks"]["sandbox"])
    of_production = quickbooks.connect()["access_token"]
    lab.configure("quickbooks", sandbox=True, realm="4620816365007870460")
    of_sandbox = quickbooks.connect()["access_token"]

    told = quickbooks.probe(of_production)

    company = told.json["CompanyInfo"]
    jsonschema.validate(company, contracts.closed_schema(SPECIFICATION, "CompanyInfo"))
    assert told.headers["intuit_tid"]
    assert sandbox.probe(of_production).json["fault"]["error"][0]["code"] == "3100"
    other = "v3/company/4620816365007870460/companyinfo/4620816365007870460"
    assert http.get(sandbox.urls["base_url"] + other, token=of_sandbox).status == 200
    assert http.get(quickbooks.urls["base_url"] + other, token=of_sandbox).status == 403


def test_refusals_come_in_three_shapes(lab: Lab, quickbooks: StandardApp) -> None:
    schemas = contracts.load(SPECIFICATION)
    token = quickbooks.connect()["access_token"]
    by_gateway = quickbooks.probe("dead")
    lab.configure("quickbooks", no_access=True)
    by_service = quickbooks.probe(token)
    lab.configure("quickbooks", answer_in_xml=True)

    in_xml = quickbooks.probe("dead")

    for answer, name in ((by_gateway, "GatewayFaultEnvelope"), (by_service, "FaultEnvelope")):
        assert answer.status == 401
        jsonschema.validate(answer.json, {**schemas, "$ref": f"#/components/schemas/{name}"})
    assert by_gateway.json["fault"]["error"][0]["code"] == "3200"
    assert by_service.json["Fault"]["Error"][0]["code"] == "120"
    assert in_xml.body.startswith(b"<?xml")


def test_userinfo_shows_what_the_scopes_allow(lab: Lab, quickbooks: StandardApp) -> None:
    url = f"{quickbooks.urls['base_url']}v1/openid_connect/userinfo"
    wide = quickbooks.connect()["access_token"]
    narrow = quickbooks.connect(scope="com.intuit.quickbooks.accounting")["access_token"]

    told = quickbooks.http.get(url, token=wide).json

    assert (told["email"], told["emailVerified"]) == ("user@company.com", True)
    assert quickbooks.http.get(url, token=narrow).status == 401
