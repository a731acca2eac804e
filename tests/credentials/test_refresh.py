"""Refreshing: who may, what is stored, what is believed; a link never dies because of us."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from credentials import revocation
from credentials.grants import COLLECTION, USER
from credentials.outbox import Outbox
from credentials.refresh import Refresher
from credentials.refresh_claims import CALL_S, LEASE_S
from credentials.revocation import RevocationCourier
from credentials.vault import EnvelopeRejected, Vault
from flow8_core import errors
from flow8_core.clock import Deadline, SystemClock
from flow8_core.egress import Egress
from tests.counterparts.token_server import Answer, TokenServer
from tests.credentials.desk import CLIENT_ID, CLIENT_SECRET, Desk, open_desk


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        yield desk


def held(desk: Desk, *, by: str = "somebody") -> dict[str, Any]:
    """A claim of somebody else's that began a moment ago."""
    now = desk.store.now()
    return {"owner": by, "started_at": now, "lease_until": now + timedelta(seconds=LEASE_S), "attempt": 1}


# --- what happens when all goes well


def test_a_link_that_is_not_due_is_used_as_it_is(desk: Desk) -> None:
    link = desk.link(expires_in=3600)

    assert desk.refresher.fresh(link, deadline=desk.soon).generation == 1
    assert desk.server.calls == []


def test_a_due_link_is_refreshed_and_everything_is_stored_in_one_update(desk: Desk) -> None:
    link = desk.link(expires_in=30)

    fresh = desk.refresher.fresh(link, deadline=desk.soon)

    document = desk.document(link)
    assert fresh.document == document
    assert fresh.open("access_token").reveal().startswith("at-g1-")
    assert desk.server.alive(desk.refresh_token(link))
    assert document["generation"] == 2
    assert document["issued_at"] == desk.store.now()
    assert document["token_expiry"] == desk.store.now() + timedelta(seconds=3600)
    assert document["refresh_at"] == document["token_expiry"] - timedelta(seconds=900)
    assert document["scopes"] == ["read", "write"]
    assert "refresh" not in document
    assert desk.actions() == ["integration_linked", "integration_refreshed"]


def test_the_client_authenticates_as_rfc_6749_says(desk: Desk) -> None:
    desk.refresher.fresh(desk.link(expires_in=30), deadline=desk.soon)

    (call,) = desk.server.token_calls
    assert call.basic == (CLIENT_ID, CLIENT_SECRET)
    assert set(call.form) == {"grant_type", "refresh_token"}


@pytest.mark.parametrize(
    ("edit", "lifetime_s"),
    [
        ({"expires_in": "1800"}, 1800),
        ({"expires_in": 1800.5}, 1800),
        ({"expires_in": None}, 3600),
        ({"expires_in": 0}, 3600),
        ({"expires_in": -1}, 3600),
        ({"expires_in": "an hour"}, 3600),
        ({"expires_in": True}, 3600),
        ({"expires_in": 1e12}, 10 * 365 * 24 * 3600),
        ({"expires_in": [1]}, 3600),
        ({"token_type": "mac"}, 3600),
        ({"scope": "read,write"}, 3600),
        ({"scope": 7, "id_token": "x", "extra": {"deep": [1]}}, 3600),
    ],
)
def test_an_odd_reply_costs_no_token(desk: Desk, edit: dict[str, Any], lifetime_s: int) -> None:
    link = desk.link(expires_in=30)
    desk.server.script.append(Answer(edit=lambda fields: fields | edit))

    fresh = desk.refresher.fresh(link, deadline=desk.soon)

    assert desk.server.alive(desk.refresh_token(link))
    assert fresh.document["lifetime_s"] == lifetime_s
    assert fresh.document["scopes"] == ["read", "write"]


def _without(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "refresh_token"}


