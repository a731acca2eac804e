"""Unlinking: nothing works here from that moment on, and the vendor gets its tokens back, however often it is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from credentials import outbox, renewal, unlink
from credentials.grants import USER
from credentials.link import Link
from credentials.providers.catalogue import Providers
from credentials.revocation import HOLD_MOST_S, HOLD_S, LOOK_AGAIN_S
from credentials.vault import Vault
from flow8_core import crashpoints, errors
from flow8_core.egress import Egress
from tests.counterparts.token_server import Answer, TokenServer
from tests.credentials.desk import Desk, open_desk
from tests.credentials.post import Post, post_of


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        yield desk


@pytest.fixture(params=["sqlite", "mongo"])
def anywhere(
    request: pytest.FixtureRequest, tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress
) -> Iterator[Desk]:
    """A desk on either store; MongoDB's time does not move."""
    url = request.getfixturevalue("mongo_uri") if request.param == "mongo" else None
    with open_desk(tmp_path, vault, token_server, token_egress, store_url=url) as desk:
        yield desk


@pytest.fixture
def post(desk: Desk) -> Post:
    return post_of(desk, None, desk.egress)


def ended(post: Post) -> list[Any]:
    return [item.get("ended") for item in post.items()]


def of_somebody(desk: Desk, service: str = "acme", account: str = "user-1", workspace: str = "") -> Link:
    """Another user's link; with `workspace`, of an account there."""
    link = desk.link(service, account=account, user_id=ObjectId())
    return desk.set(link, provider_account=workspace) if workspace else link


def test_from_the_moment_of_unlinking_flows_get_access_denied_whatever_the_vendor_does(anywhere: Desk) -> None:
    link = anywhere.link()
    tokens = {anywhere.refresh_token(link), anywhere.access_token(link)}
    post = post_of(anywhere, None, anywhere.egress)

    done = post.unlink(anywhere).link(link.id)

    assert (done.link.status, done.link.status_reason) == ("revoked", "unlinked")
    with pytest.raises(errors.AccessDenied, match="revoked here"):
        anywhere.resolver.link(
            company_id=anywhere.company_id, user_id=anywhere.user_id, service="acme", link_id=str(link.id),
            scopes=frozenset(), deadline=anywhere.soon,
        )  # fmt: skip
    document = anywhere.document(link)
    assert not {"access_token", "refresh_token", "token_expiry", "refresh_at"} & set(document)
    assert not any(token in str(post.items()) for token in tokens)  # they lie in the outbox, sealed

    post.round()

    assert anywhere.server.revoked == [next(token for token in tokens if token.startswith("rt-"))]
    assert ended(post) == ["revoked"]
    assert "sealed" not in post.items()[0]
    assert anywhere.actions()[-2:] == ["integration_unlinked", "integration_revoked_at_vendor"]
    assert post.unlink(anywhere).vendor(done.link) == "revoked"


def test_what_is_not_there_or_somebody_elses_is_not_found(desk: Desk, post: Post) -> None:
    link = desk.link()
    desk.company_id = ObjectId()

    for link_id in (str(ObjectId()), str(link.id), "no id", "{$ne: null}"):
        with pytest.raises(errors.NotFound):
            post.unlink(desk).link(link_id)

    assert post.items() == []


def test_a_vendor_that_is_away_gets_its_tokens_when_it_is_back(desk: Desk, post: Post) -> None:
    link = desk.link()
    post.unlink(desk).link(link.id)
    desk.server.script_revoke.extend([Answer(503), Answer(500, b"<html>"), Answer(drop=True), Answer(429)])

    passes = 0
    while ended(post) == [None]:
        post.round()
        desk.clock.advance(100)
        passes += 1

    assert (passes, ended(post)) == (5, ["revoked"])
    assert len(desk.server.revoked) == 1
    assert desk.actions().count("integration_revoked_at_vendor") == 1


def test_a_vendor_that_does_not_know_the_token_has_nothing_left_to_revoke(desk: Desk, post: Post) -> None:
    desk.server.script_revoke.append(Answer(400, b'{"error": "invalid_token"}'))
    post.unlink(desk).link(desk.link().id)

    post.round()

    assert ended(post) == ["revoked"]


