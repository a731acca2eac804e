"""ID tokens: what is believed, and all that is not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from credentials.id_tokens import AGAIN_S, KEPT_S, LEEWAY_S, MAX_TOKEN, IdTokens
from credentials.providers.catalogue import Providers
from credentials.providers.provider import IdToken, Provider
from credentials.providers.settings import OAuthApp
from flow8_core import errors
from flow8_core.clock import Deadline, ManualClock
from flow8_core.egress import Egress
from tests.counterparts.token_server import TokenServer
from tests.credentials.signing import encoded, key, part

NOW = 1_900_000_000
TENANT = "72f988bf-0000-4000-8000-2d7cd011db47"
OTHER_TENANT = "11111111-2222-4333-8444-555555555555"
CLIENT = "client-1"
LOGIN = "https://login.example"
OWN, NEXT, STRANGER = key("own"), key("next"), key("stranger")

Forged = Callable[[dict[str, Any]], Any]


class Desk:
    """An issuer with tenants, as Microsoft is one, and who verifies its tokens."""

    def __init__(self, server: TokenServer, egress: Egress) -> None:
        self.server = server
        self.clock = ManualClock()
        self.id_tokens = IdTokens(egress, clock=self.clock)
        self.rule = IdToken(jwks_url=f"{server.url}/common/keys", issuer=f"{LOGIN}/{{tid}}/v2.0")
        self.provider = microsoft()
        self.publish(OWN.jwk(issuer=f"{LOGIN}/{{tenantid}}/v2.0"))

    def publish(self, *keys: dict[str, Any]) -> None:
        self.server.keys = (200, {"keys": list(keys)})

    def verified(self, token: Any, *, nonce: str | None = "n-1", now: float = NOW) -> Any:
        return self.id_tokens.verified(
            self.rule,
            self.provider,
            token,
            nonce=nonce,
            now=datetime.fromtimestamp(now, UTC),
            deadline=Deadline.after(15.0, self.clock),
        )

    @property
    def fetched(self) -> int:
        """How often the key set was asked for."""
        return sum(call.path == "/keys" for call in self.server.calls)


def microsoft(**app: Any) -> Provider:
    settings = {"client_id": CLIENT, "client_secret": "client-secret-of-the-tests"} | app
    return Providers({"microsoft": OAuthApp.model_validate(settings)}).get("microsoft")


@pytest.fixture
def desk(token_server: TokenServer, token_egress: Egress) -> Desk:
    return Desk(token_server, token_egress)


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token says; None takes a claim away."""
    whole = {
        "iss": f"{LOGIN}/{TENANT}/v2.0",
        "aud": CLIENT,
        "sub": "subject-1",
        "tid": TENANT,
        "oid": "oid-1",
        "nonce": "n-1",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 3600,
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def test_a_good_token_is_believed(desk: Desk) -> None:
    assert desk.verified(OWN.token(claims())) == claims()


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [CLIENT]},
        {"aud": [CLIENT, "another"], "azp": CLIENT},
        {"exp": NOW - LEEWAY_S + 1},
        {"nbf": NOW + LEEWAY_S, "iat": NOW + LEEWAY_S},
        {"nbf": None},
        {"exp": NOW + 60.5},
        {"email": "somebody@else.example", "email_verified": True},
    ],
    ids=str,
)
def test_what_the_standard_allows_is_allowed(desk: Desk, changes: dict[str, Any]) -> None:
    assert desk.verified(OWN.token(claims(**changes)))["oid"] == "oid-1"


WRONG_CLAIMS: list[dict[str, Any]] = [
    {"aud": "another-client"},
    {"aud": None},
    {"aud": ""},
    {"aud": ["another", "third"]},
    {"aud": [CLIENT, "another"]},
    {"aud": [CLIENT, "another"], "azp": "another"},
    {"aud": {CLIENT: 1}},
    {"iss": None},
    {"iss": f"{LOGIN}/{OTHER_TENANT}/v2.0"},
    {"iss": f"{LOGIN}/{TENANT}/v2.0/"},
    {"iss": f"{LOGIN}/{TENANT.upper()}/v2.0"},
    {"iss": f"{LOGIN}/{{tid}}/v2.0"},
    {"iss": f"https://login.evil.example/{TENANT}/v2.0"},
    {"iss": [f"{LOGIN}/{TENANT}/v2.0"]},
    {"iss": 7},
    {"tid": None},
    {"tid": OTHER_TENANT},
    {"tid": "{tid}", "iss": f"{LOGIN}/{{tid}}/v2.0"},
    {"tid": "x/../..", "iss": f"{LOGIN}/x/../../v2.0"},
    {"tid": f"{TENANT}\n", "iss": f"{LOGIN}/{TENANT}\n/v2.0"},
    {"nonce": "n-2"},
    {"nonce": None},
    {"nonce": ["n-1"]},
    {"exp": NOW - LEEWAY_S},
    {"exp": NOW - 7200},
    {"exp": None},
    {"exp": str(NOW + 3600)},
    {"exp": True},
    {"exp": 1e300},
    {"exp": float("nan")},
    {"exp": float("inf")},
    {"exp": [NOW + 3600]},
    {"nbf": NOW + LEEWAY_S + 1},
    {"nbf": "soon"},
    {"iat": NOW + LEEWAY_S + 1},
    {"iat": None},
    {"iat": "then"},
    {"sub": None},
    {"sub": 7},
]


