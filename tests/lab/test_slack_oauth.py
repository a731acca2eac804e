"""Slack's OAuth2 rules, and its replies against its own specification."""

from __future__ import annotations

from typing import Any

import pytest

from tests import contracts
from tests.counterparts.lab import Lab
from tests.lab.conftest import REDIRECT, Http, SlackApp, answer_of

KNOWN_ERRORS = "slack/web_api.trimmed.json"


def known_errors(method: str) -> set[str]:
    """Every error that Slack documents for a method, or that our own table of its errors has."""
    spec = contracts.load(KNOWN_ERRORS)
    return {
        *spec["methods"][method]["errors"],
        *spec["common_errors"],
        *contracts.load("slack/errors.json")["by_error"],
    }


def names_of(value: Any) -> Any:
    """The names in a reply, nested as they are."""
    return {name: names_of(inner) for name, inner in value.items()} if isinstance(value, dict) else None


def test_the_bot_and_the_user_get_rotating_pairs_in_the_documented_shape(slack: SlackApp) -> None:
    reply = slack.install(user_scope="chat:write")

    assert reply["access_token"].startswith("xoxe.xoxb-1-")
    assert reply["refresh_token"].startswith("xoxe-1-")
    assert reply["authed_user"]["access_token"].startswith("xoxe.xoxp-1-")
    assert (reply["scope"], reply["token_type"], reply["expires_in"]) == ("chat:write,files:write", "bot", 43_200)
    oauth = contracts.load("slack/oauth.json")["token"]["exchange"]
    assert names_of(oauth["response_rotation"] | oauth["response_with_user_scope"]) == names_of(reply)


def test_without_rotation_the_reply_has_the_documented_shape_and_no_end(lab: Lab, slack: SlackApp) -> None:
    lab.configure("slack", rotation=False)

    reply = slack.install()

    assert reply["access_token"].startswith("xoxb-")
    documented = contracts.load("slack/oauth.json")["token"]["exchange"]["response_no_rotation"]
    assert names_of(documented) == names_of(reply)


def test_a_refresh_has_the_documented_shape(slack: SlackApp) -> None:
    reply = slack.refresh(slack.install()["refresh_token"])

    documented = contracts.load("slack/oauth.json")["token"]["refresh"]["response"]
    assert (
        set(documented)
        <= set(reply)
        <= set(contracts.load(KNOWN_ERRORS)["methods"]["oauth.v2.access"]["response_shape"])
    )


def test_with_user_scopes_alone_there_is_no_bot_token(slack: SlackApp) -> None:
    reply = slack.install(scope=None, user_scope="chat:write")

    assert "access_token" not in reply
    assert reply["authed_user"]["token_type"] == "user"


def test_two_links_to_a_workspace_hold_the_same_token_without_rotation(lab: Lab, slack: SlackApp) -> None:
    lab.configure("slack", rotation=False)
    first = slack.install(scope="chat:write")["access_token"]

    second = slack.install(scope="files:write")

    assert second["access_token"] == first
    assert second["scope"] == "chat:write,files:write"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"code": "made-up", "redirect_uri": REDIRECT}, "invalid_code"),
        ({"grant_type": "password"}, "invalid_grant_type"),
        ({"grant_type": "refresh_token", "refresh_token": "xoxe-1-made-up"}, "invalid_refresh_token"),
        ({"code": "any", "code_verifier": "v" * 43}, "pkce_not_allowed"),
    ],
)
def test_a_wrong_token_request_is_refused_with_status_200(slack: SlackApp, fields: dict[str, str], error: str) -> None:
    assert slack.access(fields) == {"ok": False, "error": error}
    assert error in known_errors("oauth.v2.access")


@pytest.mark.parametrize(
    ("client_id", "client_secret", "error"),
    [("1.2", None, "invalid_client_id"), (None, "wrong", "bad_client_secret")],
)
def test_a_wrong_client_is_refused_in_basic_and_in_the_body(
    slack: SlackApp, http: Http, client_id: str | None, client_secret: str | None, error: str
) -> None:
    given = {
        "client_id": client_id or slack.client["client_id"],
        "client_secret": client_secret or slack.client["client_secret"],
    }

    by_body = http.form(slack.urls["token_url"], {"code": "any", **given})
    by_basic = http.form(slack.urls["token_url"], {"code": "any"}, basic=(given["client_id"], given["client_secret"]))

    assert [answer.json["error"] for answer in (by_body, by_basic)] == [error, error]
    assert [answer.status for answer in (by_body, by_basic)] == [200, 200]


