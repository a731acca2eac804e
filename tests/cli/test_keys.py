"""`flow8 keys`, and the keys that embedded mode makes for itself."""

from __future__ import annotations

import stat

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
