"""`doctor` says what is wrong and what mends it, and leaves everything as it was."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml
from bson import ObjectId

from credentials import kdf, outbox
from credentials.link import Link
from flow8_api.app import make_app
from flow8_api.server import listen, make_server
from flow8_core.errors import AppBlocked
from flow8_runtime import doctor, doctor_host
from flow8_runtime.findings import Finding
from flow8_runtime.platform import Foundation, Platform
from tests import keys, processes

KEYS = dict(zip(("ENC_KEY_SECRET", "ENV_KEY_SALT"), kdf.generate(), strict=True))
SLACK = {"client_id": "1.2", "client_secret": "canary-hunter2-of-slack"}


class Patient:
    """An installation in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = dict(KEYS)

    def settings(self, **settings: Any) -> None:
        (self.folder / "flow8.yaml").write_text(yaml.safe_dump(settings))

    def examine(self) -> list[Finding]:
        with chdir(self.folder):
            return doctor.examine(self.environ, self.folder)

    def platform(self) -> Platform:
        """Open it, as a command would."""
        with chdir(self.folder):
            return Platform(Foundation.lay(self.environ, self.folder))

    def used(self) -> None:
        """As after the first command."""
        with chdir(self.folder):
            platform = self.platform()
            platform.connect  # noqa: B018  # store and keys
            platform.close()

    def told(self, check: str, level: str) -> str:
        """What is said at this level of a check."""
        return " ".join(found.message for found in self.examine() if (found.check, found.level) == (check, level))


