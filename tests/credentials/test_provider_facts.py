"""Google, Clio, QuickBooks and bexio against their specifications: addresses, habits, scopes and errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from credentials.providers.catalogue import Providers
from credentials.providers.places import filled_from
from credentials.providers.provider import Provider
from credentials.providers.settings import OAuthApp, ServiceSettings
from credentials.token_errors import callback_error, refusal
from credentials.token_reply import Reply
from flow8_core.errors import ValidationFailed
from tests import contracts
from tests.credentials.test_providers import NOW, app, provider

OTHERS = "oauth_endpoints.clio_quickbooks_bexio.json"
OURS = {"invalid_client": "provider_misconfigured", "upstream_error": "provider_unavailable"}


def at_site(service: str, site: str) -> Provider:
    return Providers({service: app()}, {service: ServiceSettings(site=site)}).get(service)


# --- Google


def test_google_is_as_its_specification_says() -> None:
    told, google = contracts.load("google/oauth.json"), provider("google")
    metadata, params = told["metadata_sample"], told["authorize"]["params"]

    assert google.authorize_url == metadata["authorization_endpoint"]
    assert google.token_url == metadata["token_endpoint"]
    assert google.userinfo_url == metadata["userinfo_endpoint"]
    assert google.issuer == metadata["issuer"]
    assert google.revocation is not None
    assert google.revocation.url == metadata["revocation_endpoint"]
    assert google.revocation.shared_by == "user"
    assert google.id_token is not None
    assert google.id_token.jwks_url == metadata["jwks_uri"]
    assert google.authorize_params == {name: params[name] for name in ("access_type", "prompt")}
    assert (google.rotation, google.replay) == ("never", "reusable")
    assert told["token"]["refresh"]["refresh_token_returned"] is False
    for short, real in told["scope_aliases"].items():
        assert google.scopes.normal(short) == real


def test_googles_errors_are_those_of_its_specification() -> None:
    told = contracts.load("google/errors.json")
    for code, verdict in told["token_endpoint"].items():
        found = refusal(
            provider("google"), Reply(400, {}, json.dumps({"error": code}).encode()), phase="refresh", now=NOW
        )
        assert found is not None
        assert found.code == verdict.split(" ")[0], code
    samples = [sample for sample in told["samples"] if sample["where"] == "token"]
    assert samples
    for sample in samples:
        body = json.dumps(sample["body"]).encode()
        found = refusal(provider("google"), Reply(sample["status"], {}, body), phase="refresh", now=NOW)
        assert found is not None
        assert found.code == sample["taxonomy"], sample


@pytest.mark.parametrize(
    ("granted", "needed", "missing"),
    [
        ("drive", "drive.file", ()),
        ("drive", "sheets", ()),
        ("drive.file", "drive", ("https://www.googleapis.com/auth/drive",)),
        ("gmail.send", "gmail", ()),
        ("gmail.send", "gmail.readonly", ("https://www.googleapis.com/auth/gmail.readonly",)),
        ("https://www.googleapis.com/auth/spreadsheets", "spreadsheets.readonly", ()),
        ("drive", "openid", ()),
    ],
)
def test_googles_wider_scopes_hold_the_narrower(granted: str, needed: str, missing: tuple[str, ...]) -> None:
    assert provider("google").scopes.missing([needed], [granted]) == missing


# --- Clio, QuickBooks, bexio


@pytest.mark.parametrize("site", ["us", "eu", "ca", "au"])
def test_clio_is_as_its_specification_says_in_every_region(site: str) -> None:
    told, clio = contracts.load(OTHERS)["clio"], at_site("clio", site)
    host = told["regions"][site]

    def at_host(url: str) -> str:
        return url.replace("{host}", host)

    assert clio.authorize_url == at_host(told["authorize"])
    assert clio.token_url == at_host(told["token"])
    assert clio.base_url == at_host(told["api"]) + "/"
    assert clio.userinfo_url == at_host(told["userinfo"]).replace(",", "%2C").replace("{", "%7B").replace("}", "%7D")
    assert clio.revocation is not None
    assert clio.revocation.url == at_host(told["revoke"]["url"])
    assert clio.api_hosts.covers(f"https://{host}/api/v4/contacts.json")
    assert clio.api_hosts.covers("https://app.clio.com/api/v4/contacts.json") == (site == "us")
    assert told["refresh_rotates"] is False
    assert (clio.rotation, clio.replay, clio.idle_s, clio.client_auth) == ("never", "reusable", None, "post")
    assert clio.lifetime_s == told["access_token_seconds_seen_in_the_field"]


@pytest.mark.parametrize("site", ["production", "sandbox"])
def test_quickbooks_is_as_its_specification_says(site: str) -> None:
    told, quickbooks = contracts.load(OTHERS)["quickbooks"], at_site("quickbooks", site)

    assert quickbooks.authorize_url == told["authorize"]
    assert quickbooks.token_url == told["token"]
    assert quickbooks.base_url == told["api"][site] + "/"
    assert quickbooks.api_hosts.covers(told["api"][site])
    assert not quickbooks.api_hosts.covers(told["api"]["sandbox" if site == "production" else "production"])
    assert quickbooks.revocation is not None
    assert quickbooks.revocation.url == told["revoke"]["url"]
    assert list(quickbooks.callback_metadata) == told["callback_extra_params"]
    assert quickbooks.idle_s == told["refresh_token_idle_seconds"]
    assert quickbooks.grant_lifetime_s == told["refresh_token_hard_max_years"] * 365 * 24 * 3600
    header, value = told["refresh_hard_expiry"]["request_header"].split(": ")
    assert quickbooks.token_headers == {header: value}
    assert quickbooks.grant_lifetime_fields == (told["refresh_hard_expiry"]["response_field"],)
    assert (quickbooks.client_auth, quickbooks.replay) == ("basic", "single_use")
    assert set(quickbooks.scopes.aliases.values()) <= set(told["scopes"])


def test_bexio_is_as_its_specification_says() -> None:
    told, bexio = contracts.load(OTHERS)["bexio"], provider("bexio")
    flow = contracts.load("bexio/bexio-trimmed.openapi.json")["components"]["securitySchemes"]["oauth2"]["flows"]
    scopes = set(flow["authorizationCode"]["scopes"])

    assert bexio.issuer == told["issuer"]
    assert told["discovery"] == f"{bexio.issuer}/.well-known/openid-configuration"
    assert bexio.base_url == told["api"] + "/"
    assert bexio.issuer_in_callback == told["iss_in_authorization_response"]
    assert bexio.pkce
    assert set(told["scopes_required_for_refresh"]) <= set(bexio.base_scopes) <= scopes
    assert set(bexio.scopes.aliases.values()) <= scopes
    assert bexio.scopes.missing(["contact_show", "client.read"], ["contact_edit"]) == ()
    assert bexio.scopes.missing(["contact_edit"], ["contact_show"]) == ("contact_edit",)


@pytest.mark.parametrize("service", ["clio", "quickbooks", "bexio"])
def test_the_cases_of_refusals_are_classified(service: str) -> None:
    cases = [case for case in contracts.load("error_cases.json")["cases"] if case["service"] == service]
    judged = 0
    for case in cases:
        expected = OURS.get(case["expect"]["code"], case["expect"]["code"])
        if case["where"] == "callback":
            assert callback_error(provider(service), "access_denied").code == expected
        if case["where"] == "token":
            reply = Reply(case["status"], case["headers"], case["body"].encode())
            found = refusal(provider(service), reply, phase="refresh", now=NOW)
            assert found is not None
            assert found.code == expected, case
            judged += 1
    assert judged


# --- what all share


@pytest.mark.parametrize(
    ("service", "named", "wanted", "asked"),
    [
        ("slack", [], [], "chat:write"),
        ("slack", [], ["files:write"], "files:write"),
        ("slack", ["chat:write"], ["files:write"], "chat:write files:write"),
        ("microsoft", [], ["Mail.Send"], "openid profile email offline_access Mail.Send"),
        ("microsoft", [], [], "openid profile email offline_access User.Read"),
        ("quickbooks", [], ["quickbooks"], "com.intuit.quickbooks.accounting"),
        ("quickbooks", [], ["payment"], "com.intuit.quickbooks.payment"),
        ("bexio", ["kb_invoice_show"], ["file"], "openid profile email offline_access kb_invoice_show file"),
        ("clio", [], ["documents.read"], ""),
        ("clio", ["document.read"], ["matters.read"], "documents.read"),
    ],
)
def test_no_more_is_asked_for_than_somebody_needs(
    service: str, named: list[str], wanted: list[str], asked: str
) -> None:
    found = Providers({service: app(scopes=named)}).get(service)

    assert found.asked(wanted) == tuple(asked.split())


@pytest.mark.parametrize(
    ("cloud", "site"),
    [(name, name) for name in ("global", "us_gov_l4", "us_gov_l5", "china", "bleu_fr", "delos_de", "govsg")],
)
def test_microsofts_clouds_are_sites(cloud: str, site: str) -> None:
    told, found = contracts.load("microsoft/oauth.json"), at_site("microsoft", site)
    login, graph = told["clouds"][cloud]["login"], told["clouds"][cloud]["graph"]

    assert found.token_url == told["token"]["url"].replace("{login}", login).replace("{tenant}", "common")
    assert found.base_url == f"{graph}/v1.0/"
    assert found.userinfo_url == f"{graph}/oidc/userinfo"
    assert found.id_token is not None
    assert found.id_token.jwks_url == f"{login}/common/discovery/v2.0/keys"
    assert found.id_token.issuer == f"{login}/{{tid}}/v2.0"
    assert found.api_hosts.covers(f"{graph}/v1.0/me")
    assert found.scopes.missing(["Mail.Read"], ["mail.readwrite", "Mail.ReadWrite"]) == ()


@pytest.mark.parametrize(("service", "site"), [("clio", "de"), ("slack", "eu"), ("quickbooks", "Sandbox")])
def test_a_site_that_a_service_does_not_have_is_refused_with_those_it_has(service: str, site: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        at_site(service, site)

    ((path, message),) = caught.value.problems
    assert path == f"services.{service}.site"
    assert "known are" in message or "one site only" in message


def test_single_addresses_beat_the_site() -> None:
    place = {"site": "sandbox", "base_url": "https://proxy.example/qbo", "userinfo_url": "https://proxy.example/me"}
    found = Providers({"quickbooks": app()}, {"quickbooks": ServiceSettings.model_validate(place)}).get("quickbooks")

    assert (found.base_url, found.userinfo_url) == ("https://proxy.example/qbo/", "https://proxy.example/me")
    assert found.api_hosts.covers("https://proxy.example/qbo/v3")
    assert not found.api_hosts.covers("https://sandbox-quickbooks.api.intuit.com/v3")


def test_a_known_service_takes_another_way_of_signing_in_and_another_end() -> None:
    entry = {"client_id": "id-1", "client_secret": "s-1", "client_auth": "basic", "grant_lifetime_s": 604800}
    found = Providers({"bexio": OAuthApp.model_validate(entry)}).get("bexio")

    assert (found.client_auth, found.grant_lifetime_s) == ("basic", 604800)
    assert Providers({"bexio": app()}).get("bexio").client_auth == "post"


@pytest.mark.parametrize("value", ["1/../2", "a b", "{x}", "", "é", None])
def test_an_address_takes_nothing_but_an_id_from_an_accounts_metadata(value: Any) -> None:
    assert filled_from("v3/{realm_id}/x", {"realm_id": value} if value is not None else {}) is None
    assert filled_from("v3/{realm_id}/{realm_id}", {"realm_id": "42"}) == "v3/42/42"
