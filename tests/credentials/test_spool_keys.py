"""What lies in a spool needs its key as well: it is counted, sealed anew, and in the way of a key's end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from credentials import check_values, key_status
from credentials.keyring import Keyring
from credentials.link import Link
from credentials.refresh_settings import RefreshSettings
from credentials.retirement import Retirement
from credentials.rotation import Report, Rotation
from credentials.spool import NO_SPOOLS, Spool, Spools
from credentials.vault import Vault
from flow8_core.egress import Egress
from flow8_core.errors import Conflict, InternalError
from tests.counterparts.token_server import TokenServer
from tests.credentials.desk import Desk, open_desk
from tests.credentials.rotating import NEW_KID, OLD_KID, after, before
from tests.credentials.test_keyring import NEW, ring
from tests.credentials.test_spool import files, store_away


@pytest.fixture
def desk(tmp_path: Path, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    """A desk that seals with the old key, with one reply in its spool; the new key may write."""
    with open_desk(tmp_path, Vault(before()), token_server, token_egress) as desk:
        desk.settings = RefreshSettings(spool=tmp_path / "spool")
        desk.store.declare(check_values.COLLECTION, check_values.INDEXES)
        before().verify(desk.store)
        after().verify(desk.store)
        store_away(desk, desk.link(expires_in=-10))
        yield desk


def spool(desk: Desk) -> Spool:
    return Spool(desk.settings.spool)


def rotate(desk: Desk, *, with_spool: bool = True) -> Report:
    return Rotation(desk.store, before(), to=NEW_KID, spool=spool(desk) if with_spool else None).run()


def retire(desk: Desk, spools: Spools | None = None, *, abandon: bool = False) -> int:
    ended = Retirement(desk.store, after(), spools=spools or Spools(spool(desk)), pause=lambda _: None)
    return ended.run(OLD_KID, abandon=abandon).abandoned


def counted(desk: Desk, keyring: Keyring, spools: Spools | None = None) -> dict[str, int]:
    """How much lies in spools, by key."""
    found = key_status.look(desk.store, keyring, {}, spools or Spools(spool(desk)))
    return {key.kid: key.envelopes["spool"] for key in found.keys if "spool" in key.envelopes}


def with_key(desk: Desk, keyring: Keyring) -> Desk:
    return replace(desk, vault=Vault(keyring))


def only_link(desk: Desk) -> Link:
    (link,) = desk.links.list()
    return link


def test_the_status_counts_what_lies_there_by_key(desk: Desk) -> None:
    assert counted(desk, before()) == {OLD_KID: 1}


def test_a_key_is_not_retired_while_a_file_needs_it(desk: Desk) -> None:
    rotate(desk, with_spool=False)

    with pytest.raises(Conflict, match=r"still needed \(1 in spool\)"):
        retire(desk)


def test_a_rotation_seals_what_lies_there_anew_and_the_reply_is_adopted_with_the_new_key_alone(desk: Desk) -> None:
    report = rotate(desk)

    assert counted(desk, after()) == {NEW_KID: 1}
    assert report.unreadable == []
    assert retire(desk) == 0
    alone = with_key(desk, ring(NEW))
    assert alone.refresher.adopt(deadline=desk.soon) == 1
    assert (only_link(alone).generation, only_link(alone).status) == (2, "active")
    assert alone.server.alive(alone.refresh_token(only_link(alone)))
    assert files(desk) == []


def test_a_file_that_does_not_open_is_named_and_is_left_behind_by_wish(desk: Desk) -> None:
    (file,) = files(desk)
    file.write_text(file.read_text().replace('"ciphertext": "', '"ciphertext": "AAAA'))

    report = rotate(desk)

    assert [(each.collection, each.id) for each in report.unreadable] == [("spool", file.name)]
    with pytest.raises(Conflict, match="1 in spool"):
        retire(desk)
    assert retire(desk, abandon=True) == 1


def test_what_workers_of_other_hosts_say_of_theirs_counts_as_well(desk: Desk) -> None:
    rotate(desk)
    theirs = Spools(spool(desk), lambda: {OLD_KID: 2})

    assert counted(desk, after(), theirs) == {OLD_KID: 2, NEW_KID: 1}
    with pytest.raises(Conflict, match=r"still needed \(2 in spool\)"):
        retire(desk, theirs)


def test_a_file_that_is_written_while_the_key_ends_is_found_by_the_second_count(desk: Desk) -> None:
    rotate(desk)
    said = iter([{}, {OLD_KID: 1}])

    with pytest.raises(Conflict, match="1 in spool"):
        retire(desk, Spools(spool(desk), lambda: next(said)))


def test_a_file_that_somebody_took_while_it_was_sealed_anew_does_no_harm(desk: Desk) -> None:
    (spooled,) = spool(desk).all()
    assert desk.refresher.adopt(deadline=desk.soon) == 1

    spool(desk).replace(spooled, Vault(before()).resealed(spooled.place, spooled.envelope))

    assert desk.refresher.adopt(deadline=desk.soon) == 0
    assert only_link(desk).generation == 2
    assert desk.server.alive(desk.refresh_token(only_link(desk)))
    assert files(desk) == []


def test_a_folder_that_may_not_be_looked_into_is_no_empty_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    rotate(desk)

    def refused(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refused)

    with pytest.raises(InternalError, match="as the user of the workers"):
        retire(desk)


def test_without_a_spool_nothing_is_counted(desk: Desk) -> None:
    assert counted(desk, before(), NO_SPOOLS) == {}