@pytest.mark.parametrize(
    "edit", [_without, lambda fields: {**fields, "refresh_token": ""}, lambda fields: {**fields, "refresh_token": None}]
)
def test_a_refresh_token_that_the_reply_omits_or_leaves_empty_is_kept(
    desk: Desk, edit: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    desk.server.policy = "reusable"
    link = desk.link(expires_in=30)
    before = desk.refresh_token(link)
    desk.server.script.append(Answer(edit=edit))

    fresh = desk.refresher.fresh(link, deadline=desk.soon)

    assert desk.refresh_token(link) == before
    assert fresh.generation == 2


def test_a_granted_scope_that_shrank_is_stored_and_not_a_crash(desk: Desk) -> None:
    link = desk.link(expires_in=30)
    desk.server.scope = "read"

    assert desk.refresher.fresh(link, deadline=desk.soon).scopes == {"read"}


def test_a_link_of_an_older_server_is_refreshed_as_well(desk: Desk) -> None:
    link = desk.link(expires_in=30)
    lifecycle = ("generation", "status", "status_reason", "refresh_at", "issued_at", "lifetime_s", "failures")
    desk.store.update(COLLECTION, {"_id": link.id}, {"$unset": dict.fromkeys(lifecycle, "")})

    fresh = desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert fresh.generation == 1
    assert desk.server.alive(desk.refresh_token(link))


# --- who may refresh


def test_eight_callers_of_an_expired_link_make_one_call(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    desk.server.policy = "family"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: _outcome(desk, link), range(8)))

    assert len(desk.server.token_calls) == 1
    assert set(outcomes) <= {"fresh", "refresh_busy"}
    assert "fresh" in outcomes
    assert desk.server.alive(desk.refresh_token(link))


def test_both_stores_let_one_of_eight_refresh_and_keep_everything_alike(
    tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress, store_url: str
) -> None:
    token_server.policy = "family"
    with open_desk(tmp_path, vault, token_server, token_egress, store_url=store_url) as desk:
        link = desk.link(expires_in=-10)

        with ThreadPoolExecutor(8) as pool:
            outcomes = set(pool.map(lambda _: _outcome(desk, link), range(8)))

        document = desk.document(link)
        assert outcomes <= {"fresh", "refresh_busy"}
        assert len(token_server.token_calls) == 1
        assert document["generation"] == 2
        assert document["refresh_at"] == document["token_expiry"] - timedelta(seconds=900)
        assert "refresh" not in document
        assert token_server.alive(desk.refresh_token(link))
        assert desk.actions() == ["integration_linked", "integration_refreshed"]


def _outcome(desk: Desk, link: Any) -> str:
    refresher = Refresher(desk.store, desk.vault, desk.providers, desk.egress)
    try:
        refresher.fresh(link, deadline=desk.soon)
    except errors.Flow8Error as error:
        return error.code
    return "fresh"


def test_while_somebody_refreshes_the_token_that_still_works_is_used(desk: Desk) -> None:
    link = desk.set(desk.link(expires_in=300), refresh=held(desk))

    assert desk.refresher.fresh(link, deadline=desk.soon).open("access_token").reveal() == "access-token-0"
    assert desk.pauses == []
    assert desk.server.calls == []


@pytest.mark.parametrize("left_s", [59, 0, -100])
def test_while_somebody_refreshes_a_token_that_is_over_is_not_handed_out(desk: Desk, left_s: int) -> None:
    link = desk.set(desk.link(expires_in=left_s), refresh=held(desk))

    with pytest.raises(errors.RefreshBusy) as caught:
        desk.refresher.fresh(link, deadline=desk.soon)

    assert caught.value.link_id == str(link.id)
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 5
    assert sum(desk.pauses) <= 1
    assert desk.server.calls == []
    assert desk.now(link).status == "active"


def test_a_loser_takes_what_the_winner_stores_meanwhile(desk: Desk) -> None:
    link = desk.set(desk.link(expires_in=-10), refresh=held(desk))

    def winner(_: float) -> None:
        desk.store.update(COLLECTION, {"_id": link.id, "generation": 1}, {"$unset": {"refresh": ""}})
        desk.refresher.fresh(link, deadline=desk.soon)

    loser = Refresher(desk.store, desk.vault, desk.providers, desk.egress, pause=winner)

    assert loser.fresh(link, deadline=desk.soon).generation == 2
    assert len(desk.server.token_calls) == 1


def test_a_stale_copy_of_the_link_refreshes_nothing(desk: Desk) -> None:
    stale = desk.link(expires_in=30)
    desk.refresher.fresh(stale, deadline=desk.soon)

    assert desk.refresher.fresh(stale, deadline=desk.soon).generation == 2
    assert len(desk.server.token_calls) == 1


