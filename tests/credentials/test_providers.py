"""Providers as data: one table over all of them, against the vendors' own specifications."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from credentials.providers import catalogue
from credentials.providers.catalogue import BUILT_IN, Providers
from credentials.providers.places import filled_from
from credentials.providers.provider import STANDARD_ERRORS, Provider
from credentials.providers.settings import OAuthApp, ServiceSettings
from credentials.token_errors import callback_error, refusal, retry_after
from credentials.token_reply import Reply, tokens_of_exchange, tokens_of_refresh
from flow8_core import errors
from tests import contracts

NOW = datetime(2026, 4, 4, 10, 0, tzinfo=UTC)
APP = {"client_id": "id-1", "client_secret": "secret-of-the-tests"}
ACME = APP | {
    "authorize_url": "https://id.acme.example/authorize",
    "token_url": "https://id.acme.example/token",
    "api_hosts": ["api.acme.example"],
}
CLASSES = {
    cls.code: cls
    for cls in (
        errors.InvalidGrant,
        errors.TokenRevoked,
        errors.InsufficientScope,
        errors.AccessDenied,
        errors.RateLimited,
        errors.ProviderMisconfigured,
        errors.ProviderUnavailable,
    )
}


def app(**more: Any) -> OAuthApp:
    return OAuthApp.model_validate(APP | more)


def provider(service: str, **settings: str) -> Provider:
    apps = {**{name: app() for name in BUILT_IN}, "acme": OAuthApp.model_validate(ACME)}
    services = {service: ServiceSettings.model_validate(settings)} if settings else {}
    return Providers(apps, services).get(service)


EVERY = [*BUILT_IN, "acme"]


@pytest.mark.parametrize("service", EVERY)
def test_every_provider_is_whole(service: str) -> None:
    found = provider(service)

    assert found.service == service
    assert found.title
    # what an issuer discovers is not declared
    assert (found.authorize_url and found.token_url) or found.issuer
    urls = [found.authorize_url, found.token_url, found.base_url, found.userinfo_url]
    urls += [found.revocation and found.revocation.url, found.id_token and found.id_token.jwks_url]
    for url in filter(None, urls):
        told = filled_from(url, dict.fromkeys(found.identity.metadata, "1"))
        assert told is not None, url
        assert re.fullmatch(r"https://[a-z0-9.-]+/[^{}]*", told), url
    assert found.api_hosts.covers(found.base_url)
    assert found.base_url.endswith("/")
    assert found.identity.user_id
    assert found.replay in ("reusable", "grace", "single_use")
    assert (found.grace_s > 0) == (found.replay == "grace")
    assert found.lifetime_s is None or found.lifetime_s >= 60
    assert all(verdict in CLASSES for table in found.errors for verdict in table.verdicts.values())
    assert found.errors[-1].field == "error"
    assert found.registered().client_id == "id-1"
    assert "secret-of-the-tests" not in repr(found)


def test_the_table_of_built_in_providers_is_what_the_folder_holds() -> None:
    folder = Path(catalogue.__file__).parent
    declaring = {
        path.stem for path in folder.glob("*.py") if re.search(r"^PROVIDER = ", path.read_text(), re.MULTILINE)
    }

    assert declaring == set(BUILT_IN)
    assert all(module == f"credentials.providers.{name}" for name, module in BUILT_IN.items())


@pytest.mark.parametrize("service", EVERY)
@pytest.mark.parametrize(
    ("reply", "code", "ambiguous"),
    [
        (Reply(429, {"Retry-After": "30"}, b""), "rate_limit_exceeded", False),
        (Reply(500, {}, b"<html>"), "provider_unavailable", True),
        (Reply(502, {}, b""), "provider_unavailable", True),
        (Reply(503, {"retry-after": "5"}, b""), "provider_unavailable", False),
        (Reply(302, {"Location": "/"}, b""), "provider_misconfigured", False),
        (Reply(200, {}, b"<html>"), "vendor_bad_response", True),
        (Reply(200, {}, b"[]"), "vendor_bad_response", True),
        (Reply(200, {}, b'{"ok": false}'), "vendor_bad_response", False),
        (Reply(400, {}, b'{"error": "what_is_this"}'), "vendor_bad_response", False),
        (Reply(400, {}, b'{"error": {"type": "x"}}'), "vendor_bad_response", False),
        (Reply(400, {}, b'{"error": "invalid_grant"}'), "invalid_grant", False),
        (Reply(200, {}, b'{"error": "invalid_grant"}'), "invalid_grant", False),
    ],
)
@pytest.mark.parametrize("phase", ["connect", "refresh"])
def test_every_provider_judges_replies_alike_where_the_protocol_does(
    service: str, reply: Reply, code: str, ambiguous: bool, phase: Any
) -> None:
    found = refusal(provider(service), reply, phase=phase, now=NOW)

    assert found is not None
    assert (found.code, found.ambiguous, found.service) == (code, ambiguous, service)


@pytest.mark.parametrize("service", EVERY)
def test_every_provider_takes_tokens_for_what_they_are(service: str) -> None:
    body = b'{"ok": true, "access_token": "at", "refresh_token": "rt", "expires_in": 60, "scope": "a b,c"}'
    reply = Reply(200, {}, body)
    found = provider(service)

    assert refusal(found, reply, phase="refresh", now=NOW) is None
    tokens = tokens_of_refresh(found, {"access_token": "at", "refresh_token": "rt", "scope": "a b,c"})
    assert tokens is not None
    assert (tokens.access_token.reveal(), tokens.scopes) == ("at", found.scopes.union("abc"))


@pytest.mark.parametrize("service", EVERY)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("access_denied", "access_denied"),
        ("temporarily_unavailable", "provider_unavailable"),
        ("redirect_uri_mismatch", "provider_misconfigured"),
        ("<script>alert(1)</script>", "provider_misconfigured"),
    ],
)
def test_a_callbacks_error_is_classified_and_not_repeated(service: str, error: str, code: str) -> None:
    found = callback_error(provider(service), error)

    assert found.code == code
    assert "script" not in found.message + str(found.provider_code)


# --- Slack


def test_slack_is_as_its_specification_says() -> None:
    told, slack = contracts.load("slack/oauth.json"), provider("slack")
    cloud = told["clouds"]["commercial"]

    assert slack.authorize_url == told["authorize"]["url"].replace("{web}", cloud["web"])
    assert slack.token_url == told["token"]["url"].replace("{api}", cloud["api"])
    assert slack.base_url == cloud["api"]
    assert slack.revocation is not None
    assert slack.revocation.url == told["revoke"]["url"].replace("{api}", cloud["api"])
    assert slack.replay == "single_use"
    assert told["token"]["refresh"]["refresh_token_single_use"] is True
    assert (slack.pkce, slack.client_auth, slack.scopes.separator) == (False, "basic", ",")


def test_slacks_errors_are_those_of_its_specification() -> None:
    told = contracts.load("slack/errors.json")["by_error"]
    for name, verdict in provider("slack").errors[0].verdicts.items():
        expected = told[name].split(" ")[0]
        # an expired token in answer to a refresh is the refresh token itself
        assert verdict == ("invalid_grant" if name == "token_expired" else expected), name
    oauth = {name for name, verdict in told.items() if verdict in ("invalid_grant", "provider_misconfigured")}
    assert oauth <= set(provider("slack").errors[0].verdicts)


def test_slacks_samples_of_errors_are_classified() -> None:
    for sample in contracts.load("slack/errors.json")["samples"]:
        if sample["taxonomy"] == "access_denied":
            continue  # a message's error, which a token endpoint does not give
        body = sample["body"] if isinstance(sample["body"], str) else json.dumps(sample["body"])
        reply = Reply(sample["status"], sample.get("headers", {}), body.encode())
        found = refusal(provider("slack"), reply, phase="refresh", now=NOW)
        assert found is not None
        assert found.code == sample["taxonomy"], sample


def test_slacks_replies_hold_bot_and_user_tokens() -> None:
    told, slack = contracts.load("slack/oauth.json")["token"], provider("slack")
    plain, rotating = told["exchange"]["response_no_rotation"], told["exchange"]["response_rotation"]
    with_user = rotating | told["exchange"]["response_with_user_scope"]
    only_user = {name: value for name, value in with_user.items() if name not in ("access_token", "refresh_token")}

    bot, user = tokens_of_exchange(slack, plain)
    assert bot is not None
    assert (bot.refresh_token, bot.lifetime_s, user) == (None, None, None)
    bot, user = tokens_of_exchange(slack, with_user)
    assert bot is not None
    assert user is not None
    assert bot.refresh_token != user.refresh_token
    assert bot.scopes == ("chat:write", "files:write")
    alone, nobody = tokens_of_exchange(slack, only_user)
    assert alone is not None
    assert alone.access_token == user.access_token
    assert nobody is None


# --- Microsoft


@pytest.mark.parametrize("cloud", ["global", "us_gov_l4", "us_gov_l5", "china", "bleu_fr", "delos_de", "govsg"])
def test_microsofts_clouds_are_a_matter_of_addresses(cloud: str) -> None:
    told = contracts.load("microsoft/oauth.json")
    place = told["clouds"][cloud]
    found = provider("microsoft", authority=place["login"], base_url=f"{place['graph']}/v1.0")

    for name, url in (("authorize", found.authorize_url), ("token", found.token_url)):
        assert url == told[name]["url"].replace("{login}", place["login"]).replace("{tenant}", "common")
    assert found.base_url == f"{place['graph']}/v1.0/"
    assert found.api_hosts.covers(f"{place['graph']}/v1.0/me")
    assert found.api_hosts.covers("https://graph.microsoft.com/v1.0/me") == (cloud == "global")
    asked = found.scopes.written(["openid", "Mail.Send"], found.base_url)
    assert asked == ["openid", "Mail.Send" if cloud == "global" else f"{place['graph']}/Mail.Send"]
    assert found.scopes.listed(" ".join(asked)) == ("openid", "Mail.Send")


def test_microsofts_tenant_is_part_of_its_addresses() -> None:
    found = Providers({"microsoft": app(tenant="contoso.onmicrosoft.com")}).get("microsoft")

    assert found.token_url == "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"


def test_microsofts_errors_are_those_of_its_specification() -> None:
    told = contracts.load("microsoft/errors.json")["token_endpoint"]
    for table in provider("microsoft").errors:
        ours = dict(table.verdicts)
        theirs = {name: re.split(r"[ (]", verdict)[0] for name, verdict in told[table.field].items()}
        assert ours == theirs, table.field


def test_microsofts_samples_of_errors_are_classified() -> None:
    samples = [one for one in contracts.load("microsoft/errors.json")["samples"] if one["where"] == "token"]
    assert samples
    for sample in samples:
        body = json.dumps(sample["body"]).encode()
        found = refusal(provider("microsoft"), Reply(sample["status"], {}, body), phase="refresh", now=NOW)
        assert found is not None
        assert found.code == re.split(r"[ (]", sample["taxonomy"])[0], sample


def test_microsofts_scopes_are_compared_without_case_and_prefix() -> None:
    rules = provider("microsoft").scopes
    granted = rules.listed("https://graph.microsoft.com/Mail.Send User.Read openid profile email")

    assert granted is not None
    assert rules.missing(["mail.send", "offline_access", "https://graph.microsoft.com/User.Read"], granted) == ()
    assert rules.missing(["Calendars.ReadWrite"], granted) == ("Calendars.ReadWrite",)


# --- settings


def test_an_unknown_service_is_named_with_those_that_are_near() -> None:
    with pytest.raises(errors.ValidationFailed, match="slack"):
        Providers().get("slakc")


def test_a_known_service_without_an_application_says_which_setting_lacks() -> None:
    with pytest.raises(errors.ProviderMisconfigured, match=r"oauth2\.slack\.client_id"):
        Providers().get("slack").registered()


def test_all_faults_of_both_sections_are_told_at_once() -> None:
    with pytest.raises(errors.ValidationFailed) as caught:
        Providers(
            {
                "slack": app(issuer="https://id.example"),
                "acme": app(replay="grace"),
                "Bad Name": app(),
                "other": OAuthApp.model_validate(ACME | {"api_hosts": ["https://x/y"]}),
            },
            {
                "slack": ServiceSettings.model_validate({"authority": "https://a.example"}),
                "nobody": ServiceSettings(),
            },
        )

    assert {path for path, _ in caught.value.problems} == {
        "oauth2.slack.issuer",
        "services.slack.authority",
        "oauth2.acme",
        "oauth2.acme.api_hosts",
        "oauth2.acme.grace_s",
        "oauth2.Bad Name",
        "oauth2.other.api_hosts[0]",
        "services.nobody",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"token_url": "http://id.example/token"},
        {"token_url": "https://user:pw@id.example/token"},
        {"token_url": "https://id.example\\@evil.example/"},
        {"issuer": "ftp://id.example"},
        {"redirect_uri": "http://flow8.example/cb"},
        {"redirect_uri": "https://flow8.example/cb#x"},
        {"client_secret": "[encrypted]"},
        {"client_secret": "********"},
        {"client_secret": ""},
        {"client_id": ""},
        {"scopes": ["two words"]},
        {"tenant": "../other"},
        {"replay": "always"},
        {"nonsense": 1},
        {"private_key_file": "key.pem"},
    ],
)
def test_a_wrong_setting_is_refused_and_no_secret_is_repeated(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        OAuthApp.model_validate(APP | fields)

    assert "secret-of-the-tests" not in str(caught.value)
    assert "pw@" not in str(caught.value)


def test_a_loopback_redirect_address_may_be_plain() -> None:
    assert app(redirect_uri="http://127.0.0.1:4454/cb").redirect_uri == "http://127.0.0.1:4454/cb"


def test_the_laboratorys_addresses_replace_the_vendors_and_their_hosts() -> None:
    found = provider("slack", base_url="https://127.0.0.1:9/api/", token_url="https://127.0.0.1:9/api/oauth.v2.access")

    assert found.api_hosts.covers("https://127.0.0.1:9/api/chat.postMessage")
    assert not found.api_hosts.covers("https://slack.com/api/chat.postMessage")
    assert found.authorize_url == "https://slack.com/oauth/v2/authorize"


def test_a_custom_server_that_wants_offline_access_asks_for_consent() -> None:
    offline = Providers({"acme": OAuthApp.model_validate(ACME | {"scopes": ["openid", "offline_access"]})}).get("acme")

    assert offline.authorize_params == {"prompt": "consent"}
    assert offline.nonce
    assert provider("acme").authorize_params == {}


def test_the_standard_errors_are_those_of_rfc_6749() -> None:
    named = {"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"}

    assert named | {"invalid_scope"} <= set(STANDARD_ERRORS)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 7 ", 7),
        ("0", 1),
        ("-5", None),
        ("99999999999999999999", 900),
        ("1e9", None),
        ("3.5", None),
        ("soon", None),
        ("", None),
        ("１２", None),
        ("Sat, 04 Apr 2026 10:00:30 GMT", 30),
        ("Sat, 04 Apr 2020 10:00:30 GMT", 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 900),
        ("Sat, 04 Apr 2026 10:00:30", None),
    ],
)
def test_retry_after_is_read_with_caution(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds
