"""Entra's rules (PKCE, nonce, signed id_tokens, rolling refresh tokens, AADSTS) against its own specification."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from flow8_lab.aadsts import ERRORS
from tests import contracts
from tests.counterparts.lab import Lab
from tests.lab.conftest import REDIRECT, Http, MicrosoftApp, answer_of


def code_of(answer: Any) -> int:
    """The AADSTS number of a refusal."""
    return int(answer.json["error_codes"][0])


def test_the_metadata_has_what_microsofts_own_has(microsoft: MicrosoftApp, http: Http) -> None:
    metadata = http.get(f"{microsoft.authority}/common/v2.0/.well-known/openid-configuration").json

    assert set(contracts.load("microsoft/oauth.json")["metadata_sample"]) <= set(metadata)
    assert metadata["issuer"] == f"{microsoft.authority}/{{tenantid}}/v2.0"
    assert metadata["token_endpoint"] == microsoft.token_url


def test_login_and_graph_are_two_origins(microsoft: MicrosoftApp) -> None:
    assert not microsoft.graph.startswith(microsoft.authority)


def test_a_sign_in_gives_what_microsoft_documents(microsoft: MicrosoftApp) -> None:
    reply = microsoft.exchange(microsoft.code(), client_info="1").json

    documented = contracts.load("microsoft/oauth.json")["token"]["exchange"]["response"]
    assert set(documented) == set(reply)
    assert reply["scope"] == "openid profile email User.Read Calendars.ReadWrite"
    assert reply["expires_in"] == documented["expires_in"]


def claims_of(microsoft: MicrosoftApp, token: str) -> dict[str, Any]:
    """The claims of an id_token. Raises KeyError for a key that is not published, and what PyJWT raises."""
    published = microsoft.http.get(f"{microsoft.authority}/common/discovery/v2.0/keys").json["keys"]
    key = {key["kid"]: key for key in published}[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, jwt.PyJWK(key), algorithms=["RS256"], audience=microsoft.client["client_id"])


def test_the_id_token_is_signed_by_a_published_key_and_holds_the_documented_claims(microsoft: MicrosoftApp) -> None:
    claims = claims_of(microsoft, microsoft.sign_in(nonce="the-nonce")["id_token"])

    assert set(contracts.load("microsoft/oauth.json")["id_token_claims_sample"]) == set(claims)
    assert claims["nonce"] == "the-nonce"
    assert claims["iss"] == f"{microsoft.authority}/{claims['tid']}/v2.0"


@pytest.mark.parametrize(
    ("wrong", "error"),
    [("wrong_key", KeyError), ("wrong_audience", jwt.InvalidAudienceError), ("expired", jwt.ExpiredSignatureError)],
)
def test_a_bad_id_token_can_be_ordered(microsoft: MicrosoftApp, wrong: str, error: type[Exception]) -> None:
    microsoft.lab.configure("microsoft", id_tokens=wrong)
    token = microsoft.sign_in()["id_token"]

    with pytest.raises(error):
        claims_of(microsoft, token)


@pytest.mark.parametrize(("wrong", "claim"), [("wrong_issuer", "iss"), ("wrong_nonce", "nonce")])
def test_a_claim_can_be_made_wrong(microsoft: MicrosoftApp, wrong: str, claim: str) -> None:
    good = claims_of(microsoft, microsoft.sign_in()["id_token"])
    microsoft.lab.configure("microsoft", id_tokens=wrong)

    bad = claims_of(microsoft, microsoft.sign_in()["id_token"])

    assert {name for name in good if good[name] != bad[name]} - {"iat", "nbf", "exp"} == {claim}


def test_without_offline_access_there_is_no_refresh_token(microsoft: MicrosoftApp) -> None:
    assert "refresh_token" not in microsoft.sign_in(scope="openid User.Read")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"code": "made-up"}, 70000),
        ({"redirect_uri": f"{REDIRECT}/else"}, 50011),
        ({"code_verifier": "w" * 64}, 501481),
        ({"code_verifier": ""}, 501481),
        ({"client_id": "550e8400-e29b-41d4-a716-446655440000"}, 700016),
        ({"client_secret": "wrong"}, 7000215),
        ({"grant_type": "password"}, 70003),
        ({"scope": "User.Read Everything"}, 70011),
        ({"scope": "Mail.Send"}, 65001),
    ],
)
def test_a_wrong_exchange_is_refused_as_microsoft_words_it(
    microsoft: MicrosoftApp, changes: dict[str, str], code: int
) -> None:
    answer = microsoft.exchange(microsoft.code(), **changes)

    table = contracts.load("microsoft/errors.json")["token_endpoint"]
    assert (answer.status, code_of(answer)) == (ERRORS[code][0], code)
    assert answer.json["error"] in table["error"]
    assert set(contracts.load("microsoft/oauth.json")["token"]["error_sample"]) <= set(answer.json)


def test_every_error_that_the_laboratory_knows_is_one_that_microsoft_documents() -> None:
    table = contracts.load("microsoft/errors.json")["token_endpoint"]

    assert {str(code) for code in ERRORS} - set(table["error_codes"]) == {"70003"}
    assert {error for _, error, _, _ in ERRORS.values()} <= set(table["error"])
    assert {suberror for _, _, suberror, _ in ERRORS.values() if suberror} <= set(table["suberror"])


def test_a_missing_client_secret_has_a_number_of_its_own(microsoft: MicrosoftApp, http: Http) -> None:
    answer = http.form(microsoft.token_url, {"client_id": microsoft.client["client_id"], "grant_type": "refresh_token"})

    assert (answer.status, code_of(answer)) == (401, 7000218)


def test_a_code_is_honoured_once_and_for_ten_minutes(lab: Lab, microsoft: MicrosoftApp) -> None:
    once, late = microsoft.code(), microsoft.code()

    assert microsoft.exchange(once).status == 200
    assert code_of(microsoft.exchange(once)) == 54005
    lab.control("/clock", {"advance_s": 600})
    assert code_of(microsoft.exchange(late)) == 70008


def test_refresh_tokens_roll_and_used_ones_go_on(microsoft: MicrosoftApp) -> None:
    first = microsoft.sign_in()["refresh_token"]

    second = microsoft.refresh(first).json["refresh_token"]

    assert second != first
    assert microsoft.refresh(first).status == 200
    assert microsoft.refresh(second).status == 200


def test_a_refresh_token_ends_after_ninety_days(lab: Lab, microsoft: MicrosoftApp) -> None:
    token = microsoft.sign_in()["refresh_token"]

    lab.control("/clock", {"advance_s": 90 * 24 * 3600})

    assert code_of(microsoft.refresh(token)) == 700082


def test_a_refresh_may_ask_for_less_but_not_for_more_than_was_consented(microsoft: MicrosoftApp) -> None:
    token = microsoft.sign_in()["refresh_token"]

    less = microsoft.refresh(token, scope="https://graph.microsoft.com/user.read openid")
    more = microsoft.refresh(token, scope="Mail.Send")

    assert less.json["scope"] == "User.Read openid"
    assert (more.json["suberror"], code_of(more)) == ("consent_required", 65001)


def test_consents_add_up(microsoft: MicrosoftApp) -> None:
    first = microsoft.sign_in()["refresh_token"]

    microsoft.sign_in(scope="openid offline_access Mail.Send")

    assert microsoft.refresh(first, scope="Mail.Send User.Read").json["scope"] == "Mail.Send User.Read"


def test_single_use_and_family_can_be_ordered(lab: Lab, microsoft: MicrosoftApp) -> None:
    lab.configure("microsoft", rolling=False, family=True)
    token = microsoft.sign_in()["refresh_token"]
    fresh = microsoft.refresh(token).json["refresh_token"]

    assert code_of(microsoft.refresh(token)) == 70000
    assert code_of(microsoft.refresh(fresh)) == 50173


def test_scopes_may_be_spelled_in_full(lab: Lab, microsoft: MicrosoftApp) -> None:
    lab.configure("microsoft", scope_style="qualified", granted_scopes=["openid", "User.Read"])

    assert microsoft.sign_in()["scope"] == "openid https://graph.microsoft.com/User.Read"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"scope": None}, "invalid_request"),
        ({"scope": "openid Everything"}, "invalid_client"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"nonce": None}, "invalid_request"),
    ],
)
def test_a_wrong_authorize_request_is_sent_back_with_its_error(
    lab: Lab, microsoft: MicrosoftApp, changes: dict[str, str | None], error: str
) -> None:
    answer = answer_of(lab.visit(microsoft.authorize_url(**changes)))

    assert (answer["error"], answer["state"]) == (error, "s")
    assert answer["error_description"].startswith("AADSTS")


@pytest.mark.parametrize(
    ("changes", "page"),
    [({"client_id": "1"}, "AADSTS700016"), ({"redirect_uri": "http://evil.example/"}, "AADSTS50011")],
)
def test_a_wrong_client_or_redirect_uri_ends_on_a_page(
    lab: Lab, microsoft: MicrosoftApp, changes: dict[str, str | None], page: str
) -> None:
    with pytest.raises(ValueError, match=f"(?s)HTTP 400.*{page}"):
        lab.visit(microsoft.authorize_url(**changes))


def test_a_registered_redirect_uri_is_matched_exactly(lab: Lab, microsoft: MicrosoftApp) -> None:
    lab.configure("microsoft", redirect_uris=[REDIRECT])

    assert lab.visit(microsoft.authorize_url()).startswith(REDIRECT)
    with pytest.raises(ValueError, match="AADSTS50011"):
        lab.visit(microsoft.authorize_url(redirect_uri=f"{REDIRECT}/below"))


def test_consent_may_be_given_or_refused(lab: Lab, microsoft: MicrosoftApp) -> None:
    lab.configure("microsoft", auto_approve=False)
    with pytest.raises(ValueError, match=r"(?s)HTTP 200.*guest@else\.example.*Calendars\.ReadWrite"):
        lab.visit(microsoft.authorize_url(login_hint="guest@else.example"))

    refused = answer_of(lab.visit(microsoft.authorize_url(), decision="deny"))
    given = answer_of(lab.visit(microsoft.authorize_url(), decision="approve"))

    assert set(refused) == set(contracts.load("microsoft/oauth.json")["authorize"]["callback_error"])
    assert refused["error"] == "access_denied"
    assert microsoft.exchange(given["code"]).status == 200


def test_an_unknown_tenant_and_a_revoke_endpoint_do_not_exist(microsoft: MicrosoftApp, http: Http) -> None:
    unknown = http.get(f"{microsoft.authority}/nowhere.example/v2.0/.well-known/openid-configuration")
    revoke = http.form(f"{microsoft.authority}/common/oauth2/v2.0/revoke", {"token": "any"})

    assert (unknown.status, code_of(unknown)) == (400, 90002)
    assert revoke.status == 404


def test_an_administrators_revocation_kills_refresh_tokens_and_access_tokens_live_out_their_hour(
    lab: Lab, microsoft: MicrosoftApp, http: Http
) -> None:
    reply = microsoft.sign_in()

    assert lab.control("/revoke", {"service": "microsoft"}) == {"grants": 1}

    refused = microsoft.refresh(reply["refresh_token"])
    assert (refused.json["suberror"], code_of(refused)) == ("bad_token", 50173)
    assert http.get(f"{microsoft.graph}me", token=reply["access_token"]).status == 200


def test_a_stock_msal_client_finds_its_way(lab: Lab, microsoft: MicrosoftApp, monkeypatch: pytest.MonkeyPatch) -> None:
    import msal

    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    app = msal.ConfidentialClientApplication(
        microsoft.client["client_id"],
        client_credential=microsoft.client["client_secret"],
        authority=f"{microsoft.authority}/common",
        instance_discovery=False,
        verify=lab.ca_file,
    )
    try:
        with pytest.warns(UserWarning, match="form_post"):  # a callback by POST needs a cookie of SameSite=None
            flow = app.initiate_auth_code_flow(["User.Read"], redirect_uri=REDIRECT)
        reply = app.acquire_token_by_auth_code_flow(flow, answer_of(lab.visit(flow["auth_uri"])))
        renewed = app.acquire_token_by_refresh_token(reply["refresh_token"], scopes=["User.Read"])
    finally:
        app.http_client.close()

    assert reply["id_token_claims"]["email"] == "user@company.com"
    assert renewed["access_token"] != reply["access_token"]
