"""What embedded mode makes for itself: keys that are kept, whoever comes first."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from credentials import check_values
from credentials.check_values import KeyMismatch
from credentials.keyring import Keyring, KeySettings
from flow8_core.store import open_store
from flow8_runtime.embedded import KEYS_FILE, SALT, SECRET, locked, with_keys
from tests import environment

AT_ONCE = 4


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'home' / 'flow8.db'}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_given_keys_are_taken_and_nothing_is_written(home: Path, store_url: str) -> None:
    given = {SECRET: "a", SALT: "b", "OTHER": "c"}

    assert with_keys(given, home, store_url) == given
    assert not home.exists()


@pytest.mark.parametrize("given", [{SECRET: "a"}, {SALT: "b"}])
def test_half_a_configuration_is_not_filled_up(home: Path, store_url: str, given: dict[str, str]) -> None:
    assert with_keys(given, home, store_url) == given
    assert not home.exists()


def test_fresh_keys_are_for_their_owner_alone_and_told_once(
    home: Path, store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (with_keys({"OTHER": "c"}, home, store_url) for _ in range(2))

    told = capsys.readouterr()
    assert first == second
    assert first["OTHER"] == "c"
    assert Keyring.derive(KeySettings(), first).primary
    assert stat.S_IMODE((home / KEYS_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert told.out == ""
    assert told.err.count(KEYS_FILE) == 1
    assert first[SECRET] not in told.err


def test_keys_that_are_gone_are_not_replaced_where_a_store_was_sealed_with_them(home: Path, store_url: str) -> None:
    keys = with_keys({}, home, store_url)
    store = open_store(store_url)
    store.declare(check_values.COLLECTION, check_values.INDEXES)
    Keyring.derive(KeySettings(), keys).verify(store)
    store.close()
    (home / KEYS_FILE).unlink()

    with pytest.raises(KeyMismatch, match="restore it"):
        with_keys({}, home, store_url)

    assert not (home / KEYS_FILE).exists()


START = """
import os, pathlib
from flow8_runtime.platform import Foundation, Platform
platform = Platform(Foundation.lay(os.environ, pathlib.Path.cwd()))
print(platform.keyring.primary.kid, *platform.identity())
"""


def test_processes_that_start_at_once_agree_on_keys_and_identity(tmp_path: Path) -> None:
    argv, environ = [sys.executable, "-c", START], environment.clean()
    starting = [
        subprocess.Popen(argv, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(AT_ONCE)
    ]

    ended = [process.communicate(timeout=60) for process in starting]

    told = {out for out, _ in ended}
    assert len(told) == 1, ended
    assert len(told.pop().split()) == 3
    assert sum("wrote new encryption keys" in errors for _, errors in ended) == 1


def test_a_lock_is_free_again_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE, text=True, env=environment.clean()
    )
    assert holder.stdout is not None
    holder.stdout.readline()

    holder.kill()
    holder.communicate()
    with locked(path):
        mode = stat.S_IMODE(path.stat().st_mode)

    assert mode == 0o600


_HOLD = """
import pathlib, sys, time
from flow8_runtime.embedded import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_whatever_the_umask_the_keys_are_private(home: Path, store_url: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        with_keys({}, home, store_url)
    finally:
        os.umask(before)

    assert stat.S_IMODE((home / KEYS_FILE).stat().st_mode) & 0o077 == 0
