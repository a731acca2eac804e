"""The switches that all six vendors have: what the client sees, and what holds in fact."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import jwt
import pytest
import urllib3

from tests.counterparts.lab import Lab
from tests.lab.conftest import ASKED, REDIRECT, Answer, Http, MicrosoftApp, SlackApp, StandardApp, answer_of

VENDORS = ("slack", "microsoft", *ASKED)
SIGNING = ("microsoft", "google", "quickbooks", "bexio")


class Vendor:
    """What the six are asked here, in one way."""

    def __init__(self, lab: Lab, http: Http, service: str) -> None:
        self.lab = lab
        self.http = http
        self.service = service
        self.slack, self.microsoft = SlackApp(lab, http), MicrosoftApp(lab, http)
        self.standard = StandardApp(lab, http, service) if service in ASKED else None

    def quirk(self, **switches: Any) -> None:
        self.lab.configure(self.service, **switches)

    def authorize_url(self) -> str:
        kinds = {"slack": self.slack.authorize_url, "microsoft": self.microsoft.authorize_url}
        return self.standard.authorize_url() if self.standard else kinds[self.service]()

    def consent(self) -> dict[str, str]:
        return answer_of(self.lab.visit(self.authorize_url()))

    def exchange(self, code: str) -> Answer:
        if self.standard:
            return self.standard.exchange(code)
        if self.service == "microsoft":
            return self.microsoft.exchange(code)
        return self._slack({"code": code, "redirect_uri": REDIRECT})

    def connect(self) -> dict[str, Any]:
        return dict(self.exchange(self.consent()["code"]).json)

    def refresh(self, token: str) -> Answer:
        if self.standard:
            return self.standard.refresh(token)
        if self.service == "microsoft":
            return self.microsoft.refresh(token)
        return self._slack({"grant_type": "refresh_token", "refresh_token": token})

    def _slack(self, fields: dict[str, str]) -> Answer:
        client = self.slack.client
        return self.http.form(
            self.slack.urls["token_url"], fields, basic=(client["client_id"], client["client_secret"])
        )

    def grant(self) -> dict[str, Any]:
        (described,) = self.lab.control("/grants")[self.service]
        return dict(described)


def honoured(answer: Answer) -> bool:
    """Whether there is a token in it."""
    return bool(answer.json.get("access_token"))


@pytest.fixture
def vendor(lab: Lab, http: Http, request: pytest.FixtureRequest) -> Vendor:
    return Vendor(lab, http, request.param)


everywhere = pytest.mark.parametrize("vendor", VENDORS, indirect=True)
where_signed = pytest.mark.parametrize("vendor", SIGNING, indirect=True)


@everywhere
def test_under_strict_rotation_a_spent_token_is_refused_and_its_successor_works(vendor: Vendor) -> None:
    vendor.quirk(replay="strict")
    first = vendor.connect()["refresh_token"]
    second = vendor.refresh(first).json["refresh_token"]

    again = vendor.refresh(first)

    assert not honoured(again)
    assert second not in ("", first)
    assert honoured(vendor.refresh(second))
    assert vendor.grant() | {"refreshes": 2, "reuses": 1, "replays": 0, "most_presented": 2} == vendor.grant()
    assert not vendor.grant()["revoked"]


@everywhere
def test_under_family_rotation_a_spent_token_takes_its_successors_with_it(vendor: Vendor) -> None:
    vendor.quirk(replay="family")
    first = vendor.connect()["refresh_token"]
    second = vendor.refresh(first).json["refresh_token"]

    again = vendor.refresh(first)

    assert not honoured(again)
    assert not honoured(vendor.refresh(second))
    assert vendor.grant() | {"reuses": 1, "revoked": True, "access": 0, "refresh": 0} == vendor.grant()


@everywhere
def test_under_grace_a_spent_token_works_a_while_longer(vendor: Vendor) -> None:
    vendor.quirk(replay="grace", replay_grace_s=20)
    first = vendor.connect()["refresh_token"]
    vendor.refresh(first)

    within = vendor.refresh(first)
    vendor.lab.control("/clock", {"advance_s": 21})
    after = vendor.refresh(first)

    assert (honoured(within), honoured(after)) == (True, False)
    assert vendor.grant() | {"refreshes": 2, "replays": 1, "reuses": 1, "revoked": False} == vendor.grant()


@everywhere
def test_reusable_tokens_are_never_spent(vendor: Vendor) -> None:
    vendor.quirk(replay="reusable")
    first = vendor.connect()["refresh_token"]

    assert all(honoured(vendor.refresh(first)) for _ in range(3))
    assert vendor.grant() | {"refreshes": 3, "replays": 0, "reuses": 0, "most_presented": 3} == vendor.grant()


# how the lifetime is told -> whether it is told so, where `own` is the true one
LIFETIMES: dict[str, Callable[[int, Any], bool]] = {
    "text": lambda own, told: told == str(own),
    "absent": lambda _, told: told == "nothing",
    "null": lambda _, told: told is None,
    "zero": lambda _, told: told == 0,
    "negative": lambda own, told: told == -own,
    "absurd": lambda _, told: told == 10**15,
    "garbled": lambda _, told: told == "soon",
}


@everywhere
def test_a_lifetime_may_be_told_in_any_way_and_the_token_works_all_the_same(vendor: Vendor) -> None:
    first = vendor.connect()
    token = first["refresh_token"]

    for way, is_so in LIFETIMES.items():
        vendor.quirk(expires_in_reply=way)
        refreshed = vendor.refresh(token).json
        token = refreshed.get("refresh_token", token)
        for told in (vendor.connect(), refreshed):
            assert is_so(first["expires_in"], told.get("expires_in", "nothing")), (way, told)
            assert told["access_token"]


@everywhere
def test_scopes_may_be_told_in_any_way(vendor: Vendor) -> None:
    def told(reply: str) -> Any:
        vendor.quirk(scope_reply=reply)
        return vendor.connect().get("scope")

    spaced, comma, shrunk, absent, empty = map(told, ("space", "comma", "shrunk", "absent", "empty"))

    scopes = spaced.split(" ")
    assert len(scopes) > 1
    assert comma == ",".join(scopes)
    assert shrunk.replace(",", " ").split() == scopes[:-1]
    assert (absent, empty) == (None, "")


@everywhere
def test_a_refusal_may_come_with_any_status(vendor: Vendor) -> None:
    vendor.quirk(error_status=200)
    refused = vendor.refresh("nobody's")

    vendor.quirk(error_status=418)

    assert refused.status == 200
    assert refused.json["error"]
    assert vendor.refresh("nobody's").status == 418


@everywhere
@pytest.mark.parametrize("skew_s", [-600, 600])
def test_a_vendors_clock_may_be_wrong(vendor: Vendor, skew_s: int) -> None:
    vendor.quirk(clock_skew_s=skew_s)

    answer = vendor.exchange(vendor.consent()["code"])

    dated = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    assert abs(dated - time.time() - skew_s) < 30
    if "id_token" in answer.json:
        claims = jwt.decode(answer.json["id_token"], options={"verify_signature": False})
        assert abs(claims["iat"] - time.time() - skew_s) < 30


@everywhere
def test_consent_may_be_denied_for_any_reason(vendor: Vendor) -> None:
    vendor.quirk(deny=True)
    plain = vendor.consent()
    vendor.quirk(deny_error="admin_policy_enforced")

    assert (plain["error"], plain["state"]) == ("access_denied", "s")
    assert vendor.consent()["error"] == "admin_policy_enforced"


# state of our application -> what each vendor says of it
APP_FAULTS = [
    ("slack", "secret_expired", 200, "bad_client_secret"),
    ("slack", "disabled", 200, "invalid_client_id"),
    ("microsoft", "secret_expired", 401, "invalid_client"),
    ("microsoft", "disabled", 400, "unauthorized_client"),
    ("google", "secret_expired", 401, "invalid_client"),
    ("google", "disabled", 401, "deleted_client"),
    ("clio", "secret_expired", 401, "invalid_client"),
    ("clio", "disabled", 401, "invalid_client"),
    ("quickbooks", "secret_expired", 401, "invalid_client"),
    ("quickbooks", "disabled", 401, "invalid_client"),
    ("bexio", "secret_expired", 401, "unauthorized_client"),
    ("bexio", "disabled", 401, "invalid_client"),
]


@pytest.mark.parametrize(("vendor", "app", "status", "error"), APP_FAULTS, indirect=["vendor"])
def test_our_application_may_be_locked_out_and_let_in_again(vendor: Vendor, app: str, status: int, error: str) -> None:
    token = vendor.connect()["refresh_token"]
    vendor.quirk(app=app)
    refused = vendor.refresh(token)

    vendor.quirk(app="good")

    assert (refused.status, refused.json["error"]) == (status, error)
    assert honoured(vendor.refresh(token))
    assert vendor.grant()["most_presented"] == 1


@everywhere
def test_a_page_of_html_is_what_a_proxy_answers(vendor: Vendor) -> None:
    token = vendor.connect()["refresh_token"]
    vendor.lab.fault(vendor.service, "html", "token")

    page = vendor.refresh(token)

    assert (page.status, page.headers["Content-Type"]) == (502, "text/html; charset=utf-8")
    assert vendor.grant()["refreshes"] == 0


@everywhere
def test_an_answer_lost_after_the_commit_has_spent_the_token(vendor: Vendor) -> None:
    vendor.quirk(replay="strict")
    token = vendor.connect()["refresh_token"]
    vendor.lab.fault(vendor.service, "drop_answer", "token.refresh")

    with pytest.raises(urllib3.exceptions.HTTPError):
        vendor.refresh(token)

    assert not honoured(vendor.refresh(token))
    assert vendor.grant() | {"refreshes": 1, "reuses": 1} == vendor.grant()


@pytest.mark.parametrize("vendor", ["slack", "google"], indirect=True)
def test_an_answer_may_come_byte_by_byte(vendor: Vendor) -> None:
    token = vendor.connect()["refresh_token"]
    vendor.lab.fault(vendor.service, "drip", "token.refresh", pause_ms=1)
    began = time.monotonic()

    answer = vendor.refresh(token)

    assert honoured(answer)
    assert time.monotonic() - began > len(answer.body) / 1000


def published(lab: Lab, http: Http, service: str) -> dict[str, Any]:
    """The keys that a vendor publishes, found the way a client finds them."""
    document = http.get(lab.oidc[service]["discovery_url"]).json
    assert document["jwks_uri"] == lab.oidc[service]["jwks_url"]
    return {key["kid"]: key for key in http.get(document["jwks_uri"]).json["keys"]}


def claims_of(vendor: Vendor, token: str) -> dict[str, Any]:
    """What a careful client reads. Raises KeyError for an unknown key, and what PyJWT raises."""
    header = jwt.get_unverified_header(token)
    key = published(vendor.lab, vendor.http, vendor.service)[header.get("kid", "")]
    client_id = vendor.lab.oauth2[vendor.service]["client_id"]
    return dict(jwt.decode(token, jwt.PyJWK(key), algorithms=["RS256"], audience=client_id))


@where_signed
def test_an_id_token_is_signed_by_a_published_key_for_us_by_the_issuer(vendor: Vendor) -> None:
    claims = claims_of(vendor, vendor.connect()["id_token"])

    issuer = vendor.lab.oidc[vendor.service]["issuer"].replace("{tenantid}", str(claims.get("tid")))
    assert (claims["iss"], claims["nonce"]) == (issuer, "n")
    assert claims["exp"] > claims["iat"]
    if vendor.service != "microsoft":
        document = vendor.http.get(vendor.lab.oidc[vendor.service]["discovery_url"]).json
        assert document["issuer"] == issuer


FORGERIES: dict[str, type[Exception]] = {
    "wrong_key": KeyError,
    "forged_kid": jwt.InvalidSignatureError,
    "unsigned": KeyError,
    "hmac": jwt.InvalidAlgorithmError,
    "wrong_audience": jwt.InvalidAudienceError,
    "expired": jwt.ExpiredSignatureError,
}


@where_signed
def test_a_forged_id_token_is_one_that_a_careful_client_refuses(vendor: Vendor) -> None:
    for flaw, error in FORGERIES.items():
        vendor.quirk(id_tokens=flaw)
        token = vendor.connect()["id_token"]
        with pytest.raises(error):
            claims_of(vendor, token)


WRONG_CLAIMS = {"wrong_issuer": "iss", "wrong_nonce": "nonce", "no_nonce": "nonce", "wrong_subject": "sub"}


@where_signed
def test_one_claim_can_be_made_wrong(vendor: Vendor) -> None:
    good = claims_of(vendor, vendor.connect()["id_token"])

    for flaw, claim in WRONG_CLAIMS.items():
        vendor.quirk(id_tokens=flaw)
        bad = claims_of(vendor, vendor.connect()["id_token"])
        assert {name for name in good if good[name] != bad.get(name)} - {"iat", "nbf", "exp"} == {claim}


@where_signed
def test_keys_roll_and_the_last_one_stays_published(vendor: Vendor) -> None:
    before = vendor.connect()["id_token"]
    old = published(vendor.lab, vendor.http, vendor.service)
    vendor.quirk(keys_rolled=True)

    after = vendor.connect()["id_token"]

    assert jwt.get_unverified_header(after)["kid"] not in old
    assert claims_of(vendor, after)["sub"] == claims_of(vendor, before)["sub"]


@where_signed
def test_an_id_token_may_be_left_out(vendor: Vendor) -> None:
    vendor.quirk(id_tokens="absent")

    assert "id_token" not in vendor.connect()
