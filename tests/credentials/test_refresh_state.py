"""Each field of what a refresh goes by, changed alone behind its back: nothing is taken that was not meant."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from credentials import refresh, refresh_replies
from credentials.grants import COLLECTION, MAIN, USER, GrantPath
from credentials.link import Link, SealedName
from credentials.refresh_claims import LEASE_S, Claim, Claims
from credentials.token_reply import Reply, Tokens
from credentials.vault import EnvelopeRejected, Vault
from flow8_core import crashpoints, errors
from flow8_core.egress import Egress
from flow8_core.secret import Secret
from tests.counterparts.token_server import TokenServer
from tests.credentials.desk import Desk, kept, open_desk


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        yield desk
    crashpoints.arm("")


def broken_off(desk: Desk, link: Link, point: str = refresh_replies.KEPT) -> None:
    crashpoints.arm(f"{point}:raise")
    with pytest.raises(crashpoints.CrashPointReached):
        desk.refresher.fresh(link, deadline=desk.soon)
    crashpoints.arm("")


# --- what is sealed


def flipped(text: str) -> str:
    """The same with one bit of its last byte turned."""
    data = bytearray(base64.b64decode(text))
    data[-1] ^= 1
    return base64.b64encode(bytes(data)).decode()


MUTATIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    **{f"without {part}": lambda e, part=part: {k: v for k, v in e.items() if k != part} for part in
       ("encrypted", "v", "kid", "nonce", "ciphertext")},
    "encrypted: false": lambda e: e | {"encrypted": False},
    "another version": lambda e: e | {"v": 1},
    "the version as a truth": lambda e: e | {"v": True},
    "another key": lambda e: e | {"kid": "0" * 16},
    "a flipped nonce": lambda e: e | {"nonce": flipped(e["nonce"])},
    "a flipped text": lambda e: e | {"ciphertext": flipped(e["ciphertext"])},
    "a cut text": lambda e: e | {"ciphertext": e["ciphertext"][:-4]},
    "an empty text": lambda e: e | {"ciphertext": ""},
    "a field more": lambda e: e | {"more": 1},
    "nothing": lambda _: {},
}  # fmt: skip

FIELDS: list[tuple[GrantPath, SealedName]] = [
    (MAIN, "access_token"),
    (MAIN, "refresh_token"),
    (MAIN, "refresh.reply"),
    (USER, "access_token"),
    (USER, "refresh_token"),
]


def sealed_link(desk: Desk) -> Link:
    """A link with everything that may be sealed in one."""
    link = desk.link("slack", expires_in=-10, user_refresh_token=desk.server.grant("theirs"))
    broken_off(desk, link)
    return desk.now(link)


def envelope_of(link: Link, path: GrantPath, name: str) -> dict[str, Any]:
    value: Any = path.of(link.document)
    for part in name.split("."):
        value = value[part]
    return dict(value)


def opens(link: Link, path: GrantPath, name: SealedName) -> bool:
    try:
        link.open(name, path)
    except EnvelopeRejected:
        return False
    return True


def test_a_sealed_field_changed_in_any_part_does_not_open(desk: Desk) -> None:
    link = sealed_link(desk)

    for path, name in FIELDS:
        envelope, field = envelope_of(link, path, name), path.field(name)
        for what, mutation in MUTATIONS.items():
            changed = desk.set(link, **{field.replace(".", "__"): mutation(envelope)})
            assert not opens(changed, path, name), f"{field}: {what}"
        assert desk.set(link, **{field.replace(".", "__"): envelope}).open(name, path).reveal()


def test_a_sealed_field_opens_in_no_other_place(desk: Desk) -> None:
    link = sealed_link(desk)
    other = desk.link("slack", expires_in=-10, account="user-2", user_refresh_token=desk.server.grant("other"))
    moved = {"_id": other.id, "company_id": ObjectId()}

    for path, name in FIELDS:
        for field, value in moved.items():
            with pytest.raises(EnvelopeRejected):
                Link({**link.document, field: value}, desk.vault).open(name, path)
        for to_path, to_name in FIELDS:
            if (to_path, to_name) != (path, name):
                place = to_path.field(to_name).replace(".", "__")
                with pytest.raises(EnvelopeRejected):
                    desk.set(other, **{place: envelope_of(link, path, name)}).open(to_name, to_path)


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_refresh_token_that_was_changed_is_sent_nowhere(desk: Desk, what: str) -> None:
    link = desk.link(expires_in=-10)
    mutated = MUTATIONS[what](envelope_of(link, MAIN, "refresh_token"))
    desk.set(link, refresh_token=mutated)

    with pytest.raises((errors.InternalError, errors.InvalidGrant)):  # without any, there is nothing to refresh with
        desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    assert desk.server.calls == []
    assert desk.now(link).generation == 1


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_kept_reply_that_was_changed_is_not_taken(desk: Desk, what: str) -> None:
    link = desk.link(expires_in=600)
    broken_off(desk, link)
    reply = envelope_of(desk.now(link), MAIN, "refresh.reply")
    desk.set(link, refresh__reply=MUTATIONS[what](reply))

    assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).generation == 1
    assert len(desk.server.token_calls) == 1


def test_a_reply_of_an_earlier_generation_that_somebody_puts_back_is_not_taken(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    broken_off(desk, link)
    old = desk.document(link)["refresh"]
    desk.refresher.fresh(desk.now(link), deadline=desk.soon)

    desk.set(link, refresh=old | {"lease_until": desk.store.now()})

    assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).generation == 2
    assert desk.server.alive(desk.refresh_token(link))


# --- what every write compares

WRITES: dict[str, Callable[[Desk, Claims, Claim], Any]] = {
    "keep_sealed": lambda desk, claims, claim: kept(desk, claims, claim, Reply(200, {}, b"{}")),
    "store_tokens": lambda desk, claims, claim: claims.store_tokens(
        claim, Tokens(Secret("at-of-the-late"), Secret("rt-of-the-late"), 3600), desk.providers.get("acme"),
        issued_at=desk.store.now(),
    ),
    "bury": lambda _, claims, claim: claims.bury(claim, "invalid_grant", marks={}),
    "give_up": lambda _, claims, claim: claims.give_up(claim, pause_s=1.0, spent_perhaps=True),
    "hand_back": lambda _, claims, claim: claims.hand_back(claim),
}  # fmt: skip
COMPARED = {
    "generation": 7,
    "grant_id": ObjectId(),
    "company_id": ObjectId(),
    "status": "revoked",
}


@pytest.mark.parametrize("field", [*COMPARED, "refresh.owner"])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_finds_another_state_than_it_claimed_changes_nothing(desk: Desk, write: str, field: str) -> None:
    claims = Claims(desk.store, desk.vault, pause=desk.pauses.append)
    link = desk.link(expires_in=-10)
    claim = claims.take(link, MAIN, unknown=False)
    assert claim is not None
    change = {field: COMPARED.get(field, "somebody else")}
    desk.store.update(COLLECTION, {"_id": link.id}, {"$set": change})
    before = desk.document(link)

    found = WRITES[write](desk, claims, claim)

    by_generation = field == "refresh.owner" and write in ("keep_sealed", "store_tokens")
    assert (desk.document(link) != before) is by_generation  # a holder who was stopped may land what only it has
    assert bool(found) is by_generation


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 2},
        {"grant_id": ObjectId()},
        {"company_id": ObjectId()},
        {"status": "revoked"},
        {"status": "needs_reconnect"},
        {"refresh.owner": "somebody else"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_nobody_claims_a_link_that_is_not_as_it_was_read(desk: Desk, change: dict[str, Any]) -> None:
    link = desk.link(expires_in=-10)
    desk.store.update(COLLECTION, {"_id": link.id}, {"$set": change})

    assert Claims(desk.store, desk.vault).take(link, MAIN, unknown=False) is None


def test_a_claim_without_its_start_is_no_grace(
    tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress
) -> None:
    token_server.policy = "grace"
    with open_desk(tmp_path, vault, token_server, token_egress, replay="grace", grace_s=300) as desk:
        link = desk.link(expires_in=600)
        broken_off(desk, link, refresh.RECEIVED)
        desk.clock.advance(LEASE_S + 1)
        desk.set(link, refresh__started_at=None)

        assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).generation == 1
        assert len(desk.server.token_calls) == 1


def test_what_is_kept_says_with_which_generation_it_was_bought(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    broken_off(desk, link)

    kept = json.loads(desk.now(link).open("refresh.reply").reveal())

    assert kept["spent"] == [str(desk.document(link)["grant_id"]), 1]
