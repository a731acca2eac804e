"""The control API: what it tells, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.counterparts.lab import Lab
from tests.lab.conftest import Http, MicrosoftApp, SlackApp


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/nowhere", None, "There is no GET /nowhere"),
        ("/faults", {"service": "slack", "kind": "earthquake"}, "kind must be"),
        ("/faults", {"service": "slack", "kind": "html", "speed": 1}, "Fault has no speed"),
        ("/faults", {"service": "slack"}, "kind"),
        ("/faults", {"service": "nowhere", "kind": "html"}, "service must be one of"),
        ("/settings", {"service": "slack", "rotation": "yes"}, "rotation must be"),
        ("/settings", {"service": "slack", "expires_in": True}, "expires_in must be"),
        ("/settings", {"service": "slack", "channels": [{"colour": "red"}]}, "Channel has no colour"),
        ("/settings", {"service": "microsoft", "refresh_reply": "perhaps"}, "refresh_reply must be"),
        ("/settings", {"rotation": True}, "service must be one of"),
        ("/grants", {"service": "web"}, "service must be one of slack, microsoft"),
        ("/clock", {"advance_s": -1}, "advance_s must be"),
        ("/buckets", {}, "name must be"),
        ("/faults", [], "must be a JSON object"),
    ],
)
def test_a_wrong_call_is_refused_in_words(lab: Lab, path: str, body: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lab.control(path, body)


def test_a_minted_grant_is_as_good_as_one_from_the_dance(lab: Lab, slack: SlackApp, microsoft: MicrosoftApp) -> None:
    of_slack = lab.grant("slack", scopes=["chat:write"], expires_in=60)
    of_microsoft = lab.grant("microsoft", account="a@b.example")

    assert slack.call("auth.test", token=of_slack["access_token"])["expires_in"] in (59, 60)
    assert slack.refresh(of_slack["refresh_token"])["ok"]
    assert microsoft.refresh(of_microsoft["refresh_token"]).status == 200
    assert of_microsoft["provider_user_email"] == "a@b.example"
    assert of_slack.keys() == of_microsoft.keys()


def test_expire_and_revoke_strike_at_once(lab: Lab, slack: SlackApp) -> None:
    grant = lab.grant("slack")

    assert lab.control("/expire", {"service": "slack"}) == {"tokens": 1}
    assert slack.call("auth.test", token=grant["access_token"])["error"] == "token_expired"
    fresh = slack.refresh(grant["refresh_token"])
    assert lab.control("/revoke", {"service": "slack"}) == {"grants": 1}
    assert slack.call("auth.test", token=fresh["access_token"])["error"] == "token_revoked"


def test_expired_refresh_tokens_are_microsofts_alone(lab: Lab, microsoft: MicrosoftApp) -> None:
    lab.grant("slack")
    token = lab.grant("microsoft")["refresh_token"]

    assert lab.control("/expire", {"service": "slack", "refresh": True}) == {"tokens": 0}
    assert lab.control("/expire", {"service": "microsoft", "refresh": True}) == {"tokens": 1}
    assert microsoft.refresh(token).json["error_codes"] == [700082]


def test_every_secret_that_was_given_out_is_known(lab: Lab, slack: SlackApp, microsoft: MicrosoftApp) -> None:
    of_slack, of_microsoft = slack.install(user_scope="chat:write"), microsoft.sign_in()

    known = set(lab.secrets())

    given = {
        of_slack["access_token"],
        of_slack["refresh_token"],
        of_slack["authed_user"]["refresh_token"],
        of_microsoft["access_token"],
        of_microsoft["refresh_token"],
        lab.oauth2["slack"]["client_secret"],
        lab.oauth2["microsoft"]["client_secret"],
        lab.services["s3"]["secret_access_key"],
        lab.services["web"]["api_key"],
    }
    assert given <= known


def test_grants_are_described_without_their_tokens(lab: Lab, slack: SlackApp) -> None:
    slack.install()

    described = lab.control("/grants")["slack"]

    assert described[0] | {"access": 1, "refresh": 1, "revoked": False} == described[0]
    assert not any(secret in str(described) for secret in lab.secrets())


def test_requests_are_told_with_their_secrets_masked(lab: Lab, slack: SlackApp, http: Http) -> None:
    token = slack.install()["access_token"]

    for _ in range(3):
        http.get(f"{slack.urls['base_url']}auth.test", token=token)

    told = lab.requests("slack", "auth.test")
    assert (told["count"], told["operations"]) == (3, {"auth.test": 3})
    assert told["items"][0]["headers"]["authorization"] == "Bearer ***"
    assert told["items"][0]["status"] == 200
    assert len({item["connection"] for item in told["items"]}) == 1
    assert token not in str(told)


def test_effects_of_all_vendors_come_in_one_answer_without_items_if_wanted(lab: Lab, http: Http) -> None:
    http.post(f"{lab.services['web']['base_url']}/charges", {})

    effects = lab.control("/effects?items=0")

    assert {name: told["count"] for name, told in effects.items()} == {
        "web": 1,
        **dict.fromkeys(lab.oauth2, 0),
        "s3": 0,
    }
    assert "items" not in effects["web"]


def test_reset_brings_back_the_start_but_keeps_the_clients(lab: Lab, slack: SlackApp) -> None:
    token = slack.install()["access_token"]
    lab.configure("slack", rotation=False, deny=True)
    lab.fault("slack", "html", times=None)
    lab.control("/clock", {"advance_s": 100})
    client = dict(lab.oauth2["slack"])

    lab.reset()

    assert lab.control("/settings")["slack"]["rotation"] is True
    assert lab.control("/description")["oauth2"]["slack"] == client
    assert slack.call("auth.test", token=token)["error"] == "invalid_auth"
    assert slack.install()["ok"]
    assert lab.control("/health")["status"] == "ok"