def test_a_code_is_honoured_once_and_for_ten_minutes(lab: Lab, slack: SlackApp) -> None:
    once, late = slack.code(), slack.code()

    assert slack.exchange(once)["ok"]
    assert slack.exchange(once)["error"] == "invalid_code"
    lab.control("/clock", {"advance_s": 600})
    assert slack.exchange(late)["error"] == "invalid_code"


def test_the_exchange_must_name_the_redirect_uri_of_the_authorization(slack: SlackApp) -> None:
    reply = slack.access({"code": slack.code(), "redirect_uri": f"{REDIRECT}/else"})

    assert reply["error"] == "bad_redirect_uri"


def test_a_spent_refresh_token_works_within_the_grace_and_not_after(lab: Lab, slack: SlackApp) -> None:
    token = slack.install()["refresh_token"]
    assert slack.refresh(token)["ok"]

    assert slack.refresh(token)["ok"]
    lab.control("/clock", {"advance_s": 5})
    assert slack.refresh(token)["error"] == "invalid_refresh_token"


def test_without_grace_the_second_use_is_refused_and_the_winner_lives_on(lab: Lab, slack: SlackApp) -> None:
    lab.configure("slack", grace_s=0)
    token = slack.install()["refresh_token"]
    fresh = slack.refresh(token)

    assert slack.refresh(token)["error"] == "invalid_refresh_token"
    assert slack.call("auth.test", token=fresh["access_token"])["ok"]


def test_with_family_the_second_use_kills_the_whole_grant(lab: Lab, slack: SlackApp) -> None:
    lab.configure("slack", grace_s=0, family=True)
    token = slack.install()["refresh_token"]
    fresh = slack.refresh(token)

    slack.refresh(token)

    assert slack.call("auth.test", token=fresh["access_token"])["error"] == "token_revoked"
    assert slack.refresh(fresh["refresh_token"])["error"] == "invalid_refresh_token"


def test_a_refresh_reply_may_leave_the_token_out_or_empty_and_the_old_one_goes_on(lab: Lab, slack: SlackApp) -> None:
    lab.configure("slack", grace_s=0, refresh_reply="omit")
    token = slack.install()["refresh_token"]

    omitted = slack.refresh(token)
    lab.configure("slack", refresh_reply="empty")
    empty = slack.refresh(token)

    assert "refresh_token" not in omitted
    assert empty["refresh_token"] == ""
    assert slack.refresh(token)["ok"]


def test_at_most_two_access_tokens_of_an_installation_live(slack: SlackApp) -> None:
    first, second, third = (slack.install() for _ in range(3))

    answers = [slack.call("auth.test", token=reply["access_token"]) for reply in (first, second, third)]

    assert [answer["ok"] for answer in answers] == [False, True, True]
    assert answers[0]["error"] == "token_revoked"


def test_an_access_token_ends(lab: Lab, slack: SlackApp) -> None:
    token = slack.install()["access_token"]
    lab.control("/clock", {"advance_s": 43_199})
    assert slack.call("auth.test", token=token)["expires_in"] == 0

    lab.control("/clock", {"advance_s": 1})

    assert slack.call("auth.test", token=token) == {"ok": False, "error": "token_expired"}


def test_consent_is_asked_for_and_may_be_given_or_refused(lab: Lab, slack: SlackApp) -> None:
    lab.configure("slack", auto_approve=False)
    with pytest.raises(ValueError, match=r"(?s)HTTP 200.*chat:write.*Approve"):
        lab.visit(slack.authorize_url())

    refused = answer_of(lab.visit(slack.authorize_url(), decision="deny"))
    given = answer_of(lab.visit(slack.authorize_url(), decision="approve"))

    assert refused == {"error": "access_denied", "state": "s"}
    assert given["state"] == "s"
    assert slack.exchange(given["code"])["ok"]


def test_a_user_who_denies_sends_back_access_denied(lab: Lab, slack: SlackApp) -> None:
    lab.configure("slack", deny=True)

    assert answer_of(lab.visit(slack.authorize_url())) == {"error": "access_denied", "state": "s"}


@pytest.mark.parametrize(
    ("changes", "page"),
    [
        ({"client_id": "1.2"}, "Invalid client_id"),
        ({"redirect_uri": "http://evil.example/"}, "redirect_uri did not match"),
        ({"redirect_uri": "https://evil.example/#x"}, "redirect_uri did not match"),
        ({"scope": "chat:write,root"}, "Invalid permissions requested: root"),
        ({"scope": ""}, "No scopes requested"),
    ],
)
def test_a_wrong_authorize_request_ends_on_a_page_and_never_redirects(
    lab: Lab, slack: SlackApp, changes: dict[str, str], page: str
) -> None:
    with pytest.raises(ValueError, match=f"(?s)HTTP 400.*{page}"):
        lab.visit(slack.authorize_url(**changes))