@pytest.mark.parametrize("changes", WRONG_CLAIMS, ids=str)
def test_a_token_that_says_something_wrong_is_refused(desk: Desk, changes: dict[str, Any]) -> None:
    with pytest.raises(errors.AccessDenied) as caught:
        desk.verified(OWN.token(claims(**changes)))

    assert "Connect again" in caught.value.message
    assert not any(str(value) in caught.value.message for value in (TENANT, OTHER_TENANT, "n-2", "another-client"))


def unsigned(claims: dict[str, Any], alg: str, signature: str = "") -> str:
    return f"{part({'alg': alg, 'typ': 'JWT', 'kid': 'own'})}.{part(claims)}.{signature}"


def without_its_end(claims: dict[str, Any]) -> str:
    return OWN.token(claims).rpartition(".")[0] + "."


FORGED: dict[str, Forged] = {
    "a stranger's key under our issuer's name": lambda claims: STRANGER.token(claims, kid="own"),
    "a stranger's key under its own": STRANGER.token,
    "a stranger's key without a name": lambda claims: STRANGER.token(claims, kid=None),
    "none": lambda claims: unsigned(claims, "none"),
    "None": lambda claims: unsigned(claims, "None"),
    "NONE with a signature": lambda claims: unsigned(claims, "NONE", "c2ln"),
    "no algorithm": lambda claims: f"{part({'typ': 'JWT', 'kid': 'own'})}.{part(claims)}.c2ln",
    "HS256 with the public key": lambda claims: OWN.shared(claims, OWN.pem()),
    "HS256 with the listed number": lambda claims: OWN.shared(claims, str(OWN.jwk()["n"]).encode()),
    "HS256 with nothing": lambda claims: OWN.shared(claims, b""),
    "another algorithm of the same key": lambda claims: OWN.token(claims, alg="RS512"),
    "a key that the token brings along": lambda claims: STRANGER.token(claims, jwk=STRANGER.jwk()),
    "the address of one": lambda claims: STRANGER.token(claims, jku="https://evil.example/keys", kid="evil"),
    "the address of a certificate": lambda claims: STRANGER.token(claims, x5u="https://evil.example/c", x5c=["AAAA"]),
    "a critical extension": lambda claims: OWN.token(claims, crit=["exp"], exp=1),
    "an access token": lambda claims: OWN.token(claims, typ="at+jwt"),
    "a logout token": lambda claims: OWN.token(claims, typ="logout+jwt"),
    "a name that is none": lambda claims: OWN.token(claims, kid=["own"]),
    "a name with a path": lambda claims: OWN.token(claims, kid="../own"),
    "no signature": without_its_end,
    "a list of claims": lambda claims: OWN.token([claims]),
    "claims that are no JSON": lambda _: OWN.token(b"{"),
    "claims as deep as a well": lambda _: OWN.token(b"[" * 8000),
    "a header as deep as a well": lambda claims: f"{encoded(b'[' * 8000)}.{part(claims)}.c2ln",
    "two parts": lambda claims: ".".join(OWN.token(claims).split(".")[:2]),
    "five parts": lambda claims: OWN.token(claims) + ".a.b",
    "words": lambda _: "a token",
    "dots": lambda _: "..",
    "characters of everywhere": lambda _: "ä.ö.ü",
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_token_is_refused(desk: Desk, forged: str) -> None:
    with pytest.raises(errors.AccessDenied):
        desk.verified(FORGED[forged](claims()))

    assert {call.path for call in desk.server.calls} <= {"/keys"}


@pytest.mark.parametrize(
    "token", [None, "", 7, ["a"], {"a": 1}, "x" * (MAX_TOKEN + 1)], ids=lambda token: str(token)[:9]
)
def test_an_answer_without_a_token_does_not_say_who_connected(desk: Desk, token: Any) -> None:
    with pytest.raises(errors.VendorBadResponse, match="whose account"):
        desk.verified(token)


def test_no_character_of_a_token_may_differ(desk: Desk) -> None:
    token = OWN.token(claims())

    for place in range(0, len(token), 7):
        other = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(errors.AccessDenied):
            desk.verified(other)


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param(STRANGER.jwk(kid="own"), id="a-strangers"),
        pytest.param(OWN.jwk(use="enc"), id="for-encryption"),
        pytest.param(OWN.jwk(alg="RS512"), id="of-another-algorithm"),
        pytest.param(OWN.jwk(kty="EC"), id="of-another-type"),
        pytest.param(OWN.jwk(kty="oct", k="c2VjcmV0"), id="a-secret"),
        pytest.param(OWN.jwk(issuer=f"{LOGIN}/{OTHER_TENANT}/v2.0"), id="of-another-tenant"),
        pytest.param(OWN.jwk(issuer="https://login.evil.example/{tenantid}/v2.0"), id="of-another-issuer"),
        pytest.param(OWN.jwk(n="AAAA"), id="with-no-modulus-to-speak-of"),
        pytest.param(OWN.jwk(n=None), id="without-a-modulus"),
        pytest.param(OWN.jwk(e="!!"), id="with-no-exponent"),
        pytest.param(key("short", 1024).jwk(kid="own"), id="short"),
    ],
)
def test_a_key_that_is_not_the_issuers_for_this_is_not_used(desk: Desk, listed: dict[str, Any]) -> None:
    signer = key("short", 1024) if listed.get("n") == key("short", 1024).jwk()["n"] else OWN
    desk.publish(listed, NEXT.jwk())

    with pytest.raises(errors.AccessDenied):
        desk.verified(signer.token(claims(), kid="own"))