def test_an_application_that_the_vendor_refuses_is_no_reason_to_forget_the_tokens(desk: Desk, post: Post) -> None:
    desk.server.script_revoke.append(Answer(401, b'{"error": "invalid_client"}'))
    post.unlink(desk).link(desk.link().id)

    post.round()
    assert post.items()[0]["last_error"]["code"] == "provider_misconfigured"
    desk.clock.advance(60)
    post.round()

    assert ended(post) == ["revoked"]


def test_what_the_vendor_never_took_is_said_to_have_failed_and_can_be_asked_for_again(desk: Desk, post: Post) -> None:
    link = desk.link()
    post.unlink(desk).link(link.id)
    while ended(post) == [None]:
        desk.server.script_revoke.append(Answer(500))
        desk.clock.advance(50_000)
        post.round()
    assert ended(post) == ["dead"]
    assert desk.actions()[-1] == "integration_revocation_failed"
    assert post.unlink(desk).vendor(desk.now(link)) == "failed"

    again = post.unlink(desk).link(link.id)
    post.round()

    assert again.item_id == post.items()[0]["_id"]
    assert ended(post) == ["revoked"]
    assert len(desk.server.revoked) == 1


def test_unlinking_twice_is_unlinking_once(desk: Desk, post: Post) -> None:
    link = desk.link()

    first, second = post.unlink(desk).link(link.id), post.unlink(desk).link(link.id)

    assert (second.link.status, second.item_id) == ("revoked", first.item_id)
    assert len(post.items()) == 1


def test_a_link_without_tokens_that_open_is_unlinked_all_the_same(desk: Desk, post: Post) -> None:
    link = desk.link()
    desk.set(link, refresh_token__ciphertext="AAAA", access_token__ciphertext="AAAA")

    done = post.unlink(desk).link(link.id)

    assert (done.link.status, done.item_id) == ("revoked", None)
    assert post.unlink(desk).vendor(done.link) == "nothing_to_revoke"


def test_a_vendor_that_takes_nothing_back_is_not_asked(desk: Desk, post: Post) -> None:
    link = desk.link("microsoft")

    post.unlink(desk).link(link.id)
    post.round()

    assert ended(post) == ["not_possible"]
    assert desk.server.calls == []


def test_a_service_that_is_configured_no_more_can_be_unlinked_and_waits_for_its_vendor(desk: Desk, post: Post) -> None:
    link = desk.link()
    configured, post.providers = post.providers, Providers()

    assert post.unlink(desk).link(link.id).link.status == "revoked"
    post.round()
    assert ended(post) == [None]
    post.providers = configured
    desk.clock.advance(60)
    post.round()

    assert ended(post) == ["revoked"]


# ---- tokens that are on their way ------------------------------------------------------------------------------------


def test_a_refresh_that_is_under_way_gives_its_tokens_back(desk: Desk, post: Post) -> None:
    link = desk.link(expires_in=-10)
    spent = desk.refresh_token(link)
    desk.server.before_answer = lambda: _once(desk, lambda: post.unlink(desk).link(link.id))

    with pytest.raises(errors.AccessDenied):
        desk.refresher.fresh(link, deadline=desk.soon)
    post.round()

    assert ended(post) == ["revoked", "revoked"]
    assert desk.server.revoked[0] == spent
    assert desk.server.revoked[1].startswith("rt-g1-")
    assert desk.now(link).status == "revoked"


def _once(desk: Desk, act: Any) -> None:
    desk.server.before_answer = lambda: None
    act()


def test_tokens_in_a_reply_that_nobody_has_read_are_revoked_too(desk: Desk, post: Post) -> None:
    link = desk.link(expires_in=-10)
    crashpoints.arm("refresh.kept:raise")
    with pytest.raises(crashpoints.CrashPointReached):
        desk.refresher.fresh(link, deadline=desk.soon)
    crashpoints.arm("")

    post.unlink(desk).link(link.id)
    post.round()

    fresh, spent = desk.server.revoked
    assert (desk.server.alive(fresh), desk.server.alive(spent)) == (True, False)  # the server counts uses alone
    assert ended(post) == ["revoked"]