@pytest.mark.parametrize(
    ("uri", "fits"),
    [
        ("https://app.example/auth", True),
        ("https://app.example/auth/callback", True),
        ("https://app.example/authority", False),
        ("https://app.example/", False),
    ],
)
def test_a_registered_redirect_uri_covers_what_lies_below_it(lab: Lab, slack: SlackApp, uri: str, fits: bool) -> None:
    lab.configure("slack", redirect_uris=["https://app.example/auth"])

    if fits:
        assert lab.visit(slack.authorize_url(redirect_uri=uri)).startswith(uri)
    else:
        with pytest.raises(ValueError, match="redirect_uri did not match"):
            lab.visit(slack.authorize_url(redirect_uri=uri))


def test_a_vendor_may_grant_less_than_was_asked(lab: Lab, slack: SlackApp) -> None:
    lab.configure("slack", granted_scopes=["chat:write"])

    assert slack.install()["scope"] == "chat:write"


def test_auth_test_names_the_granted_scopes_in_a_header(slack: SlackApp, http: Http) -> None:
    token = slack.install()["access_token"]

    answer = http.post(f"{slack.urls['base_url']}auth.test", {}, token=token)

    assert answer.headers["X-OAuth-Scopes"] == "chat:write,files:write"
    assert set(contracts.load("slack/oauth.json")["test"]["response"]) == set(answer.json)


def test_auth_test_refuses_dead_and_missing_tokens(slack: SlackApp, http: Http) -> None:
    refresh = slack.install()["refresh_token"]

    assert http.post(f"{slack.urls['base_url']}auth.test", {}).json == {"ok": False, "error": "not_authed"}
    assert slack.call("auth.test", token="xoxb-made-up")["error"] == "invalid_auth"
    assert slack.call("auth.test", token=refresh)["error"] == "not_allowed_token_type"


def test_with_rotation_revoking_takes_only_the_presented_token(slack: SlackApp, http: Http, lab: Lab) -> None:
    reply = slack.install()
    revoke = slack.urls["revoke_url"]
    assert http.send("GET", f"{revoke}?test=1", token=reply["access_token"]).json == {"ok": True, "revoked": False}

    answer = http.form(revoke, {"token": reply["access_token"]})

    assert answer.json == contracts.load("slack/oauth.json")["revoke"]["response"]
    assert slack.call("auth.test", token=reply["access_token"])["error"] == "token_revoked"
    assert slack.refresh(reply["refresh_token"])["ok"]
    assert slack.call("auth.revoke", token=reply["refresh_token"])["revoked"]
    assert slack.refresh(reply["refresh_token"])["error"] == "invalid_refresh_token"
    assert lab.effects("slack")["operations"] == {"auth.revoke": 2}


def test_without_rotation_revoking_kills_every_link_to_the_workspace(lab: Lab, slack: SlackApp) -> None:
    lab.configure("slack", rotation=False)
    first, second = slack.install()["access_token"], slack.install()["access_token"]

    slack.call("auth.revoke", token=first)

    assert slack.call("auth.test", token=second)["error"] == "token_revoked"
    assert slack.install()["access_token"] != first


def test_uninstalling_kills_all_tokens_of_the_workspace_and_no_other(slack: SlackApp, http: Http) -> None:
    ours, other = slack.install(user_scope="chat:write"), slack.install(team="T0OTHER001")
    fields = dict(slack.client) | {"token": ours["access_token"]}

    assert http.form(f"{slack.urls['base_url']}apps.uninstall", fields).json == {"ok": True}

    assert slack.refresh(ours["refresh_token"])["error"] == "invalid_refresh_token"
    assert slack.call("auth.test", token=ours["authed_user"]["access_token"])["error"] == "token_revoked"
    assert slack.call("auth.test", token=other["access_token"])["team_id"] == "T0OTHER001"


def test_a_stock_slack_client_finds_its_way(lab: Lab, slack: SlackApp) -> None:
    import ssl

    from slack_sdk import WebClient

    client = WebClient(base_url=slack.urls["base_url"], ssl=ssl.create_default_context(cafile=lab.ca_file))
    client.proxy = None

    reply = client.oauth_v2_access(**slack.client, code=slack.code(), redirect_uri=REDIRECT)
    tested = client.auth_test(token=reply["access_token"])
    posted = client.chat_postMessage(token=reply["access_token"], channel="#notifications", text="Hello")

    assert tested["user_id"] == reply["bot_user_id"]
    assert posted["message"]["text"] == "Hello"
