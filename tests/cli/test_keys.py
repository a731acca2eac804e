"""`flow8 keys`, and the keys that embedded mode makes for itself."""

from __future__ import annotations

import json
import stat
from contextlib import chdir, closing
from datetime import UTC, datetime

import pytest
from bson import ObjectId

from credentials import grants
from credentials.grants import MAIN
from credentials.keyring import Keyring, KeySettings
from credentials.link import Link
from credentials.spool import Spool
from credentials.vault import EnvelopeRejected, Vault
from flow8_core.store import open_store
from flow8_runtime.owners import Keys, Owner
from flow8_runtime.platform import Foundation, Platform
from tests.cli.kit import Home


def test_generated_keys_are_lines_for_dotenv_and_work(home: Home) -> None:
    del home.environ["ENC_KEY_SECRET"], home.environ["ENV_KEY_SALT"]
    home.write(".env", home.flow8("keys", "generate").stdout)

    checked = home.flow8("keys", "check", "--json")

    assert checked.code == 0
    assert (checked.document["status"], checked.document["kdf"]) == ("ok", "argon2id")
    assert checked.document["kids"] == [checked.document["primary"]]


def test_generated_keys_differ_and_have_the_length_that_is_asked_for(home: Home) -> None:
    first, second = (home.flow8("keys", "generate", "--json").document for _ in range(2))

    assert {name: len(value) for name, value in first.items()} == {"ENC_KEY_SECRET": 256, "ENV_KEY_SALT": 64}
    assert first["ENC_KEY_SECRET"] != second["ENC_KEY_SECRET"]


def test_other_keys_than_the_stores_are_refused(home: Home) -> None:
    assert home.flow8("keys", "check").code == 0
    home.environ |= home.flow8("keys", "generate", "--json").document

    checked = home.flow8("keys", "check", "--json")

    assert (checked.code, checked.document["error"]["code"]) == (1, "internal_error")
    assert home.environ["ENC_KEY_SECRET"] not in checked.said


def test_half_a_key_is_a_mistake_that_is_told(home: Home) -> None:
    del home.environ["ENV_KEY_SALT"]

    checked = home.flow8("keys", "check", "--json")

    assert (checked.code, checked.document["error"]["path"]) == (2, "ENV_KEY_SALT")


def test_without_keys_embedded_mode_makes_some_and_says_so_once_on_stderr(home: Home) -> None:
    del home.environ["ENC_KEY_SECRET"], home.environ["ENV_KEY_SALT"]

    first, second = (home.flow8("keys", "check", "--json") for _ in range(2))

    assert "wrote new encryption keys" in first.stderr
    assert second.stderr == ""
    assert first.document == second.document
    assert stat.S_IMODE((home.folder / ".flow8" / "keys.env").stat().st_mode) == 0o600


# changing the key


def store_something(home: Home) -> str:
    """A component whose secret is sealed; its id."""
    config = {"hosts": ["api.example.com"], "auth": {"type": "bearer", "value": "sk-live-0123456789abcdef0123456789"}}
    body = json.dumps({"name": "api", "kind": "request", "config": config})
    return str(home.flow8("component", "add", "--file", "-", "--json", text=body).document["id"])


def opens(home: Home, component: str) -> bool:
    """Whether the component's secret opens with the keys that the folder has: a change of its host needs that."""
    change = json.dumps({"config": {"timeout_seconds": 20}})
    with chdir(home.folder):
        platform = Platform(Foundation.lay(home.environ, home.folder))
        try:
            company_id, _ = platform.identity()
            platform.components(company_id).update(component, json.loads(change))
        except EnvelopeRejected:
            return False
        finally:
            platform.close()
    return True