def test_a_refresh_that_lands_in_between_is_seen_and_its_tokens_are_the_ones_revoked(
    desk: Desk, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = desk.link(expires_in=30)
    tokens_of, refreshed = unlink.Unlink._tokens, []

    def meanwhile(self: unlink.Unlink, seen: Link) -> dict[str, Any]:
        found = tokens_of(self, seen)
        if not refreshed:
            refreshed.append(desk.refresher.fresh(seen, deadline=desk.soon))
        return found

    monkeypatch.setattr(unlink.Unlink, "_tokens", meanwhile)
    post.unlink(desk).link(link.id)
    post.round()

    assert desk.server.revoked == [refreshed[0].open("refresh_token").reveal()]
    assert len(post.items()) == 1


# ---- others who live by the same grant -------------------------------------------------------------------------------


def test_a_grant_by_which_another_link_lives_is_left_until_the_last_of_them_goes(desk: Desk, post: Post) -> None:
    mine, theirs = desk.link(), of_somebody(desk)

    post.unlink(desk).link(mine.id)
    post.round()
    assert (ended(post), desk.server.revoked) == (["kept_for_others"], [])
    assert desk.refresher.fresh(theirs, deadline=desk.soon).status == "active"
    post.unlink(desk).link(theirs.id)
    post.round()

    assert ended(post) == ["kept_for_others", "revoked"]
    assert len(desk.server.revoked) == 1


def test_a_link_of_another_company_counts_as_well(desk: Desk, post: Post) -> None:
    mine, theirs = desk.link(), of_somebody(desk)
    desk.store.update("db_links", {"_id": theirs.id}, {"$set": {"company_id": ObjectId()}})

    post.unlink(desk).link(mine.id)
    post.round()

    assert (ended(post), desk.server.revoked) == (["kept_for_others"], [])


@pytest.mark.parametrize("status", ["needs_reconnect", "revoked"])
def test_a_link_that_does_not_work_keeps_nothing_alive(desk: Desk, post: Post, status: str) -> None:
    mine, theirs = desk.link(), of_somebody(desk)
    desk.set(theirs, status=status)

    post.unlink(desk).link(mine.id)
    post.round()

    assert ended(post) == ["revoked"]


def test_another_account_of_the_same_service_is_no_sibling(desk: Desk, post: Post) -> None:
    mine, _ = desk.link(), of_somebody(desk, account="user-2")

    post.unlink(desk).link(mine.id)
    post.round()

    assert ended(post) == ["revoked"]


def test_a_bot_serves_its_whole_workspace_and_a_users_own_token_that_user(desk: Desk, post: Post) -> None:
    mine = desk.set(
        desk.link("slack", account="U1", user_refresh_token=desk.server.grant("mine")), provider_account="T1"
    )
    of_somebody(desk, "slack", account="U2", workspace="T1")
    own = {desk.refresh_token(mine, USER), desk.access_token(mine, USER)}

    post.unlink(desk).link(mine.id)
    post.round()

    assert set(desk.server.revoked) == own
    assert ended(post) == ["kept_for_others"]


def test_a_bot_of_another_workspace_is_revoked_with_both_its_tokens(desk: Desk, post: Post) -> None:
    mine = desk.set(desk.link("slack", account="U1"), provider_account="T1")
    of_somebody(desk, "slack", account="U2", workspace="T2")
    both = {desk.refresh_token(mine), desk.access_token(mine)}

    post.unlink(desk).link(mine.id)
    post.round()

    assert set(desk.server.revoked) == both
    assert ended(post) == ["revoked"]


def test_an_account_that_is_connected_again_before_the_vendor_was_reached_stays_connected(
    desk: Desk, post: Post
) -> None:
    link = desk.link()
    post.unlink(desk).link(link.id)
    again = desk.link()

    post.round()

    assert (again.id, desk.now(again).status) == (link.id, "active")
    assert (ended(post), desk.server.revoked) == (["kept_for_others"], [])
    assert desk.server.alive(desk.refresh_token(again))


def test_all_links_of_a_service_go_and_no_others(desk: Desk, post: Post) -> None:
    ours = [desk.link(account=f"user-{number}") for number in range(3)]
    other = desk.link("slack")
    desk.give_up(ours[2])

    done = post.unlink(desk).service("acme")
    post.round()

    assert {each.link.id for each in done} == {link.id for link in ours}
    assert [desk.now(link).status for link in (*ours, other)] == ["revoked"] * 3 + ["active"]
    assert len(desk.server.revoked) == 3
    assert post.unlink(desk).service("acme") == []


# ---- a vendor that believes the bearer alone -------------------------------------------------------------------------


def over(desk: Desk, post: Post) -> None:
    """A Clio link whose access token is over, unlinked."""
    post.unlink(desk).link(desk.link("clio", expires_in=-10).id)


def broken_off(post: Post, point: str) -> None:
    """A round that ends at a point as if the process had died there."""
    crashpoints.arm(f"{point}:raise")
    with pytest.raises(crashpoints.CrashPointReached):
        post.round()
    crashpoints.arm("")


def test_what_was_renewed_to_sign_with_is_durable_before_anything_of_it_is_read(desk: Desk, post: Post) -> None:
    """At a server that rotates, the refresh token is spent by then: whoever goes on has to find the reply."""
    desk.server.policy = "family"
    over(desk, post)
    broken_off(post, renewal.KEPT)
    kept = post.items()[0]["sealed"]["main_reply"]

    desk.clock.advance(outbox.LEASE_S + 1)
    post.round()

    assert kept["encrypted"] is True
    assert ended(post) == ["revoked"]
    assert len(desk.server.token_calls) == 1
    assert [token.rpartition("-")[0] for token in desk.server.revoked] == ["at-g1"]
    assert "sealed" not in post.items()[0]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>please log in</html>"),
        Answer(200, b'{"token_type": "Bearer"}'),
        Answer(503),
        Answer(401, b'{"error": "invalid_client"}'),
    ],
)
def test_a_renewal_that_brings_nothing_is_tried_again_and_not_taken_for_a_revocation(
    desk: Desk, post: Post, answer: Answer
) -> None:
    desk.server.policy = "reusable"
    over(desk, post)
    desk.server.script.append(answer)

    first = post.round()
    desk.clock.advance(60)
    post.round()

    assert (first.delivered, first.failed) == (0, 1)
    assert ended(post) == ["revoked"]
    assert len(desk.server.token_calls) == 2
    assert "main_reply" not in str(post.items())


