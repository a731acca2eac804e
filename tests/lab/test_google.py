"""Google's own rules: when there is a refresh token, what revoking takes, and what the APIs say of a token."""

from __future__ import annotations

from typing import Any

import pytest

from tests import contracts
from tests.counterparts.lab import Lab
from tests.lab.conftest import Http, StandardApp

DRIVE = "https://www.googleapis.com/auth/drive.file"
CONTRACT = "google/oauth.json"


@pytest.fixture
def google(lab: Lab, http: Http) -> StandardApp:
    return StandardApp(lab, http, "google")


def tokeninfo(google: StandardApp, token: str) -> Any:
    url = google.urls["token_url"].replace("/token", "/tokeninfo")
    return google.http.form(url, {"access_token": token})


def sample(where: str, reason: str) -> dict[str, Any]:
    """A recorded refusal that has `reason` in its body."""
    samples = contracts.load("google/errors.json")["samples"]
    return next(s for s in samples if s["where"] == where and reason in str(s["body"]))


def test_the_discovery_document_has_what_googles_has(google: StandardApp, http: Http) -> None:
    document = http.get(google.lab.oidc["google"]["discovery_url"]).json

    assert set(contracts.load(CONTRACT)["metadata_sample"]) <= set(document)
    assert document["token_endpoint"] == google.urls["token_url"]


def test_a_callback_and_a_reply_hold_what_google_documents(google: StandardApp) -> None:
    documented = contracts.load(CONTRACT)
    callback = google.consent()

    reply = google.exchange(callback["code"]).json

    assert set(callback) == set(documented["authorize"]["callback_ok"]) - {"hd", "iss"}
    assert callback["scope"].split() == ["openid", "https://www.googleapis.com/auth/userinfo.email", DRIVE]
    assert set(reply) == set(documented["token"]["exchange"]["response"]) - {"refresh_token_expires_in"}
    assert reply["expires_in"] == documented["token"]["exchange"]["response"]["expires_in"]


def test_a_refresh_gives_no_refresh_token_and_the_old_one_works_on(google: StandardApp) -> None:
    token = google.connect()["refresh_token"]

    replies = [google.refresh(token).json for _ in range(2)]

    assert all(set(r) == set(contracts.load(CONTRACT)["token"]["refresh"]["response"]) for r in replies)


def test_a_refresh_token_comes_with_the_first_consent_or_where_consent_is_asked_for(google: StandardApp) -> None:
    first = google.connect()
    again = google.connect()
    asked = google.connect(prompt="consent")
    online = google.connect(prompt="consent", access_type="online")

    assert ["refresh_token" in reply for reply in (first, again, asked, online)] == [True, False, True, False]


def test_scopes_that_the_user_unticked_are_missing_from_callback_and_reply(lab: Lab, google: StandardApp) -> None:
    lab.configure("google", granted_scopes=["openid"])

    callback = google.consent()
    reply = google.exchange(callback["code"]).json

    assert (callback["scope"], reply["scope"]) == ("openid", "openid")


def test_granted_scopes_are_included_where_it_is_asked_for(google: StandardApp) -> None:
    google.connect()

    narrow = google.connect(scope="openid")
    wide = google.connect(scope="openid", include_granted_scopes="true")

    assert DRIVE not in narrow["scope"]
    assert DRIVE in wide["scope"]


def test_revoking_any_token_takes_all_that_the_account_granted(google: StandardApp) -> None:
    first, second = google.connect(), google.connect(prompt="consent")

    assert (google.revoke(second["refresh_token"]).status, google.revoke(second["refresh_token"]).status) == (200, 400)

    refused = google.refresh(first["refresh_token"])
    assert refused.json == sample("token", "expired or revoked")["body"]
    again = google.revoke(first["access_token"])
    assert again.json == contracts.load(CONTRACT)["revoke"]["error"]["body"]


