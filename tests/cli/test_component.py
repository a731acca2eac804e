"""`flow8 component`: secrets go in by file, stdin or prompt, and never come out."""

from __future__ import annotations

import json
import os
import pty
import termios
from pathlib import Path

from tests import processes
from tests.cli.kit import Home

KEY_ID, KEY = "AKIA4QWERTYUIOPASDFG", "canary/hunter2/aws+secret0123456789ABCDE"
S3 = {"provider": "s3", "bucket": "flow8-artifacts", "region": "eu-central-1"}
BODY = {"name": "aws-s3-prod", "kind": "storage", "config": {**S3, "access_key_id": KEY_ID, "secret_access_key": KEY}}
SETTINGS = [option for name, value in S3.items() for option in ("--set", f"{name}={value}")]
SECRETS = ["--secret", "access_key_id", "--secret", "secret_access_key"]


def readable_in(folder: Path, secret: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_the_seeds_body_is_answered_as_the_seed_answers_it(home: Home) -> None:
    added = home.flow8("component", "add", "--file", "-", "--json", text=json.dumps(BODY))

    assert added.code == 0
    assert {name: value for name, value in added.document.items() if name != "id"} == {
        "name": "aws-s3-prod", "kind": "storage", "config_summary": S3, "is_default": False, "warnings": [],
    }  # fmt: skip
    assert KEY not in added.said
    assert readable_in(home.folder, KEY) == []


def test_a_file_and_stdin_and_options_make_the_same_component(home: Home) -> None:
    for name in ("by-file", "by-stdin", "by-options"):
        body = json.dumps({**BODY, "name": name})
        ways = {
            "by-file": (["--file", home.write("body.json", body)], ""),
            "by-stdin": (["--file", "-"], body),
            "by-options": (["--name", name, "--kind", "storage", *SETTINGS, *SECRETS], f"{KEY_ID}\n{KEY}\n"),
        }
        arguments, text = ways[name]
        assert home.flow8("component", "add", *arguments, text=text).code == 0

    shown = [home.flow8("component", "show", name, "--json").document for name in ways]
    assert [each["config_summary"] for each in shown] == [S3] * 3


def test_a_secret_of_many_lines_comes_from_a_file(home: Home) -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\ncanaryhunter2\n-----END OPENSSH PRIVATE KEY-----\n"
    where = ["--set", "protocol=sftp", "--set", "host=sftp.example.com", "--set", "username=flow8"]
    fingerprint = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

    added = home.flow8(
        "component", "add", "--name", "drop", "--kind", "file_transfer", *where, "--set", f"host_key={fingerprint}",
        "--secret-file", f"private_key={home.write('id', key)}", "--json",
    )  # fmt: skip
    (home.folder / "id").unlink()

    assert added.code == 0, added.said
    assert "private_key" not in added.document["config_summary"]
    assert readable_in(home.folder, "canaryhunter2") == []


def test_settings_reach_into_parts_and_lists(home: Home) -> None:
    added = home.flow8(
        "component", "add", "--name", "api", "--kind", "request", "--json", "--set", "hosts=a.example,b.example:8443",
        "--set", "auth.type=header", "--set", "auth.name=X-Api-Key", "--set", "timeout_seconds=5",
        "--set", "honours_idempotency_key=true", "--secret", "auth.value", text="canary-hunter2-key\n",
    )  # fmt: skip

    assert added.document["config_summary"] == {
        "hosts": ["a.example", "b.example:8443"], "auth": {"type": "header", "name": "X-Api-Key"},
        "honours_idempotency_key": True, "timeout_seconds": 5.0,
    }  # fmt: skip


def test_at_a_terminal_the_secret_is_asked_for_without_an_echo(home: Home) -> None:
    parent, child = pty.openpty()
    command = home.start(
        "component", "add", "--name", "gpt", "--kind", "ai", "--set", "provider=openai", "--secret", "api_key",
        "--json", stdin=child, stderr=child,
    )  # fmt: skip
    os.close(child)
    secret = "sk-canaryHunter2" + "x" * 40

    processes.until(lambda: not termios.tcgetattr(parent)[3] & termios.ECHO, "a prompt without an echo")
    os.write(parent, f"{secret}\n".encode())
    answer, _ = command.communicate(timeout=30)
    on_screen = os.read(parent, 65536).decode()
    os.close(parent)

    assert command.returncode == 0
    assert "api_key" in on_screen
    assert secret not in on_screen + answer
    assert json.loads(answer)["name"] == "gpt"
    assert readable_in(home.folder, secret) == []


def test_the_first_is_the_default_and_another_can_become_it(home: Home) -> None:
    for name in ("first", "second"):
        home.flow8("component", "add", "--file", "-", text=json.dumps({**BODY, "name": name}))

    switched = home.flow8("component", "default", "second", "--json").document
    listed = home.flow8("component", "list", "--json").document["components"]

    assert switched["is_default"] is True
    assert {each["name"]: each["is_default"] for each in listed} == {"first": False, "second": True}


def test_default_says_so_at_once(home: Home) -> None:
    added = home.flow8("component", "add", "--file", "-", "--default", "--json", text=json.dumps(BODY))

    assert added.document["is_default"] is True


def test_odd_keys_are_taken_with_a_warning_and_wrong_ones_refused(home: Home) -> None:
    odd = {**BODY, "config": {**BODY["config"], "region": None}}  # type: ignore[dict-item]
    del odd["config"]["region"]
    masked = {**BODY, "name": "b", "config": {**BODY["config"], "secret_access_key": "********"}}  # type: ignore[dict-item]

    taken = home.flow8("component", "add", "--file", "-", text=json.dumps(odd))
    refused = home.flow8("component", "add", "--file", "-", "--json", text=json.dumps(masked))

    assert taken.code == 0
    assert "note" in taken.stderr
    assert (refused.code, refused.document["error"]["path"]) == (2, "config.secret_access_key")


def test_a_removed_component_is_gone(home: Home) -> None:
    added = home.flow8("component", "add", "--file", "-", "--json", text=json.dumps(BODY)).document

    removed = home.flow8("component", "rm", "aws-s3-prod", "--json")

    assert removed.document == {"deleted": added["id"]}
    assert home.flow8("component", "list", "--json").document == {"components": []}
    assert home.flow8("component", "rm", "aws-s3-prod").code == 1


def test_no_command_ever_shows_a_secret(home: Home) -> None:
    home.flow8("component", "add", "--file", "-", text=json.dumps(BODY))

    said = [
        home.flow8("component", *command, *form).said
        for command in (["list"], ["show", "aws-s3-prod"], ["default", "aws-s3-prod"], ["rm", "aws-s3-prod"])
        for form in ([], ["--json"])
    ]

    assert not any(KEY in each or KEY_ID in each for each in said)
