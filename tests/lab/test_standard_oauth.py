"""What the four vendors whose server follows the standard have in common: one table over all of them."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.counterparts.lab import Lab
from tests.lab.conftest import ASKED, REDIRECT, Http, StandardApp, answer_of

VENDORS = tuple(ASKED)
WITH_PKCE = ("google", "bexio")


@pytest.fixture
def app(lab: Lab, http: Http, request: pytest.FixtureRequest) -> StandardApp:
    return StandardApp(lab, http, request.param)


everywhere = pytest.mark.parametrize("app", VENDORS, indirect=True)
with_pkce = pytest.mark.parametrize("app", WITH_PKCE, indirect=True)


@everywhere
def test_a_code_is_exchanged_once(app: StandardApp) -> None:
    code = app.consent()["code"]

    first, second = app.exchange(code), app.exchange(code)

    assert first.status == 200
    assert (second.status, second.json["error"]) == (400, "invalid_grant")
    assert app.grant()["exchanges"] == 1


@everywhere
def test_a_code_that_is_too_old_is_refused(lab: Lab, app: StandardApp) -> None:
    code = app.consent()["code"]

    lab.control("/clock", {"advance_s": 601})

    assert app.exchange(code).json["error"] == "invalid_grant"


@everywhere
def test_a_code_is_bound_to_its_redirect_uri(app: StandardApp) -> None:
    refused = app.exchange(app.consent()["code"], redirect_uri="https://evil.example/")

    assert refused.status == 400
    assert refused.json["error"] in ("invalid_grant", "redirect_uri_mismatch")


@with_pkce
def test_a_code_is_bound_to_its_verifier(app: StandardApp) -> None:
    codes = [app.consent()["code"] for _ in range(2)]

    assert app.exchange(codes[0], code_verifier="w" * 64).json["error"] == "invalid_grant"
    assert app.exchange(codes[1], code_verifier="").json["error"] == "invalid_grant"


@with_pkce
@pytest.mark.parametrize("changes", [{"code_challenge": None}, {"code_challenge_method": "plain"}])
def test_a_request_without_pkce_by_s256_is_refused(lab: Lab, app: StandardApp, changes: dict[str, str | None]) -> None:
    try:
        refused = app.consent(**changes)["error_description"]
    except ValueError as page:  # Google leaves the user on a page
        refused = str(page)

    assert "code_challenge" in refused
    lab.configure(app.service, require_pkce=False)
    assert app.consent(code_challenge=None, code_challenge_method=None)["code"]


@everywhere
@pytest.mark.parametrize("changes", [{"client_id": "other"}, {"redirect_uri": "http://evil.example/"}])
def test_a_wrong_client_or_redirect_uri_ends_on_a_page(app: StandardApp, changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="HTTP 400"):
        app.consent(**changes)


@everywhere
def test_a_registered_redirect_uri_is_matched_exactly(lab: Lab, app: StandardApp) -> None:
    lab.configure(app.service, redirect_uris=[REDIRECT])

    assert app.consent()["code"]
    with pytest.raises(ValueError, match="HTTP 400"):
        app.consent(redirect_uri=f"{REDIRECT}/below")


@everywhere
def test_consent_may_be_given_or_refused(lab: Lab, app: StandardApp) -> None:
    lab.configure(app.service, auto_approve=False)
    with pytest.raises(ValueError, match=r"(?s)HTTP 200.*user@company\.com"):
        app.consent()

    refused = answer_of(lab.visit(app.authorize_url(), decision="deny"))
    given = answer_of(lab.visit(app.authorize_url(), decision="approve"))

    assert (refused["error"], refused["state"]) == ("access_denied", "s")
    assert app.exchange(given["code"]).status == 200


@everywhere
def test_wrong_client_credentials_are_refused_with_401(app: StandardApp) -> None:
    refused = app.token({"grant_type": "refresh_token", "refresh_token": "any"}, secret="wrong")

    assert refused.status == 401
    assert refused.json["error"] in ("invalid_client", "unauthorized_client")


@everywhere
def test_an_unknown_grant_type_and_an_unknown_token_are_refused(app: StandardApp) -> None:
    assert app.token({"grant_type": "password"}).json["error"] == "unsupported_grant_type"
    assert app.refresh("nobody's").json["error"] == "invalid_grant"


@everywhere
def test_a_refreshed_access_token_works_and_is_counted(lab: Lab, app: StandardApp) -> None:
    reply = app.connect()
    lab.control("/expire", {"service": app.service})
    assert app.probe(reply["access_token"]).status == 401

    renewed = app.refresh(reply["refresh_token"])

    assert app.probe(renewed.json["access_token"]).status == 200
    assert app.grant() | {"refreshes": 1, "reuses": 0, "most_presented": 1, "revoked": False} == app.grant()
    assert (
        lab.requests(app.service)["operations"] | {"token.exchange": 1, "token.refresh": 1}
        == (lab.requests(app.service)["operations"])
    )


@everywhere
def test_a_refresh_token_does_not_open_the_api(app: StandardApp) -> None:
    assert app.probe(app.connect()["refresh_token"]).status == 401


@everywhere
def test_revoking_ends_access_and_refreshing(lab: Lab, app: StandardApp) -> None:
    reply = app.connect()

    assert app.revoke(reply["access_token"]).status == 200

    assert app.probe(reply["access_token"]).status == 401
    assert app.refresh(reply["refresh_token"]).json["error"] == "invalid_grant"
    assert (app.grant()["revoked"], lab.effects(app.service)["operations"]) == (True, {"revoke": 1})


@everywhere
def test_a_user_takes_the_grant_back(lab: Lab, app: StandardApp) -> None:
    reply = app.connect()

    assert lab.control("/revoke", {"service": app.service}) == {"grants": 1}

    assert app.refresh(reply["refresh_token"]).json["error"] == "invalid_grant"


@everywhere
def test_a_minted_grant_is_as_good_as_one_from_the_dance(lab: Lab, app: StandardApp) -> None:
    line = lab.grant(app.service, expires_in=60)

    assert app.probe(line["access_token"]).status == 200
    assert app.refresh(line["refresh_token"]).status == 200
    assert line.keys() == lab.grant("microsoft").keys()


@everywhere
def test_no_secret_is_missing_from_the_list_or_found_in_descriptions(lab: Lab, app: StandardApp) -> None:
    reply = app.connect()

    known = set(lab.secrets())

    assert {reply["access_token"], reply["refresh_token"], app.client["client_secret"]} <= known
    assert not any(secret in str(app.grant()) for secret in known)


@everywhere
def test_what_a_vendor_does_not_have_is_a_404(app: StandardApp, http: Http) -> None:
    for url in (app.urls["token_url"], app.urls["base_url"]):
        parts = urlsplit(url)
        assert http.get(f"{parts.scheme}://{parts.netloc}/nowhere").status == 404


@everywhere
def test_faults_are_worded_as_the_vendor_does(lab: Lab, app: StandardApp) -> None:
    lab.fault(app.service, "error", "token", error="invalid_grant")
    lab.fault(app.service, "rate_limited", "token", retry_after=9)

    failed, limited = app.refresh("any"), app.refresh("any")

    assert (failed.status, failed.json["error"]) == (400, "invalid_grant")
    assert (limited.status, limited.headers["Retry-After"]) == (429, "9")