def test_a_consent_screen_in_testing_lets_the_grant_end_after_seven_days(lab: Lab, google: StandardApp) -> None:
    lab.configure("google", testing=True)
    reply = google.connect()
    token = reply["refresh_token"]

    lab.control("/clock", {"advance_s": 3 * 24 * 3600})
    told = google.refresh(token).json["refresh_token_expires_in"]
    lab.control("/clock", {"advance_s": 4 * 24 * 3600})

    assert reply["refresh_token_expires_in"] in (604_798, 604_799)
    assert told < 604_799 - 3 * 24 * 3600 + 10
    assert google.refresh(token).json["error"] == "invalid_grant"


def test_six_months_of_idling_end_a_grant_and_use_keeps_it(lab: Lab, google: StandardApp) -> None:
    token = google.connect()["refresh_token"]
    for _ in range(3):
        lab.control("/clock", {"advance_s": 100 * 24 * 3600})
        assert google.refresh(token).status == 200

    lab.control("/clock", {"advance_s": 181 * 24 * 3600})

    assert google.refresh(token).json["error"] == "invalid_grant"


def test_the_workspace_may_want_another_sign_in(lab: Lab, google: StandardApp) -> None:
    token = google.connect()["refresh_token"]
    lab.configure("google", session_control=True)

    refused = google.refresh(token)

    assert (refused.status, refused.json) == (400, sample("token", "invalid_rapt")["body"])


def test_of_too_many_refresh_tokens_the_oldest_dies_without_a_word(lab: Lab, google: StandardApp) -> None:
    lab.configure("google", most_refresh_tokens=2)

    tokens = [google.connect(prompt="consent")["refresh_token"] for _ in range(3)]

    assert [google.refresh(token).status for token in tokens] == [400, 200, 200]


def test_a_wrong_redirect_uri_at_the_exchange_has_a_name_of_its_own(google: StandardApp) -> None:
    refused = google.exchange(google.consent()["code"], redirect_uri="https://evil.example/")

    assert refused.json["error"] == "redirect_uri_mismatch"


@pytest.mark.parametrize("changes", [{"scope": "openid Everything"}, {"scope": None}, {"response_type": "token"}])
def test_a_wrong_request_ends_on_a_page(google: StandardApp, changes: dict[str, str | None]) -> None:
    with pytest.raises(ValueError, match="HTTP 400"):
        google.consent(**changes)


def test_tokeninfo_says_whose_a_token_is_and_everything_is_text(google: StandardApp) -> None:
    reply = google.connect()

    told = tokeninfo(google, reply["access_token"])

    documented = contracts.load(CONTRACT)["test"]["token"]
    assert set(told.json) == set(documented["response"])
    assert all(isinstance(value, str) for value in told.json.values())
    assert told.json["aud"] == google.client["client_id"]
    refused = tokeninfo(google, "any")
    assert (refused.status, refused.json) == (documented["error"]["status"], documented["error"]["body"])


def test_userinfo_shows_what_the_scopes_allow(google: StandardApp) -> None:
    url = google.urls["userinfo_url"]
    wide = google.connect(scope="openid email profile")
    narrow = google.connect(scope=DRIVE)

    told = google.http.get(url, token=wide["access_token"]).json

    assert set(contracts.load(CONTRACT)["test"]["userinfo"]["response"]) <= set(told)
    assert google.http.get(url, token=narrow["access_token"]).status == 403


def test_drives_about_wants_fields_and_a_drive_scope(google: StandardApp) -> None:
    about = google.urls["base_url"] + "drive/v3/about"
    fields = "?fields=user(emailAddress,permissionId)"
    with_drive, without = google.connect(), google.connect(scope="openid")

    told = google.http.get(about + fields, token=with_drive["access_token"])
    bare = google.http.get(about, token=with_drive["access_token"])
    denied = google.http.get(about + fields, token=without["access_token"])
    dead = google.http.get(about + fields, token="dead")

    assert set(told.json["user"]) == {"emailAddress", "permissionId"}
    assert bare.status == 400
    for answer, reason in ((denied, "insufficientPermissions"), (dead, "authError")):
        known = sample("api", reason)
        assert answer.status == known["status"]
        assert answer.json["error"]["status"] == known["body"]["error"]["status"]
        assert answer.json["error"]["errors"][0]["reason"] == reason
        assert set(known["body"]["error"]) == set(answer.json["error"])
    assert dead.headers["WWW-Authenticate"].startswith("Bearer realm=")
