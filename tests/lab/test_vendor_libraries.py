"""What the vendors' own libraries read of the laboratory: google-auth with Google's API client, msal, slack_sdk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests import contracts
from tests.counterparts.lab import Lab
from tests.lab.conftest import ASKED, REDIRECT, Http, SlackApp, StandardApp, answer_of

DRIVE = "https://www.googleapis.com/auth/drive.file"


@pytest.fixture(autouse=True)
def no_ambient_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


# ---- google-auth


@pytest.fixture
def google(lab: Lab, http: Http) -> StandardApp:
    return StandardApp(lab, http, "google")


@pytest.fixture
def transport(lab: Lab) -> Iterator[Any]:
    """A google-auth transport that trusts the laboratory."""
    import requests
    from google.auth.transport.requests import Request

    with requests.Session() as session:
        session.verify, session.trust_env = lab.ca_file, False
        yield Request(session=session)


def credentials_of(google: StandardApp, reply: dict[str, Any]) -> Any:
    """google-auth's credentials, whose access token is to be refreshed."""
    from google.oauth2.credentials import Credentials

    client = google.client
    return Credentials(
        token=None,
        refresh_token=reply["refresh_token"],
        id_token=reply["id_token"],
        token_uri=google.urls["token_url"],
        client_id=client["client_id"],
        client_secret=client["client_secret"],
        scopes=reply["scope"].split(),
    )


def test_google_auth_refreshes_and_keeps_the_refresh_token(google: StandardApp, transport: Any) -> None:
    reply = google.connect()
    credentials = credentials_of(google, reply)

    credentials.refresh(transport)

    assert credentials.valid
    assert credentials.token != reply["access_token"]
    assert credentials.refresh_token == reply["refresh_token"]
    assert set(credentials.granted_scopes) == {*reply["scope"].split()}
    assert google.grant()["refreshes"] == 1


def test_google_auth_takes_up_a_rotated_refresh_token(lab: Lab, google: StandardApp, transport: Any) -> None:
    lab.configure("google", replay="strict")
    credentials = credentials_of(google, google.connect())
    first = credentials.refresh_token

    for _ in range(2):
        credentials.refresh(transport)

    assert credentials.refresh_token != first
    assert google.grant() | {"refreshes": 2, "reuses": 0} == google.grant()


def test_google_auth_verifies_an_id_token_with_the_published_keys(
    lab: Lab, google: StandardApp, transport: Any
) -> None:
    import jwt
    from google.oauth2 import id_token

    token, url = google.connect()["id_token"], lab.oidc["google"]["jwks_url"]
    claims = id_token.verify_token(token, transport, audience=google.client["client_id"], certs_url=url)
    lab.configure("google", id_tokens="forged_kid")
    forged = google.connect()["id_token"]

    assert claims["iss"] == lab.oidc["google"]["issuer"]
    with pytest.raises(jwt.InvalidSignatureError):
        id_token.verify_token(forged, transport, audience=google.client["client_id"], certs_url=url)
    with pytest.raises(jwt.InvalidAudienceError):
        id_token.verify_token(token, transport, audience="another", certs_url=url)


# what happens -> the switches that make it so, what google-auth says, and whether it would try again
REFUSALS: dict[str, tuple[dict[str, Any], str, bool]] = {
    "the grant is gone": ({}, "invalid_grant: Token has been expired or revoked.", False),
    "the workspace wants a sign-in": ({"session_control": True}, "Reauthentication is needed", False),
    "the secret ran out": ({"app": "secret_expired"}, "invalid_client", False),
    "the application was deleted": ({"app": "disabled"}, "deleted_client", False),
}


@pytest.mark.parametrize("what", list(REFUSALS))
def test_google_auth_reads_refusals(lab: Lab, google: StandardApp, transport: Any, what: str) -> None:
    from google.auth import exceptions

    switches, message, retryable = REFUSALS[what]
    credentials = credentials_of(google, google.connect())
    lab.configure("google", **switches)
    if not switches:
        lab.control("/revoke", {"service": "google"})

    with pytest.raises(exceptions.RefreshError, match=message) as raised:
        credentials.refresh(transport)

    assert raised.value.retryable is retryable


