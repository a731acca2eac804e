"""Embedded mode: what a shared deployment configures, one folder makes for itself on first use."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from credentials import check_values
from credentials.check_values import KeyMismatch
from credentials.kdf import generate
from flow8_core.store import open_store

SECRET, SALT = "ENC_KEY_SECRET", "ENV_KEY_SALT"
KEYS_FILE = "keys.env"


def with_keys(environ: Mapping[str, str], home: Path, store_url: str) -> Mapping[str, str]:
    """The environment with encryption keys in it: given ones, else those of `.flow8/keys.env`, made where absent.

    The file is readable by its owner alone. Only where both keys are absent is it looked at: half a configuration is a
    mistake to be told, not to be filled up. Raises `KeyMismatch` where the file is gone and the store was sealed
    before: fresh keys would open nothing of it.
    """
    if environ.get(SECRET) or environ.get(SALT):
        return environ
    path = home / KEYS_FILE
    with locked(home / "keys.lock"):
        if not path.exists():
            _refuse_if_sealed(store_url, path)
            _write_keys(path)
    lines = (line.partition("=") for line in path.read_text().splitlines() if "=" in line)
    return {**environ, **{name: value for name, _, value in lines}}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file of the home folder, which is made where absent; the kernel frees it at death."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _refuse_if_sealed(store_url: str, path: Path) -> None:
    if not Path(store_url.removeprefix("sqlite:///")).exists():
        return
    store = open_store(store_url)
    try:
        if store.count(check_values.COLLECTION, {}):
            raise KeyMismatch(f"{path} is gone, and the store was sealed with its keys: restore it from your copy.")
    finally:
        store.close()


def _write_keys(path: Path) -> None:
    secret, salt = generate()
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(f"{SECRET}={secret}\n{SALT}={salt}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    print(  # noqa: T201  # said once, to a person at a terminal
        f"flow8: wrote new encryption keys to {path}; without them no stored credential opens. Keep a copy.",
        file=sys.stderr,
    )
