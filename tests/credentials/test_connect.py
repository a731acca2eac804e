"""Connecting: one-time states, codes exchanged once, and nobody's account in somebody else's link."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from bson import ObjectId

from credentials import connect, oauth_states
from credentials.callback import is_visit
from credentials.connect import COLLECTION, Begun
from credentials.grants import USER
from credentials.link import Link
from credentials.vault import EnvelopeRejected, Vault
from flow8_core import crashpoints, errors
from flow8_core.egress import Egress
from tests.counterparts.token_server import Answer, TokenServer
from tests.credentials import signing
from tests.credentials.desk import CLIENT_ID, CLIENT_SECRET, Desk, open_desk

TENANT = "72f988bf-0000-4000-8000-2d7cd011db47"


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        yield desk
    crashpoints.arm("")


def begun(desk: Desk, service: str = "acme", **options: Any) -> Begun:
    return desk.connect.begin(service, company_id=desk.company_id, user_id=desk.user_id, **options)


def asked(begun: Begun) -> dict[str, str]:
    """What the browser is sent to the vendor with."""
    return {name: values[0] for name, values in parse_qs(urlsplit(begun.authorize_url).query).items()}


def callback(desk: Desk, begun: Begun, **reply: Any) -> dict[str, str]:
    """The query that comes back once the vendor has agreed; `reply` goes into the token reply."""
    desk.server.codes["code-1"] = reply
    desk.server.keys = (200, {"keys": [signing.key("own").jwk()]})
    return {"code": "code-1", "state": begun.state}


def jwt(**claims: Any) -> str:
    def part(fields: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'RS256'})}.{part(claims)}.sig"


def proof(desk: Desk, begun: Begun, *, key: str = "own", **changes: Any) -> str:
    """An ID token for this request."""
    now = int(desk.store.now().timestamp())
    claims = {"iss": f"{desk.server.url}/{changes.get('tid', TENANT)}/v2.0", "aud": CLIENT_ID, "sub": "subject-1"}
    claims |= {"tid": TENANT, "oid": "oid-1", "name": "A User", "preferred_username": "a@b.example"}
    claims |= {"nonce": asked(begun).get("nonce"), "iat": now, "exp": now + 3600} | changes
    if "tid" in changes and changes["tid"] is not None:
        claims["iss"] = f"{desk.server.url}/{TENANT}/v2.0"
    return signing.key(key).token({name: value for name, value in claims.items() if value is not None}, kid="own")


# --- the way out


def test_the_browser_is_sent_out_with_pkce_and_a_state_of_which_only_the_hash_is_kept(desk: Desk) -> None:
    begin = begun(desk, scopes=["write", "read"])

    sent = asked(begin)
    (kept,) = desk.store.find(COLLECTION, {})
    assert sent["client_id"] == CLIENT_ID
    assert sent["response_type"] == "code"
    assert sent["redirect_uri"] == "https://flow8.example/auth/callback/acme"
    assert sent["scope"] == "read write"
    assert sent["state"] == begin.state
    assert sent["code_challenge_method"] == "S256"
    verifier = desk.vault.open(oauth_states._place(kept), kept["verifier"]).reveal()
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    assert sent["code_challenge"] == digest
    assert begin.state not in str(kept)
    assert verifier not in str(kept)
    assert kept["expires_at"] == desk.store.now() + timedelta(minutes=10)


def test_slack_is_asked_in_its_own_way(desk: Desk) -> None:
    sent = asked(begun(desk, "slack", scopes=["files:write"]))

    assert sent["scope"] == "chat:write,files:write"
    assert sent["user_scope"] == "search:read"
    assert "code_challenge" not in sent
    assert "nonce" not in sent


def test_microsoft_is_asked_through_msal(desk: Desk) -> None:
    begin = begun(desk, "microsoft", scopes=["Calendars.ReadWrite"])

    sent = asked(begin)
    assert begin.authorize_url.startswith(f"{desk.server.url}/common/oauth2/v2.0/authorize?")
    assert set(sent["scope"].split()) == {
        "openid", "profile", "offline_access", "email", "Mail.Send", "Calendars.ReadWrite"
    }  # fmt: skip
    assert sent["state"] == begin.state
    assert sent["code_challenge_method"] == "S256"
    assert len(sent["nonce"]) == 64
    assert sent["prompt"] == "select_account"
    assert desk.server.calls == []


def test_a_reconnect_asks_for_what_the_link_has_as_well(desk: Desk) -> None:
    link = desk.link()

    assert asked(begun(desk, link_id=str(link.id), scopes=["admin"]))["scope"] == "read admin write"


@pytest.mark.parametrize("whose", ["another user's", "another company's", "another service's", "nobody's"])
def test_only_ones_own_link_is_reconnected(desk: Desk, whose: str) -> None:
    link = desk.link("slack" if whose == "another service's" else "acme")
    ids = {"company_id": desk.company_id, "user_id": desk.user_id}
    if whose.startswith("another user"):
        ids["user_id"] = ObjectId()
    if whose.startswith("another company"):
        ids["company_id"] = ObjectId()
    link_id = str(ObjectId()) if whose == "nobody's" else str(link.id)

    with pytest.raises(errors.NotFound):
        desk.connect.begin("acme", **ids, link_id=link_id)

    assert desk.store.count(COLLECTION, {}) == 0


def test_an_unknown_service_is_refused(desk: Desk) -> None:
    with pytest.raises(errors.ValidationFailed):
        begun(desk, "amce")


# --- the way back


def test_a_callback_makes_a_sealed_link(desk: Desk) -> None:
    begin = begun(desk)

    link = desk.connect.complete(callback(desk, begin), service="acme")

    (call,) = desk.server.token_calls
    assert call.basic == (CLIENT_ID, CLIENT_SECRET)
    assert set(call.form) == {"grant_type", "code", "redirect_uri", "code_verifier"}
    assert call.form["redirect_uri"] == "https://flow8.example/auth/callback/acme"
    assert link.account == "user@example.test"
    assert link.provider_user_id == "user-1"
    assert link.user_id == desk.user_id
    assert link.scopes == {"read", "write"}
    assert desk.server.alive(desk.refresh_token(link))
    assert desk.store.count(COLLECTION, {}) == 0
    assert desk.actions() == ["integration_linked"]


def test_a_reply_that_is_silent_about_scopes_has_granted_those_asked_for(desk: Desk) -> None:
    begin = begun(desk, scopes=["extra"])

    assert desk.connect.complete(callback(desk, begin, scope=None)).scopes == {"read", "extra"}


def test_slacks_reply_makes_a_bot_and_a_user_token(desk: Desk) -> None:
    reply = {
        "ok": True,
        "access_token": "xoxe.xoxb-1-bot",
        "refresh_token": "xoxe-1-bot",
        "expires_in": 43200,
        "scope": "chat:write,files:write",
        "team": {"id": "T1", "name": "Example"},
        "enterprise": None,
        "bot_user_id": "U0BOT",
        "authed_user": {
            "id": "U1",
            "scope": "search:read",
            "access_token": "xoxe.xoxp-1-user",
            "refresh_token": "xoxe-1-user",
            "expires_in": 43200,
        },
    }

    link = desk.connect.complete(callback(desk, begun(desk, "slack"), **reply))

    assert link.open("access_token").reveal() == "xoxe.xoxb-1-bot"
    assert link.open("access_token", USER).reveal() == "xoxe.xoxp-1-user"
    assert link.open("refresh_token", USER).reveal() == "xoxe-1-user"
    assert link.document["user_token"]["scopes"] == ["search:read"]
    assert link.scopes == {"chat:write", "files:write"}
    assert (link.provider_user_id, link.document["provider_account"], link.account) == ("U1", "T1", "Example")
    assert link.metadata["bot_user_id"] == "U0BOT"
    assert [call.path for call in desk.server.calls] == ["/token"]


def test_slack_without_rotation_makes_a_link_that_does_not_end(desk: Desk) -> None:
    reply = {"ok": True, "refresh_token": None, "expires_in": None, "authed_user": {"id": "U1"}, "team": {"id": "T1"}}

    link = desk.connect.complete(callback(desk, begun(desk, "slack"), **reply))

    assert (link.document["token_expiry"], link.document["refresh_at"]) == (None, None)
    assert not link.grant().refreshable


def test_microsofts_reply_is_read_past_msal(desk: Desk) -> None:
    begin = begun(desk, "microsoft")
    reply = {"scope": "Mail.Send openid profile email", "id_token": proof(desk, begin), "expires_in": 4518}

    link = desk.connect.complete(callback(desk, begin, **reply))

    (call,) = desk.server.token_calls
    assert call.form["client_secret"] == CLIENT_SECRET
    assert call.form["code"] == "code-1"
    assert call.form["code_verifier"]
    assert (link.provider_user_id, link.document["provider_account"]) == ("oid-1", TENANT)
    assert link.account == "a@b.example"
    assert link.document["lifetime_s"] == 4518
    assert [call.path for call in desk.server.calls] == ["/keys", "/token"]  # no code is used up where there is no key


def test_microsofts_refresh_reaches_the_server_each_time_and_keeps_nothing(desk: Desk) -> None:
    link = desk.link("microsoft", expires_in=-10, refresh_token="unknown-refresh-token")
    desk.set(link, scopes=["Mail.Send", "openid"])
    desk.server.script.extend([Answer(503), Answer(400, b'{"error": "temporarily_unavailable"}')])

    for _ in range(2):
        with pytest.raises(errors.ProviderUnavailable):
            desk.refresher.fresh(desk.now(link), deadline=desk.soon)
        desk.clock.advance(60)
    with pytest.raises(errors.InvalidGrant):
        desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert len(desk.server.token_calls) == 3
    assert set(desk.server.token_calls[0].form["scope"].split()) == {"Mail.Send", "openid", "profile", "offline_access"}


@pytest.mark.parametrize(
    "forged",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another-application"},
        {"tid": "11111111-2222-4333-8444-555555555555"},
        {"exp": 1},
        {"key": "stranger"},
        {"absent": True},
    ],
    ids=str,
)
def test_an_id_token_that_proves_nothing_makes_neither_a_link_nor_a_user(desk: Desk, forged: dict[str, Any]) -> None:
    begin = begun(desk, "microsoft")
    id_token = None if "absent" in forged else proof(desk, begin, **forged)

    with pytest.raises(errors.VendorBadResponse if "absent" in forged else errors.AccessDenied):
        desk.connect.complete(callback(desk, begin, id_token=id_token))

    assert desk.links.list() == []
    assert desk.store.count("users", {}) == 0
    assert desk.store.count(COLLECTION, {}) == 0


def test_without_the_providers_keys_the_code_is_not_even_exchanged(desk: Desk) -> None:
    begin = begun(desk, "microsoft")
    query = callback(desk, begin, id_token=proof(desk, begin))
    desk.server.keys = (503, {})

    with pytest.raises(errors.ProviderUnavailable, match="keys"):
        desk.connect.complete(query)

    assert desk.server.token_calls == []


def test_two_subjects_in_one_answer_are_refused(desk: Desk) -> None:
    with pytest.raises(errors.AccessDenied, match="two different accounts"):
        desk.connect.complete(callback(desk, begun(desk), id_token=jwt(sub="somebody-else")))


def test_the_same_account_keeps_its_link(desk: Desk) -> None:
    first = desk.connect.complete(callback(desk, begun(desk)))
    again = desk.connect.complete(callback(desk, begun(desk, link_id=str(first.id))))

    assert again.id == first.id
    assert again.generation == 2


def test_a_reconnect_with_another_account_changes_nothing(desk: Desk) -> None:
    link = desk.connect.complete(callback(desk, begun(desk)))
    before = desk.document(link)
    desk.server.userinfo = {"sub": "user-2", "email": "user@example.test"}

    with pytest.raises(errors.Conflict):
        desk.connect.complete(callback(desk, begun(desk, link_id=str(link.id))))

    assert desk.document(link) == before


# --- states


def test_a_state_counts_once_however_many_come_with_it(desk: Desk) -> None:
    query = callback(desk, begun(desk))

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: _outcome(desk, query), range(50)))

    assert sorted(outcomes) == ["access_denied"] * 49 + ["linked"]
    assert len(desk.server.token_calls) == 1


def _outcome(desk: Desk, query: dict[str, str]) -> str:
    try:
        desk.connect.complete(query)
    except errors.Flow8Error as error:
        return error.code
    return "linked"


def test_a_state_is_over_after_ten_minutes(desk: Desk) -> None:
    query = callback(desk, begun(desk))
    desk.clock.advance(600)

    with pytest.raises(errors.AccessDenied, match="10 minutes"):
        desk.connect.complete(query)

    assert desk.server.calls == []


def mutate(desk: Desk, **fields: Any) -> None:
    assert desk.store.update(COLLECTION, {}, {"$set": fields}) is not None


@pytest.mark.parametrize("service", ["acme", "slack"])
@pytest.mark.parametrize(
    ("changes", "given"),
    [
        ({"state_hash": "0" * 64}, {}),
        ({"expires_at": "past"}, {}),
        ({"expires_at": "later"}, {}),
        ({"service": "microsoft"}, {}),
        ({}, {"service": "microsoft"}),
        ({}, {"browser": None}),
        ({}, {"browser": "another-browser"}),
        ({"browser_hash": "0" * 64}, {}),
        ({"company_id": ObjectId()}, {}),
        ({"user_id": ObjectId()}, {}),
        ({"link_id": ObjectId()}, {}),
        ({"redirect_uri": "https://evil.example/"}, {}),
        ({"scopes": ["admin"]}, {}),
        ({"nonce": "another"}, {}),
        ({"bound.mac": "0" * 64}, {}),
        ({"bound.kid": "0" * 16}, {}),
        ({"bound": None}, {}),
        ({"new": 1}, {}),
        ({}, {"state": "A" * 43}),
    ],
)
def test_each_field_of_a_state_that_differs_is_refused(
    desk: Desk, service: str, changes: dict[str, Any], given: dict[str, Any]
) -> None:
    query = callback(desk, begun(desk, service, browser="this-browser"))
    if "expires_at" in changes:
        moved = 0 if changes["expires_at"] == "past" else 3600
        changes = {"expires_at": desk.store.now() + timedelta(seconds=moved)}
    if changes:
        mutate(desk, **changes)
    query |= {name: value for name, value in given.items() if name == "state"}
    door = {"service": service, "browser": "this-browser"}
    door |= {name: value for name, value in given.items() if name != "state"}

    with pytest.raises(errors.AccessDenied):
        desk.connect.complete(query, **door)

    assert desk.links.list() == []
    assert desk.server.calls == []


def test_a_sealed_verifier_that_was_changed_is_refused(desk: Desk) -> None:
    query = callback(desk, begun(desk))
    mutate(desk, **{"verifier.ciphertext": "AAAA"})

    with pytest.raises(EnvelopeRejected):
        desk.connect.complete(query)

    assert desk.server.calls == []


def test_the_browser_that_began_may_finish(desk: Desk) -> None:
    query = callback(desk, begun(desk, browser="this-browser"))

    assert desk.connect.complete(query, browser="this-browser").status == "active"


def test_a_reconnects_link_that_is_gone_meanwhile_is_not_made_anew(desk: Desk) -> None:
    link = desk.link()
    query = callback(desk, begun(desk, link_id=str(link.id)))
    desk.store.delete("db_links", {"_id": link.id})

    with pytest.raises(errors.NotFound):
        desk.connect.complete(query)

    assert desk.links.list() == []


# --- what comes back


BAD_QUERIES = [
    [],
    [("code", "c")],
    [("state", "S")],
    [("code", "c"), ("error", "access_denied"), ("state", "S")],
    [("code", "c"), ("code", "d"), ("state", "S")],
    [("code", "c"), ("state", "S"), ("state", "S")],
    [("code", "c"), ("state", "S"), ("iss", "a"), ("iss", "b")],
    [("code", ""), ("state", "S")],
    [("code", "c" * 10_000), ("state", "S")],
    [("code", "c\x00"), ("state", "S")],
    [("code", "ü"), ("state", "S")],
    [("code", "c"), ("state", "")],
    [("code", "c"), ("state", "x" * 1_000_000)],
    [("code", "c"), ("state", "a" * 42 + "'")],
]


@pytest.mark.parametrize("query", BAD_QUERIES)
def test_a_query_that_no_server_sends_consumes_nothing(desk: Desk, query: list[tuple[str, str]]) -> None:
    begin = begun(desk)
    pairs = [(name, begin.state if value == "S" else value) for name, value in query]

    with pytest.raises(errors.ValidationFailed) as caught:
        desk.connect.complete(pairs)

    assert desk.store.count(COLLECTION, {}) == 1
    assert desk.server.calls == []
    assert begin.state not in caught.value.message


@pytest.mark.parametrize("error", ["access_denied", "<script>", "x" * 50_000, "a\r\nSet-Cookie: b"])
def test_a_refusal_at_the_vendor_consumes_the_state_and_is_not_echoed(desk: Desk, error: str) -> None:
    begin = begun(desk)

    with pytest.raises(errors.Flow8Error) as caught:
        desk.connect.complete({"error": error, "error_description": "<b>no</b>", "state": begin.state})

    shown = json.dumps(caught.value.to_dict()) + str(caught.value.provider_code)
    assert "script" not in shown
    assert "<b>" not in shown
    assert "Cookie" not in shown
    assert desk.store.count(COLLECTION, {}) == 0
    assert desk.server.calls == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(400, b'{"error": "invalid_grant"}'), errors.InvalidGrant),
        (Answer(401, b'{"error": "invalid_client"}'), errors.ProviderMisconfigured),
        (Answer(429, b"", {"Retry-After": "5"}), errors.RateLimited),
        (Answer(502, b"<html>"), errors.ProviderUnavailable),
        (Answer(302, b"", {"Location": "https://evil.example/"}), errors.ProviderMisconfigured),
        (Answer(200, b"<html>"), errors.VendorBadResponse),
        (Answer(drop=True), errors.ProviderUnavailable),
        (Answer(commit=True, drop=True), errors.ProviderUnavailable),
    ],
)
@pytest.mark.parametrize("service", ["acme", "slack", "microsoft"])
def test_a_code_is_exchanged_once_whatever_comes_of_it(
    desk: Desk, service: str, answer: Answer, error: type[errors.Flow8Error]
) -> None:
    query = callback(desk, begun(desk, service))
    desk.server.script.append(answer)

    with pytest.raises(error) as caught:
        desk.connect.complete(query)
    with pytest.raises(errors.AccessDenied):
        desk.connect.complete(query)

    assert len(desk.server.token_calls) == 1
    assert desk.links.list() == []
    assert "code-1" not in caught.value.message
    if error is errors.InvalidGrant:
        assert "redirect_uri matches exactly" in caught.value.message


@pytest.mark.parametrize("point", [connect.CONSUMED, connect.ANSWERED, connect.EXCHANGED])
def test_a_connection_broken_off_leaves_no_half_link_and_is_simply_made_again(desk: Desk, point: str) -> None:
    query = callback(desk, begun(desk))
    crashpoints.arm(f"{point}:raise")
    with pytest.raises(crashpoints.CrashPointReached):
        desk.connect.complete(query)
    crashpoints.arm("")

    assert desk.links.list() == []
    with pytest.raises(errors.AccessDenied):
        desk.connect.complete(query)
    assert desk.connect.complete(callback(desk, begun(desk))).status == "active"


def test_a_connection_broken_off_at_its_very_end_is_there(desk: Desk) -> None:
    query = callback(desk, begun(desk))
    crashpoints.arm(f"{connect.STORED}:raise")
    with pytest.raises(crashpoints.CrashPointReached):
        desk.connect.complete(query)

    (link,) = desk.links.list()
    assert link.status == "active"


# --- a server that is known by its issuer


@pytest.fixture
def issued(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    token_server.metadata = {"authorization_response_iss_parameter_supported": True}
    nothing = dict.fromkeys(("authorize_url", "token_url", "revoke_url", "userinfo_url"))
    with open_desk(tmp_path, vault, token_server, token_egress, issuer=token_server.url, **nothing) as desk:
        yield desk


@pytest.mark.parametrize("named", ["by discovery", "one by one"])
def test_an_id_token_of_a_server_with_an_issuer_is_verified_with_its_keys(
    tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress, named: str
) -> None:
    token_server.metadata = {"jwks_uri": f"{token_server.url}/keys"}
    ends = ("authorize_url", "token_url", "revoke_url", "userinfo_url")
    described = {"issuer": token_server.url, "scopes": ["openid", "read"]}
    described |= dict.fromkeys(ends) if named == "by discovery" else {}
    with open_desk(tmp_path, vault, token_server, token_egress, **described) as desk:
        own = {"iss": token_server.url, "tid": None, "sub": "user-1"}
        for forged in ({"key": "stranger"}, {"aud": "another"}, {"iss": "https://id.example"}, {"nonce": "another"}):
            begin = begun(desk)
            with pytest.raises(errors.AccessDenied, match="proof"):
                desk.connect.complete(callback(desk, begin, id_token=proof(desk, begin, **(own | forged))))

        begin = begun(desk)
        link = desk.connect.complete(callback(desk, begin, id_token=proof(desk, begin, **own)))

        assert link.provider_user_id == "user-1"


def test_endpoints_are_discovered_once(issued: Desk) -> None:
    door = issued.connect
    for _ in range(3):
        begin = door.begin("acme", company_id=issued.company_id, user_id=issued.user_id)

    assert begin.authorize_url.startswith(f"{issued.server.url}/authorize?")
    assert [call.path for call in issued.server.calls] == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize("iss", [None, "https://evil.example", "slash"])
def test_an_answer_from_another_server_is_refused(issued: Desk, iss: str | None) -> None:
    query = callback(issued, begun(issued))
    if iss is not None:
        query["iss"] = f"{issued.server.url}/" if iss == "slash" else iss

    with pytest.raises(errors.AccessDenied, match="does not come from"):
        issued.connect.complete(query)

    assert issued.server.token_calls == []


def test_an_answer_that_names_its_server_is_taken(issued: Desk) -> None:
    query = callback(issued, begun(issued)) | {"iss": issued.server.url}

    assert issued.connect.complete(query).status == "active"


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": None},
        {"token_endpoint": "http://127.0.0.1/token"},
        {"authorization_endpoint": "https://user:pw@id.example/"},
    ],
)
def test_a_document_of_another_issuer_or_without_tls_is_refused(issued: Desk, metadata: dict[str, Any]) -> None:
    issued.server.metadata = metadata

    with pytest.raises(errors.ProviderMisconfigured):
        begun(issued)


def test_a_server_that_takes_the_secret_in_the_form_alone_gets_it_there(issued: Desk) -> None:
    issued.server.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}

    issued.connect.complete(callback(issued, begun(issued)))

    (call,) = issued.server.token_calls
    assert call.basic is None
    assert (call.form["client_id"], call.form["client_secret"]) == (CLIENT_ID, CLIENT_SECRET)


# --- doors


@pytest.mark.parametrize(
    ("method", "headers", "visit"),
    [
        ("GET", {}, True),
        ("GET", {"User-Agent": "x", "Purpose": "other"}, True),
        ("HEAD", {}, False),
        ("POST", {}, False),
        ("GET", {"Purpose": "prefetch"}, False),
        ("GET", {"sec-purpose": "prefetch;prerender"}, False),
        ("GET", {"X-Moz": "prefetch"}, False),
        ("GET", {"X-Purpose": "preview"}, False),
        ("GET", {"Sec-Fetch-Purpose": "Prefetch"}, False),
        ("GET", {"Sec-Purpose": "prefetch;anonymous-client-ip"}, False),
    ],
)
def test_only_a_person_arriving_consumes_a_state(method: str, headers: dict[str, str], visit: bool) -> None:
    assert is_visit(method, headers) is visit


def test_the_redirect_address_is_the_configured_one_to_the_letter(desk: Desk) -> None:
    assert desk.connect.redirect_uri("slack") == "https://flow8.example/auth/callback/slack"


def test_a_link_that_a_connect_made_works(desk: Desk) -> None:
    link: Link = desk.connect.complete(callback(desk, begun(desk)))

    fresh = desk.refresher.fresh(link, deadline=desk.soon, force=True)

    assert fresh.generation == 2
    assert desk.server.alive(desk.refresh_token(link))