def test_a_token_without_a_keys_name_needs_a_set_of_one(desk: Desk) -> None:
    assert desk.verified(OWN.token(claims(), kid=None))

    desk.publish(OWN.jwk(), NEXT.jwk())
    desk.clock.advance(KEPT_S)
    with pytest.raises(errors.AccessDenied):
        desk.verified(OWN.token(claims(), kid=None))


def test_keys_are_fetched_once_a_day(desk: Desk) -> None:
    for _ in range(3):
        desk.verified(OWN.token(claims()))
    assert desk.fetched == 1

    desk.clock.advance(KEPT_S)
    desk.verified(OWN.token(claims()))

    assert desk.fetched == 2


def test_a_new_key_is_found_by_one_more_look_and_an_unknown_one_is_looked_for_once_a_minute(desk: Desk) -> None:
    desk.verified(OWN.token(claims()))
    desk.publish(OWN.jwk(), NEXT.jwk())
    desk.clock.advance(AGAIN_S)

    assert desk.verified(NEXT.token(claims()))
    assert desk.fetched == 2

    for _ in range(5):
        with pytest.raises(errors.AccessDenied):
            desk.verified(STRANGER.token(claims()))
    assert desk.fetched == 2
    desk.clock.advance(AGAIN_S)
    with pytest.raises(errors.AccessDenied):
        desk.verified(STRANGER.token(claims()))
    assert desk.fetched == 3


@pytest.mark.parametrize(
    "answer", [(503, {}), (404, {}), (200, {}), (200, {"keys": []}), (200, {"keys": "own"})], ids=str
)
def test_without_keys_nobody_is_believed_and_yesterdays_do_for_a_while(desk: Desk, answer: tuple[int, Any]) -> None:
    desk.server.keys = answer
    with pytest.raises(errors.ProviderError):
        desk.verified(OWN.token(claims()))

    desk.publish(OWN.jwk())
    assert desk.verified(OWN.token(claims()))
    desk.server.keys = answer
    desk.clock.advance(KEPT_S)

    assert desk.verified(OWN.token(claims()))


def test_only_accounts_of_the_named_tenants_are_taken(desk: Desk) -> None:
    desk.provider = microsoft(tenants=[OTHER_TENANT])
    with pytest.raises(errors.AccessDenied, match="tenant may not be connected"):
        desk.verified(OWN.token(claims()))

    desk.provider = microsoft(tenants=[OTHER_TENANT, TENANT])
    assert desk.verified(OWN.token(claims()))


@pytest.mark.parametrize(
    ("tenant", "taken"),
    [
        ("common", True),
        ("organizations", True),
        ("contoso.example", True),
        (TENANT, True),
        (OTHER_TENANT, False),
        ("consumers", False),
    ],
)
def test_an_application_of_one_tenant_takes_that_tenants_accounts(desk: Desk, tenant: str, taken: bool) -> None:
    desk.provider = microsoft(tenant=tenant)

    if taken:
        assert desk.verified(OWN.token(claims()))
    else:
        with pytest.raises(errors.AccessDenied, match="tenant"):
            desk.verified(OWN.token(claims()))


def test_an_issuer_without_tenants_is_compared_as_it_is(desk: Desk) -> None:
    desk.rule = IdToken(jwks_url=desk.rule.jwks_url, issuer="https://id.example")
    desk.publish(OWN.jwk())

    assert desk.verified(OWN.token(claims(iss="https://id.example", tid=None)))
    for wrong in ("https://id.example/", "https://ID.example", "http://id.example"):
        with pytest.raises(errors.AccessDenied):
            desk.verified(OWN.token(claims(iss=wrong, tid=None)))


def test_nobody_asked_for_a_nonce_so_none_is_compared(desk: Desk) -> None:
    assert desk.verified(OWN.token(claims(nonce=None)), nonce=None)