def kids(home: Home) -> dict[str, str]:
    """The state of each key, by the variable that it comes from."""
    return {key["from"]: key["state"] for key in home.flow8("keys", "status", "--json").document["keys"]}


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of a retirement, which are not waited for here: nothing else writes."""
    pauses: list[float] = []
    monkeypatch.setattr("credentials.retirement.time.sleep", pauses.append)
    return pauses


def test_in_embedded_mode_three_commands_change_the_key(home: Home, waited: list[float]) -> None:
    del home.environ["ENC_KEY_SECRET"], home.environ["ENV_KEY_SALT"]
    component = store_something(home)
    keys_file = home.folder / ".flow8" / "keys.env"
    old = keys_file.read_text().splitlines()[0].removeprefix("ENC_KEY_SECRET=")

    added = home.flow8("keys", "add", "--json")
    assert kids(home) == {"ENC_KEY_SECRET": "writing", "ENC_KEY_SECRET_NEXT": "announced"}
    rotated = home.flow8("keys", "rotate", "--json")
    assert kids(home) == {"ENC_KEY_SECRET": "writing", "ENC_KEY_SECRET_PREVIOUS": "superseded"}
    retired = home.flow8("keys", "retire", "--json")
    assert kids(home) == {"ENC_KEY_SECRET": "writing", "ENC_KEY_SECRET_PREVIOUS": "retired"}

    assert [done.code for done in (added, rotated, retired)] == [0, 0, 0]
    assert "flow8 keys rotate" in added.document["next_step"]
    assert (rotated.document["envelopes"], rotated.document["left"]) == (1, 0)
    assert "flow8 keys retire" in rotated.document["next_step"]
    assert "Remove ENC_KEY_SECRET_PREVIOUS" in retired.document["next_step"]
    assert waited == [60.0]
    assert stat.S_IMODE(keys_file.stat().st_mode) == 0o600
    lines = dict(line.split("=") for line in keys_file.read_text().splitlines())
    assert lines["ENC_KEY_SECRET_PREVIOUS"] == old  # copies of the database may need it
    keys_file.write_text("".join(f"{name}={lines[name]}\n" for name in ("ENC_KEY_SECRET", "ENV_KEY_SALT")))
    assert opens(home, component)
    assert not any(secret in done.said for done in (added, rotated, retired) for secret in lines.values())


def test_the_next_rotation_replaces_what_the_last_one_left_in_the_file(home: Home, waited: list[float]) -> None:
    del home.environ["ENC_KEY_SECRET"], home.environ["ENV_KEY_SALT"]
    component = store_something(home)
    for command in ("add", "rotate", "retire", "add", "rotate", "retire"):
        assert home.flow8("keys", command).code == 0

    assert opens(home, component)
    assert len((home.folder / ".flow8" / "keys.env").read_text().splitlines()) == 3


def test_elsewhere_the_operator_moves_the_secrets_and_is_told_where(home: Home, waited: list[float]) -> None:
    component, environ = store_something(home), home.environ

    added = home.flow8("keys", "add")
    name, _, secret = added.stdout.strip().partition("=")
    assert (name, len(secret)) == ("ENC_KEY_SECRET_NEXT", 256)
    assert secret not in added.stderr
    environ[name] = secret
    assert home.flow8("keys", "add", "--json").document["ENC_KEY_SECRET_NEXT"] is None  # it is there already
    early = home.flow8("keys", "retire", "--json")
    assert (early.code, early.document["error"]["code"]) == (2, "validation_error")
    rotated = home.flow8("keys", "rotate", "--json").document
    assert rotated["next_step"].startswith("Make ENC_KEY_SECRET_NEXT the ENC_KEY_SECRET")
    early = home.flow8("keys", "retire", "--json")
    assert (early.code, early.document["error"]["code"]) == (1, "conflict")
    old, environ["ENC_KEY_SECRET"] = environ["ENC_KEY_SECRET"], environ.pop(name)
    environ["ENC_KEY_SECRET_PREVIOUS"] = old
    assert home.flow8("keys", "retire", "--settle", "10").code == 0
    del environ["ENC_KEY_SECRET_PREVIOUS"]

    assert waited == [10.0]
    assert opens(home, component)
    environ["ENC_KEY_SECRET"] = old
    refused = home.flow8("keys", "status", "--json")
    assert (refused.code, refused.document["error"]["code"]) == (1, "internal_error")


def test_a_second_rotation_waits_for_the_end_of_the_first(home: Home) -> None:
    store_something(home)
    home.environ["ENC_KEY_SECRET_NEXT"] = home.flow8("keys", "add", "--json").document["ENC_KEY_SECRET_NEXT"]
    home.flow8("keys", "rotate")
    del home.environ["ENC_KEY_SECRET_NEXT"]

    refused = home.flow8("keys", "add", "--json")

    assert refused.code == 1
    assert home.environ["ENC_KEY_SECRET"] not in refused.said


def test_a_record_that_does_not_open_is_named_and_the_command_ends_with_1(home: Home) -> None:
    component = store_something(home)
    home.environ["ENC_KEY_SECRET_NEXT"] = home.flow8("keys", "add", "--json").document["ENC_KEY_SECRET_NEXT"]
    with closing(open_store(f"sqlite:///{home.folder / '.flow8' / 'flow8.db'}")) as store:
        store.update("component_configs", {}, {"$set": {"config.auth.value.ciphertext": "AAAA"}})

    rotated, said = home.flow8("keys", "rotate", "--json"), home.flow8("keys", "rotate").stderr

    assert rotated.code == 1
    named = {"collection": "component_configs", "id": component, "field": "config.auth.value"}
    assert rotated.document["unreadable"] == [named]
    assert rotated.document["left"] == 1
    assert component in said


def test_a_worker_that_cannot_read_the_new_key_is_in_the_way(home: Home) -> None:
    """It was started before `keys add`, and has not been restarted."""
    store_something(home)
    primary = home.flow8("keys", "check", "--json").document["primary"]
    owner = Owner(home.folder / ".flow8")
    with closing(open_store(f"sqlite:///{home.folder / '.flow8' / 'flow8.db'}")) as store:
        owner.beat(store, alive_s=60, keys=Keys(primary, (primary,)))
        added = home.flow8("keys", "add", "--json").document
        home.environ["ENC_KEY_SECRET_NEXT"] = added["ENC_KEY_SECRET_NEXT"]

        status, refused = home.flow8("keys", "status", "--json"), home.flow8("keys", "rotate", "--json")

        assert "1 living workers cannot read" in status.document["next_step"]
        assert (refused.code, refused.document["error"]["code"]) == (1, "conflict")
        owner.beat(store, alive_s=60, keys=Keys(primary, (primary, added["kid"])))
        assert home.flow8("keys", "rotate").code == 0
        owner.close(store)


def test_a_reply_in_the_spool_is_counted_and_sealed_anew_and_in_the_way_of_the_keys_end(
    home: Home, waited: list[float]
) -> None:
    home.environ["FLOW8_REFRESH__SPOOL"] = str(home.folder / "spool")
    store_something(home)
    link = Link({"_id": ObjectId(), "company_id": ObjectId(), "generation": 1}, Vault(primary_ring(home)))
    place = grants.place(MAIN, "refresh.reply", link_id=link.id, company_id=link.company_id)
    file = Spool(home.folder / "spool").put(link, MAIN, link.vault.seal(place, "{}"), sent_at=datetime.now(UTC))
    assert file is not None
    content = file.read_bytes()

    counted = home.flow8("keys", "status", "--json").document["keys"][0]["envelopes"]
    old = home.environ["ENC_KEY_SECRET"]
    home.environ["ENC_KEY_SECRET_NEXT"] = home.flow8("keys", "add", "--json").document["ENC_KEY_SECRET_NEXT"]
    rotated = home.flow8("keys", "rotate", "--json").document
    home.environ |= {"ENC_KEY_SECRET": home.environ.pop("ENC_KEY_SECRET_NEXT"), "ENC_KEY_SECRET_PREVIOUS": old}
    file.write_bytes(content)  # as if a process with the old key had written it since
    refused = home.flow8("keys", "retire", "--json")
    file.unlink()

    assert counted == {"audit_logs": 1, "component_configs": 1, "spool": 1}
    assert (rotated["envelopes"], rotated["left"]) == (2, 0)
    assert (refused.code, refused.document["error"]["code"]) == (1, "conflict")
    assert "1 in spool" in refused.document["error"]["message"]
    assert home.flow8("keys", "retire", "--json").code == 0


def primary_ring(home: Home) -> Keyring:
    """The keys that the folder has."""
    return Keyring.derive(KeySettings(), home.environ)


def test_the_status_is_a_table_that_can_be_cut(home: Home) -> None:
    store_something(home)

    shown = home.flow8("keys", "status")

    header, row = shown.stdout.splitlines()
    assert header.startswith("key")
    assert "writing" in row
    assert "1 component_configs" in row
    assert "Nothing to do" in shown.stderr