def test_a_token_that_works_once_is_not_sent_when_too_little_time_is_left(desk: Desk) -> None:
    over, early = desk.link(expires_in=-10), desk.link(expires_in=300, account="user-2")
    little = Deadline.after(3.0, SystemClock())

    with pytest.raises(errors.ExecutionTimeout):
        desk.refresher.fresh(over, deadline=little)

    assert desk.refresher.fresh(early, deadline=little).generation == 1
    assert desk.server.calls == []


# --- what the provider's refusals mean


REFUSALS = [
    # answer, error, status afterwards, ambiguous
    (Answer(400, b'{"error": "invalid_grant"}'), errors.InvalidGrant, "needs_reconnect"),
    (Answer(400, b'{"error": "consent_required"}'), errors.InvalidGrant, "needs_reconnect"),
    (Answer(401, b'{"error": "invalid_client"}'), errors.ProviderMisconfigured, "app_blocked"),
    (Answer(400, b'{"error": "unauthorized_client"}'), errors.ProviderMisconfigured, "active"),
    (Answer(400, b'{"error": "access_denied"}'), errors.AccessDenied, "active"),
    (Answer(400, b'{"error": "temporarily_unavailable"}'), errors.ProviderUnavailable, "active"),
    (Answer(400, b'{"error": "never heard of <b>"}'), errors.VendorBadResponse, "active"),
    (Answer(400, b"<html>no</html>"), errors.VendorBadResponse, "active"),
    (Answer(400, b""), errors.VendorBadResponse, "active"),
    (Answer(302, b"", {"Location": "https://evil.example/"}), errors.ProviderMisconfigured, "active"),
    (Answer(429, b"", {"Retry-After": "30"}), errors.RateLimited, "active"),
    (Answer(500, b"<html>"), errors.ProviderUnavailable, "active"),
    (Answer(502, b"<html>"), errors.ProviderUnavailable, "active"),
    (Answer(503, b"", {"Retry-After": "7"}), errors.ProviderUnavailable, "active"),
    (Answer(200, b"<html>login</html>"), errors.VendorBadResponse, "active"),
    (Answer(200, b"{}"), errors.VendorBadResponse, "active"),
    (Answer(200, b'{"access_token": ""}'), errors.VendorBadResponse, "active"),
    (Answer(200, b'{"access_token": "a\\nb"}'), errors.VendorBadResponse, "active"),
    (Answer(200, b'{"access_token": 5}'), errors.VendorBadResponse, "active"),
    (Answer(200, b"[" * 100_000), errors.VendorBadResponse, "active"),
    (Answer(200, b"\xff\xfe\x00"), errors.VendorBadResponse, "active"),
    (Answer(drop=True), errors.ProviderUnavailable, "active"),
]


@pytest.mark.parametrize(("answer", "error", "status"), REFUSALS)
def test_a_refusal_is_classified_and_only_a_dead_grant_kills_the_link(
    desk: Desk, answer: Answer, error: type[errors.Flow8Error], status: str
) -> None:
    link = desk.link(expires_in=-10)
    desk.server.script.append(answer)

    with pytest.raises(error) as caught:
        desk.refresher.fresh(link, deadline=desk.soon)

    assert desk.now(link).status == status
    assert caught.value.link_id == str(link.id)
    assert desk.now(link).grant().claim.get("lease_until", desk.store.now()) <= desk.store.now()
    assert len(desk.server.token_calls) == 1


@pytest.mark.parametrize(("answer", "error", "status"), [row for row in REFUSALS if row[2] != "needs_reconnect"])
def test_a_refusal_while_the_old_token_works_disturbs_nobody(
    desk: Desk, answer: Answer, error: type[errors.Flow8Error], status: str
) -> None:
    link = desk.link(expires_in=300)
    desk.server.script.append(answer)

    assert desk.refresher.fresh(link, deadline=desk.soon).open("access_token").reveal() == "access-token-0"
    assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).generation == 1
    assert len(desk.server.token_calls) == 1
    told = "integration_status_changed" if status == "app_blocked" else "integration_refresh_failed"
    assert desk.actions()[1:] == [told]


def test_a_vendors_own_words_and_the_tokens_stay_out_of_the_error(desk: Desk) -> None:
    link = desk.link(expires_in=-10, refresh_token="unknown-refresh-token")

    with pytest.raises(errors.InvalidGrant) as caught:
        desk.refresher.fresh(link, deadline=desk.soon)

    shown = json.dumps(caught.value.to_dict()) + repr(caught.value)
    assert "secret words" not in shown
    assert "unknown-refresh-token" not in shown
    assert CLIENT_SECRET not in shown
    assert caught.value.__cause__ is None