def test_google_auth_would_try_an_outage_again(
    lab: Lab, google: StandardApp, transport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.auth import exceptions

    monkeypatch.setattr("time.sleep", lambda _: None)  # it waits three seconds between its attempts

    credentials = credentials_of(google, google.connect())
    lab.fault("google", "error", "token", error="internal_failure", times=None)

    with pytest.raises(exceptions.RefreshError) as raised:
        credentials.refresh(transport)

    assert raised.value.retryable
    assert google.grant()["most_presented"] == 0


def test_googles_client_reads_drives_about_and_its_errors(lab: Lab, google: StandardApp) -> None:
    import httplib2
    from google_auth_httplib2 import AuthorizedHttp
    from googleapiclient.discovery import build_from_document
    from googleapiclient.errors import HttpError

    document = {**contracts.load("google/drive.v3.trimmed.json"), "rootUrl": google.urls["base_url"]}
    document.pop("mtlsRootUrl", None)
    credentials = credentials_of(google, google.connect())
    plain = httplib2.Http(ca_certs=lab.ca_file, timeout=10)
    drive = build_from_document(json.dumps(document), http=AuthorizedHttp(credentials, http=plain))
    try:
        about = drive.about().get(fields="user(emailAddress)").execute()
        lab.fault("google", "error", "about", error="userRateLimitExceeded")
        with pytest.raises(HttpError) as raised:
            drive.about().get(fields="user").execute()
    finally:
        drive.close()
        plain.close()

    assert about == {"user": {"emailAddress": "user@company.com"}}
    assert (raised.value.status_code, raised.value.error_details[0]["reason"]) == (403, "userRateLimitExceeded")
    assert google.grant()["refreshes"] == 1


# ---- msal


@pytest.fixture
def msal_app(lab: Lab) -> Iterator[Any]:
    import msal

    client = lab.oauth2["microsoft"]
    app = msal.ConfidentialClientApplication(
        client["client_id"],
        client_credential=client["client_secret"],
        authority=f"{lab.services['microsoft']['authority']}/common",
        instance_discovery=False,
        verify=lab.ca_file,
    )
    yield app
    app.http_client.close()


def test_msal_reads_a_sign_in_its_id_token_and_a_refresh(lab: Lab, msal_app: Any) -> None:
    with pytest.warns(UserWarning, match="form_post"):  # a callback by POST needs a cookie of SameSite=None
        flow = msal_app.initiate_auth_code_flow(["User.Read"], redirect_uri=REDIRECT)

    reply = msal_app.acquire_token_by_auth_code_flow(flow, answer_of(lab.visit(flow["auth_uri"])))
    renewed = msal_app.acquire_token_by_refresh_token(reply["refresh_token"], scopes=["User.Read"])

    assert reply["id_token_claims"]["aud"] == lab.oauth2["microsoft"]["client_id"]
    assert renewed["access_token"] != reply["access_token"]
    (grant,) = lab.control("/grants")["microsoft"]
    assert (grant["exchanges"], grant["refreshes"]) == (1, 1)


@pytest.mark.parametrize(
    ("switches", "error", "number"),
    [
        ({"app": "secret_expired"}, "invalid_client", 7000222),
        ({"app": "disabled"}, "unauthorized_client", 7000112),
        ({"replay": "family"}, "invalid_grant", 70000),
    ],
)
def test_msal_reads_refusals(lab: Lab, msal_app: Any, switches: dict[str, Any], error: str, number: int) -> None:
    token = lab.grant("microsoft", scopes=["User.Read"])["refresh_token"]
    lab.configure("microsoft", **switches)
    if "replay" in switches:  # spend it first
        msal_app.acquire_token_by_refresh_token(token, scopes=["User.Read"])
        lab.control("/clock", {"advance_s": 61})

    reply = msal_app.acquire_token_by_refresh_token(token, scopes=["User.Read"])

    assert reply["error"] == error
    assert number in reply["error_codes"]


def test_msal_reads_any_openid_provider_of_ours(lab: Lab, http: Http) -> None:
    """Bexio's realm, discovered: the library's own way to check `iss`, `aud` and `nonce`."""
    import msal

    client = lab.oauth2["bexio"]
    app = msal.ConfidentialClientApplication(
        client["client_id"],
        client_credential=client["client_secret"],
        oidc_authority=lab.oidc["bexio"]["issuer"],
        verify=lab.ca_file,
    )
    try:
        with pytest.warns(UserWarning, match="form_post"):
            flow = app.initiate_auth_code_flow(["contact_show"], redirect_uri=REDIRECT)
        reply = app.acquire_token_by_auth_code_flow(flow, answer_of(lab.visit(flow["auth_uri"])))
        renewed = app.acquire_token_by_refresh_token(reply["refresh_token"], scopes=["contact_show"])
    finally:
        app.http_client.close()

    assert reply["id_token_claims"]["company_id"] == "4711"
    assert "access_token" in renewed


# ---- slack_sdk


def web_client(lab: Lab, token: str | None = None) -> Any:
    import ssl

    from slack_sdk import WebClient

    context = ssl.create_default_context(cafile=lab.ca_file)
    return WebClient(token, base_url=lab.services["slack"]["base_url"], ssl=context)


def test_slack_sdk_reads_an_installation_its_test_and_a_rotation(lab: Lab, slack: SlackApp) -> None:
    client, app = web_client(lab), slack.client
    installed = client.oauth_v2_access(**app, code=slack.code(), redirect_uri=REDIRECT)

    tested = web_client(lab, installed["access_token"]).auth_test()
    renewed = client.oauth_v2_access(**app, grant_type="refresh_token", refresh_token=installed["refresh_token"])

    assert (tested["team_id"], tested.headers["X-OAuth-Scopes"]) == ("T0LAB00001", "chat:write,files:write")
    assert renewed["access_token"] not in (installed["access_token"], None)


def test_slack_sdks_token_rotator_renews_an_installation(lab: Lab, slack: SlackApp) -> None:
    import time

    from slack_sdk.oauth.installation_store import Installation
    from slack_sdk.oauth.token_rotation import TokenRotator

    reply = slack.install()
    installation = Installation(
        user_id=reply["authed_user"]["id"],
        team_id=reply["team"]["id"],
        bot_token=reply["access_token"],
        bot_refresh_token=reply["refresh_token"],
        bot_token_expires_at=int(time.time()) + 60,
    )
    rotator = TokenRotator(**slack.client, client=web_client(lab))

    renewed = rotator.perform_token_rotation(installation=installation)

    assert renewed is not None
    assert renewed.bot_refresh_token not in (reply["refresh_token"], None)
    assert slack.call("auth.test", token=str(renewed.bot_token))["ok"]


@pytest.mark.parametrize(
    ("switches", "error"),
    [
        ({"app": "secret_expired"}, "bad_client_secret"),
        ({"app": "disabled"}, "invalid_client_id"),
        ({"replay": "family"}, "invalid_refresh_token"),
    ],
)
def test_slack_sdk_reads_refusals(lab: Lab, slack: SlackApp, switches: dict[str, Any], error: str) -> None:
    from slack_sdk.errors import SlackApiError

    token = slack.install()["refresh_token"]
    lab.configure("slack", **switches)
    if "replay" in switches:
        slack.refresh(token)

    with pytest.raises(SlackApiError) as raised:
        web_client(lab).oauth_v2_access(**slack.client, grant_type="refresh_token", refresh_token=token)

    assert raised.value.response["error"] == error


# ---- requests-oauthlib, for all that follow the standard


@pytest.mark.parametrize("service", list(ASKED))
def test_requests_oauthlib_exchanges_and_refreshes_at_all_four(lab: Lab, http: Http, service: str) -> None:
    from requests.auth import HTTPBasicAuth
    from requests_oauthlib import OAuth2Session

    app = StandardApp(lab, http, service)
    client_id, secret = app.client["client_id"], app.client["client_secret"]
    by_basic: dict[str, Any] = {"auth": HTTPBasicAuth(client_id, secret)}
    by_form: dict[str, Any] = {"client_secret": secret, "include_client_id": True}
    shown = by_basic if service == "quickbooks" else by_form
    verifier = {"code_verifier": "v" * 64} if service in ("google", "bexio") else {}
    with OAuth2Session(client_id, redirect_uri=REDIRECT) as session:
        session.verify, session.trust_env = lab.ca_file, False

        token = session.fetch_token(app.urls["token_url"], code=app.consent()["code"], **shown, **verifier)
        extra = by_basic if service == "quickbooks" else {"client_id": client_id, "client_secret": secret}
        renewed = session.refresh_token(app.urls["token_url"], refresh_token=token["refresh_token"], **extra)

    assert renewed["access_token"] != token["access_token"]
    assert app.probe(renewed["access_token"]).status == 200