@pytest.fixture(autouse=True)
def _keys_are_derived_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examining an installation costs a fifth of a second for that alone."""
    monkeypatch.setattr(kdf, "derive", keys.derive)


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    found = Patient(tmp_path)
    found.settings(public_url=f"http://127.0.0.1:{processes.free_port()}", oauth2={"slack": SLACK})
    return found


def test_a_sound_installation_has_nothing_that_fails_or_warns(patient: Patient) -> None:
    patient.used()

    assert [found for found in patient.examine() if found.level != "ok"] == []


def test_an_empty_folder_is_sound_and_stays_empty(tmp_path: Path) -> None:
    empty = Patient(tmp_path)
    empty.environ = {}

    found = empty.examine()

    assert {finding.level for finding in found} <= {"ok", "warning"}
    assert list(tmp_path.iterdir()) == []


def test_looking_makes_no_keys_where_only_the_store_is_there(patient: Patient) -> None:
    patient.environ = {}
    with chdir(patient.folder):
        platform = patient.platform()
        platform.identity()
        platform.close()

    assert "none yet" in patient.told("keys", "ok")
    assert not (patient.folder / ".flow8" / "keys.env").exists()


def test_settings_that_cannot_be_read_are_the_only_finding_each_with_its_key(patient: Patient) -> None:
    patient.settings(oauth2={"slack": {"client_id": 1, "client_sekret": "x"}}, stroe="x")

    found = patient.examine()

    assert {finding.check for finding in found} == {"settings"}
    assert all(finding.level == "failed" for finding in found)
    assert any("stroe" in finding.message for finding in found)


def test_other_keys_than_the_stores_fail(patient: Patient) -> None:
    patient.used()
    patient.environ |= dict(zip(KEYS, kdf.generate(), strict=True))

    assert "does not have" in patient.told("keys", "failed")


def test_a_keys_file_that_is_gone_fails(patient: Patient) -> None:
    patient.environ = {}
    patient.used()
    (patient.folder / ".flow8" / "keys.env").unlink()

    assert "is gone" in patient.told("keys", "failed")


@pytest.mark.parametrize("name", [".flow8/keys.env", ".flow8/broker.json", ".env"])
def test_secrets_that_others_can_read_fail_with_the_command_that_mends_it(patient: Patient, name: str) -> None:
    patient.used()
    path = patient.folder / name
    path.touch()
    path.chmod(0o640)

    told = patient.told("files", "failed")

    assert "chmod 600" in told
    path.chmod(0o600)
    assert patient.told("files", "failed") == ""


def test_a_home_that_others_can_look_into_is_worth_a_warning(patient: Patient) -> None:
    patient.used()
    (patient.folder / ".flow8").chmod(0o755)

    assert "chmod 700" in patient.told("files", "warning")


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator can write everywhere")
def test_a_folder_that_cannot_be_written_fails(patient: Patient) -> None:
    patient.folder.chmod(stat.S_IRUSR | stat.S_IXUSR)

    told = patient.told("files", "failed")

    patient.folder.chmod(0o700)
    assert "cannot be written" in told


def test_a_broker_that_does_not_answer_fails(patient: Patient) -> None:
    patient.environ["FLOW8_BROKER"] = f"redis://127.0.0.1:{processes.free_port()}/0"

    assert "does not answer" in patient.told("broker", "failed")


def test_a_broker_that_answers_is_well_and_its_messages_want_a_key(patient: Patient, redis_url: str) -> None:
    patient.environ["FLOW8_BROKER"] = redis_url

    assert "answers" in patient.told("broker", "ok")
    assert "FLOW8_MESSAGE_KEY" in patient.told("messages", "warning")


def test_what_the_outbox_has_given_up_is_worth_a_warning(patient: Patient) -> None:
    patient.used()
    with chdir(patient.folder):
        platform = patient.platform()
        named = {"company_id": ObjectId(), "kind": "event", "lane": "event"}
        outbox.put(platform.store, ObjectId(), **named)
        platform.store.update(outbox.COLLECTION, named, {"$set": {"ended": outbox.DEAD}})
        platform.close()

    assert "1 events or revocations were given up" in patient.told("outbox", "warning")


def test_an_application_that_its_service_refuses_fails_until_it_is_mended(patient: Patient) -> None:
    patient.used()
    refused = AppBlocked("Slack refuses our application.", provider_code="bad_client_secret")
    with chdir(patient.folder):
        platform = patient.platform()
        link = Link({"_id": ObjectId()}, platform.vault)
        platform.applications.refused(platform.providers.get("slack"), refused, link, now=platform.store.now())
        platform.close()

    assert "bad_client_secret" in patient.told("oauth2.slack", "failed")
    patient.settings(oauth2={"slack": SLACK | {"client_secret": "another-one"}})
    assert patient.told("oauth2.slack", "failed") == ""


def test_a_store_that_is_down_fails_and_the_rest_is_looked_at_all_the_same(patient: Patient) -> None:
    patient.settings(store="mongodb://127.0.0.1:1/flow8", oauth2={"slack": SLACK})

    found = {finding.check: finding.level for finding in patient.examine()}

    assert found["store"] == "failed"
    assert "modules" in found


def test_the_callbacks_port_is_ours_free_or_a_strangers(patient: Patient) -> None:
    patient.used()
    port = patient.platform().settings.callback_port

    assert "is free" in patient.told("callback", "ok")
    with socket.create_server(("127.0.0.1", port)):
        assert "another program" in patient.told("callback", "failed")


def test_our_own_api_on_the_callbacks_port_is_known(patient: Patient) -> None:
    import threading

    with chdir(patient.folder):
        platform = patient.platform()
        with listen("127.0.0.1", platform.settings.callback_port) as listener:
            server = make_server(make_app(platform))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            told = patient.told("callback", "ok")
            server.should_exit = True
            thread.join(10)
        platform.close()

    assert "flow8 serve" in told


def test_a_port_below_1024_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)

    assert "1024" in (doctor_host.cannot_serve(443) or "")


@pytest.mark.parametrize(
    ("settings", "check", "word"),
    [
        ({"public_url": "http://flow8.example.com"}, "callback", "https"),
        ({"oauth2": {}}, "oauth2", "cannot be connected"),
        ({"oauth2": {"slack": {"client_id": "1"}}}, "oauth2.slack", "client_secret"),
        ({"egress": {"allow": ["10.0.0.5:9000", "127.0.0.1:9000"]}}, "egress", "10.0.0.5:9000"),
        ({"keys": {"unbound": {"kdf": "scrypt", "write": True}}}, "keys", "unbound"),
        ({"broker": "redis://10.255.255.1:6379/0"}, "messages", "FLOW8_MESSAGE_KEY"),
    ],
)
def test_what_is_risky_is_worth_a_warning(patient: Patient, settings: dict[str, Any], check: str, word: str) -> None:
    patient.settings(**{"oauth2": {"slack": SLACK}, **settings})

    told = patient.told(check, "warning")

    assert word in told
    assert SLACK["client_secret"] not in told


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("OAUTHLIB_INSECURE_TRANSPORT", "failed"),
        ("OAUTHLIB_RELAX_TOKEN_SCOPE", "failed"),
        ("FLOW8_UNSAFE_DEBUG", "warning"),
        ("FLOW8_CRASH_AT", "warning"),
        ("HTTPS_PROXY", "warning"),
    ],
)
def test_variables_that_weaken_what_is_promised_are_named(name: str, level: str) -> None:
    (found,) = doctor_host.variables({name: "1"})

    assert (found.level, found.check) == (level, "environment")


def test_a_ca_of_the_operators_own_is_trusted_and_named(patient: Patient, loopback_tls: Any) -> None:
    patient.settings(egress={"ca_file": str(loopback_tls.ca_file)})
    trusted = patient.told("egress", "warning")
    patient.settings(egress={"ca_file": str(patient.folder / "flow8.yaml")})

    assert str(loopback_tls.ca_file) in trusted
    assert "PEM" in patient.told("egress", "failed")


def test_a_package_that_is_missing_is_told_with_the_command_that_installs_it(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"slack": "no_such_package"})

    assert "pip install 'flow8-modules[slack]'" in patient.told("modules", "warning")