def test_a_grant_that_is_over_needs_no_token_to_sign_with(desk: Desk, post: Post) -> None:
    over(desk, post)
    desk.server.script.append(Answer(400, b'{"error": "invalid_grant"}'))

    post.round()

    assert ended(post) == ["revoked"]


def test_a_kept_reply_that_does_not_open_is_asked_for_again(desk: Desk, post: Post) -> None:
    desk.server.policy = "reusable"
    over(desk, post)
    broken_off(post, renewal.KEPT)
    desk.store.update(outbox.COLLECTION, {}, {"$set": {"sealed.main_reply.ciphertext": "AAAA"}})

    desk.clock.advance(outbox.LEASE_S + 1)
    post.round()

    assert ended(post) == ["revoked"]
    assert len(desk.server.token_calls) == 2


# ---- an unlinking that never came to pass ----------------------------------------------------------------------------


def test_a_held_revocation_whose_link_was_not_unlinked_revokes_nothing(desk: Desk, post: Post) -> None:
    link = desk.link()
    crashpoints.arm(f"{unlink.INTENDED}:raise")
    with pytest.raises(crashpoints.CrashPointReached):
        post.unlink(desk).link(link.id)
    crashpoints.arm("")

    desk.clock.advance(HOLD_S + 1)
    post.round()
    assert (ended(post), post.items()[0]["attempts"]) == ([None], 0)
    for _ in range(int(HOLD_MOST_S / LOOK_AGAIN_S) + 1):
        desk.clock.advance(LOOK_AGAIN_S)
        post.round()

    assert (ended(post), desk.server.revoked) == (["not_unlinked"], [])
    assert "sealed" not in post.items()[0]
    assert desk.now(link).status == "active"


def test_a_process_that_is_stopped_for_days_within_unlinking_loses_no_token(
    desk: Desk, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, revoke = desk.link(), unlink.Unlink._revoke
    token = desk.refresh_token(link)

    def after_days(self: unlink.Unlink, seen: Link, item_id: ObjectId | None) -> Link | None:
        desk.clock.advance(HOLD_MOST_S + HOLD_S)
        post.round()
        return revoke(self, seen, item_id)

    monkeypatch.setattr(unlink.Unlink, "_revoke", after_days)
    post.unlink(desk).link(link.id)
    post.round()

    assert ended(post) == ["not_unlinked", "revoked"]
    assert desk.server.revoked == [token]


def test_nothing_is_unlinked_that_the_audit_cannot_record(
    desk: Desk, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = desk.link()

    def refuse(*_: object, **__: object) -> None:
        raise errors.StoreUnavailable("the audit log does not answer")

    monkeypatch.setattr("credentials.audit.Audit.record", refuse)
    with pytest.raises(errors.StoreUnavailable):
        post.unlink(desk).link(link.id)

    assert desk.now(link).status == "active"
    assert post.items() == []