def test_a_dead_link_is_never_presented_again_and_says_what_to_do(desk: Desk) -> None:
    link = desk.link(expires_in=-10, refresh_token="unknown-refresh-token")
    with pytest.raises(errors.InvalidGrant):
        desk.refresher.fresh(link, deadline=desk.soon)

    with pytest.raises(errors.InvalidGrant, match="reconnect") as caught:
        desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert caught.value.link_id == str(link.id)
    assert caught.value.reconnect
    assert len(desk.server.token_calls) == 1
    assert desk.now(link).status_reason == "invalid_grant"
    assert desk.actions() == ["integration_linked", "integration_needs_reconnect"]


def test_a_failure_is_not_repeated_before_its_time(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    desk.server.script.append(Answer(429, b"", {"Retry-After": "30"}))
    with pytest.raises(errors.RateLimited) as limited:
        desk.refresher.fresh(link, deadline=desk.soon)

    with pytest.raises(errors.ProviderUnavailable) as backing_off:
        desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert limited.value.retry_after == 30
    assert backing_off.value.retry_after == 30
    assert len(desk.server.token_calls) == 1
    desk.clock.advance(31)
    assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).generation == 2
    assert desk.document(link)["failures"] == 0


def test_repeated_failures_are_repeated_ever_more_slowly_and_told_once(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    pauses = []
    for _ in range(8):
        desk.server.script.append(Answer(503))
        with pytest.raises(errors.ProviderUnavailable):
            desk.refresher.fresh(desk.now(link), deadline=desk.soon)
        pauses.append((desk.document(link)["not_before"] - desk.store.now()).total_seconds())
        desk.clock.advance(pauses[-1])

    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300]
    assert desk.actions().count("integration_refresh_failed") == 1


# --- somebody else acts at the same moment


