"""The spool: a reply that the store cannot take is not lost, and what lies on the disk is not believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from credentials import refresh_replies
from credentials.providers.catalogue import Providers
from credentials.providers.provider import Provider
from credentials.refresh import Refresher
from credentials.refresh_claims import LEASE_S
from credentials.refresh_settings import RefreshSettings
from credentials.spool import Spool
from credentials.vault import Vault
from flow8_core import crashpoints, errors
from flow8_core.egress import Egress
from tests.counterparts.token_server import TokenServer
from tests.credentials.desk import Desk, open_desk
from tests.credentials.test_refresh_windows import FlakyStore


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        desk.settings = RefreshSettings(spool=tmp_path / "deep" / "spool")
        yield desk
    crashpoints.arm("")


def files(desk: Desk) -> list[Path]:
    assert desk.settings.spool is not None
    return sorted(desk.settings.spool.iterdir()) if desk.settings.spool.exists() else []


def store_away(desk: Desk, link: Any) -> None:
    """A refresh whose reply the store never takes."""
    flaky = FlakyStore(desk.store)
    flaky.away = 10_000
    refresher = Refresher(
        flaky, desk.vault, desk.providers, desk.egress, settings=desk.settings, pause=desk.pauses.append  # type: ignore[arg-type]
    )  # fmt: skip
    with pytest.raises(errors.StoreUnavailable):
        refresher.fresh(link, deadline=desk.soon)


def adopt(desk: Desk) -> int:
    return desk.refresher.adopt(deadline=desk.soon)


def test_a_reply_that_the_store_did_not_take_is_adopted_when_it_is_back(desk: Desk) -> None:
    link = desk.link(expires_in=-10)

    store_away(desk, link)

    assert desk.now(link).generation == 1
    assert adopt(desk) == 1
    assert desk.now(link).generation == 2
    assert desk.server.alive(desk.refresh_token(link))
    assert desk.document(link)["issued_at"] == desk.store.now()
    assert len(desk.server.token_calls) == 1
    assert files(desk) == []


def test_the_next_who_needs_the_link_on_this_host_looks_there_before_it_gambles(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    store_away(desk, link)
    desk.clock.advance(LEASE_S + 1)

    assert desk.refresher.fresh(desk.now(link), deadline=desk.soon).generation == 2
    assert len(desk.server.token_calls) == 1


def test_a_link_that_was_marked_as_lost_meanwhile_lives_again(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    store_away(desk, link)
    desk.clock.advance(LEASE_S + 1)
    elsewhere = Refresher(desk.store, desk.vault, desk.providers, desk.egress, pause=desk.pauses.append)
    with pytest.raises(errors.InvalidGrant):
        elsewhere.fresh(desk.now(link), deadline=desk.soon)
    assert desk.now(link).status_reason == "refresh_outcome_lost"

    assert adopt(desk) == 1

    assert desk.now(link).status == "active"
    assert desk.server.alive(desk.refresh_token(link))


def test_a_refresh_that_goes_well_leaves_nothing_on_the_disk(desk: Desk) -> None:
    desk.refresher.fresh(desk.link(expires_in=-10), deadline=desk.soon)

    assert files(desk) == []


def test_what_lies_on_the_disk_is_sealed_and_its_owners_alone(desk: Desk) -> None:
    store_away(desk, desk.link(expires_in=-10))

    (file,) = files(desk)

    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert b"at-g1" not in file.read_bytes()
    assert b"rt-g1" not in file.read_bytes()


@pytest.mark.parametrize("field", ["company_id", "link_id", "grant"])
def test_a_file_that_names_another_place_is_not_taken(desk: Desk, field: str) -> None:
    link = desk.link(expires_in=600)
    other = desk.link(expires_in=600, account="user-2", refresh_token=desk.server.grant("g2"))
    store_away(desk, desk.set(link, refresh_at=desk.store.now()))
    (file,) = files(desk)
    said = json.loads(file.read_text())
    named = {"company_id": str(ObjectId()), "link_id": str(other.id), "grant": "user"}
    file.write_text(json.dumps(said | {field: named[field]}))

    assert adopt(desk) == 0

    assert desk.now(link).generation == desk.now(other).generation == 1
    assert "reply" not in desk.document(other).get("refresh", {})
    assert files(desk) == []


@pytest.mark.parametrize("part", ["encrypted", "v", "kid", "nonce", "ciphertext"])
def test_a_file_whose_envelope_was_changed_is_not_taken(desk: Desk, part: str) -> None:
    link = desk.link(expires_in=600)
    store_away(desk, desk.set(link, refresh_at=desk.store.now()))
    (file,) = files(desk)
    said = json.loads(file.read_text())
    file.write_text(json.dumps(said | {"reply": said["reply"] | {part: "AAAA"}}))

    assert adopt(desk) == 0
    assert desk.now(link).generation == 1


def test_a_file_of_a_key_that_this_process_lacks_stays_for_one_that_has_it(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    store_away(desk, link)
    (file,) = files(desk)
    sealed = file.read_text()
    said = json.loads(sealed)
    file.write_text(json.dumps(said | {"reply": said["reply"] | {"kid": "another"}}))

    assert adopt(desk) == 0
    assert files(desk) == [file]

    file.write_text(sealed)
    assert adopt(desk) == 1


def test_a_file_that_cannot_be_removed_takes_nothing_back(desk: Desk, tmp_path: Path) -> None:
    stubborn = tmp_path / "stubborn.reply"
    stubborn.mkdir()

    Spool(tmp_path).remove(stubborn)

    assert stubborn.exists()


def test_a_file_of_an_earlier_generation_that_somebody_puts_back_is_not_taken(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    store_away(desk, link)
    (file,) = files(desk)
    old = file.read_bytes()
    adopt(desk)

    file.write_bytes(old)

    assert adopt(desk) == 0
    assert desk.now(link).generation == 2
    assert desk.server.alive(desk.refresh_token(link))
    assert files(desk) == []


def test_a_file_of_before_a_reconnect_is_not_taken(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    store_away(desk, link)
    again = desk.link(refresh_token=desk.server.grant("g2"))
    desk.set(again, generation=1)

    assert adopt(desk) == 0
    assert desk.now(link).open("access_token").reveal() == "access-token-0"


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"grant": "main"}', b"\xff", b"null", b'{"grant": []}'])
def test_a_file_that_makes_no_sense_is_set_aside_and_holds_up_nobody(desk: Desk, content: bytes) -> None:
    link = desk.link(expires_in=-10)
    store_away(desk, link)
    assert desk.settings.spool is not None
    (desk.settings.spool / "0.reply").write_bytes(content)

    assert adopt(desk) == 1
    assert [file.suffix for file in files(desk)] == [".odd"]


def test_a_disk_that_does_not_take_it_costs_nothing_but_the_spool(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "full").write_text("no folder")
    desk.settings = RefreshSettings(spool=tmp_path / "full")

    assert desk.refresher.fresh(desk.link(expires_in=-10), deadline=desk.soon).generation == 2


def test_a_reply_for_a_link_that_was_revoked_meanwhile_is_given_back(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    store_away(desk, link)
    desk.set(link, status="revoked")

    assert adopt(desk) == 0

    assert [item["kind"] for item in desk.store.find("outbox", {})] == ["revocation"]
    assert desk.now(link).status == "revoked"
    assert files(desk) == []


def test_a_reply_of_a_service_that_is_configured_no_more_stays_and_holds_up_no_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoked, other = desk.link(expires_in=-10), desk.link("slack", expires_in=-10)
    store_away(desk, revoked)
    store_away(desk, other)
    desk.set(revoked, status="revoked")
    get = Providers.get

    def configured(self: Providers, name: str) -> Provider:
        if name == "acme":
            raise errors.ValidationFailed("acme is no provider", path="service")
        return get(self, name)

    monkeypatch.setattr(Providers, "get", configured)

    assert adopt(desk) == 1
    assert [str(revoked.id) in file.name for file in files(desk)] == [True]


def test_while_the_store_is_away_the_spool_stays_as_it_is(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    store_away(desk, link)
    flaky = FlakyStore(desk.store)
    flaky.away = 10_000
    refresher = Refresher(
        flaky, desk.vault, desk.providers, desk.egress, settings=desk.settings, pause=desk.pauses.append  # type: ignore[arg-type]
    )  # fmt: skip

    with pytest.raises(errors.StoreUnavailable):
        refresher.adopt(deadline=desk.soon)

    assert len(files(desk)) == 1
    assert adopt(desk) == 1


def test_two_processes_that_adopt_at_once_and_a_holder_that_goes_on_land_it_once(desk: Desk) -> None:
    link = desk.link(expires_in=-10)
    crashpoints.arm(f"{refresh_replies.SPOOLED}:raise")
    with pytest.raises(crashpoints.CrashPointReached):
        desk.refresher.fresh(link, deadline=desk.soon)
    crashpoints.arm("")
    (file,) = files(desk)
    content = file.read_bytes()

    assert adopt(desk) == 1
    file.write_bytes(content)
    assert adopt(desk) == 0

    assert desk.now(link).generation == 2
    assert desk.actions().count("integration_refreshed") == 1