def test_invalid_grant_is_not_believed_when_the_link_was_reconnected_meanwhile(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    desk.server.script.append(Answer(400, commit=True, edit=lambda _: {"error": "invalid_grant"}))
    desk.server.before_answer = lambda: desk.link(expires_in=3000) and None

    fresh = desk.refresher.fresh(link, deadline=desk.soon)

    assert fresh.id == link.id
    assert fresh.status == "active"
    assert fresh.open("access_token").reveal() == "access-token-0"
    assert fresh.generation == 2


def test_a_late_refresh_does_not_overwrite_a_reconnect(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    new = desk.server.grant("reconnected")
    desk.server.before_answer = lambda: desk.link(expires_in=3000, refresh_token=new) and None

    fresh = desk.refresher.fresh(link, deadline=desk.soon)

    assert fresh.generation == 2
    assert desk.refresh_token(link) == new
    assert desk.server.revoked == []


def test_a_late_refresh_does_not_land_in_a_link_that_was_deleted_and_connected_anew(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    new = desk.server.grant("connected anew")

    def anew() -> None:
        desk.store.delete(COLLECTION, {"_id": link.id})
        assert desk.link(expires_in=3000, refresh_token=new).id == link.id

    desk.server.before_answer = anew
    fresh = desk.refresher.fresh(link, deadline=desk.soon)

    assert desk.refresh_token(link) == new
    assert fresh.open("access_token").reveal() == "access-token-0"


def test_a_link_that_is_deleted_during_its_refresh_takes_its_new_tokens_with_it(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    desk.server.before_answer = lambda: desk.store.delete(COLLECTION, {"_id": link.id}) and None

    with pytest.raises(errors.AccessDenied):
        desk.refresher.fresh(link, deadline=desk.soon)

    assert given_back(desk) == 1
    assert desk.store.get(COLLECTION, link.id) is None


def test_a_link_that_is_revoked_during_its_refresh_stays_revoked(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    desk.server.before_answer = lambda: desk.set(link, status="revoked") and None

    with pytest.raises(errors.AccessDenied):
        desk.refresher.fresh(link, deadline=desk.soon)

    assert desk.now(link).status == "revoked"
    assert desk.access_token(link) == "access-token-0"
    assert given_back(desk) == 1


def given_back(desk: Desk) -> int:
    """How many refresh tokens the server has got back; each takes its access token along (RFC 7009 section 2.1)."""
    courier = RevocationCourier(desk.store, desk.vault, desk.providers, desk.egress)
    Outbox(desk.store, {revocation.KIND: courier}).drain()
    return len(desk.server.revoked)


def test_a_link_that_somebody_found_dead_meanwhile_is_not_tried_again(desk: Desk) -> None:
    stale = desk.link(expires_in=-10)
    desk.set(stale, status="needs_reconnect", status_reason="invalid_grant")

    with pytest.raises(errors.InvalidGrant):
        desk.refresher.fresh(stale, deadline=desk.soon)

    assert desk.server.calls == []


def test_a_refresh_token_that_does_not_open_is_no_trouble_before_the_end(desk: Desk) -> None:
    early, over = desk.link(expires_in=300), desk.link(expires_in=-10, account="user-2")
    for link in (early, over):
        desk.set(link, refresh_token__ciphertext="AAAA")

    assert desk.refresher.fresh(desk.now(early), deadline=desk.soon).generation == 1
    with pytest.raises(EnvelopeRejected):
        desk.refresher.fresh(desk.now(over), deadline=desk.soon)
    assert desk.server.calls == []
    assert not desk.now(over).grant().claim


# --- the vendor refused the access token


def test_a_refused_access_token_is_replaced_although_it_is_not_due(desk: Desk) -> None:
    link = desk.link(expires_in=3600)

    assert desk.refresher.fresh(link, deadline=desk.soon, force=True).generation == 2
    assert len(desk.server.token_calls) == 1


def test_a_refused_access_token_that_was_replaced_already_costs_no_call(desk: Desk) -> None:
    stale = desk.link(expires_in=30)
    desk.refresher.fresh(stale, deadline=desk.soon)

    assert desk.refresher.fresh(stale, deadline=desk.soon, force=True).generation == 2
    assert len(desk.server.token_calls) == 1


def test_a_refused_access_token_is_not_handed_out_again_when_the_refresh_fails(desk: Desk) -> None:
    link = desk.link(expires_in=3600)
    desk.server.script.append(Answer(503))

    with pytest.raises(errors.ProviderUnavailable):
        desk.refresher.fresh(link, deadline=desk.soon, force=True)


@pytest.mark.parametrize(
    ("expires_in", "force", "reason"), [(-1, False, "token_expired"), (None, True, "token_revoked")]
)
def test_a_link_without_a_refresh_token_needs_its_owner_at_the_end(
    desk: Desk, expires_in: float | None, force: bool, reason: str
) -> None:
    link = desk.link(expires_in=expires_in, refresh_token=None)

    with pytest.raises(errors.InvalidGrant):
        desk.refresher.fresh(link, deadline=desk.soon, force=force)

    assert (desk.now(link).status, desk.now(link).status_reason) == ("needs_reconnect", reason)
    assert desk.server.calls == []


# --- the user's own token beside the bot's


def test_a_user_token_is_refreshed_by_itself_and_leaves_the_bots_alone(desk: Desk) -> None:
    user_token = desk.server.grant("user")
    link = desk.link("slack", expires_in=36_000, user_refresh_token=user_token)
    link = desk.set(link, user_token__refresh_at=desk.store.now(), user_token__token_expiry=desk.store.now())

    fresh = desk.refresher.fresh(link, deadline=desk.soon)

    assert fresh.grant().generation == 1
    assert fresh.grant(USER).generation == 2
    assert fresh.open("access_token", USER).reveal().startswith("at-user-")
    assert desk.server.alive(desk.refresh_token(link, USER))
    assert fresh.open("access_token").reveal() == "access-token-0"


def test_a_user_token_that_died_leaves_the_link_alive(desk: Desk) -> None:
    link = desk.link("slack", expires_in=36_000, user_refresh_token="unknown-user-refresh-token")
    link = desk.set(link, user_token__refresh_at=desk.store.now(), user_token__token_expiry=desk.store.now())

    fresh = desk.refresher.fresh(link, deadline=desk.soon)

    assert fresh.status == "active"
    assert fresh.document["user_token"]["status"] == "needs_reconnect"
    assert desk.resolver.link(
        company_id=desk.company_id,
        user_id=desk.user_id,
        service="slack",
        link_id=None,
        scopes=frozenset(),
        deadline=desk.soon,
    ).user_token is None  # fmt: skip
    assert len(desk.server.token_calls) == 1


def test_the_lease_outlives_the_call() -> None:
    assert LEASE_S > 2 * CALL_S
