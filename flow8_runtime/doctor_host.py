"""What `doctor` looks at on this machine: the environment, files and who can read them, ports."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from flow8_core import crashpoints, logging
from flow8_core.settings import ENV_NAME
from flow8_runtime.broker import ADDRESS_FILE
from flow8_runtime.embedded import KEYS_FILE
from flow8_runtime.findings import Finding, Findings

OTHERS = stat.S_IRWXG | stat.S_IRWXO
SECRET_FILES = (KEYS_FILE, ADDRESS_FILE)
FORBIDDEN = ("OAUTHLIB_INSECURE_TRANSPORT", "OAUTHLIB_RELAX_TOKEN_SCOPE")
PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def variables(environ: Mapping[str, str]) -> Findings:
    """Variables that weaken what is promised, or do not do what one may think."""
    for name in FORBIDDEN:
        if environ.get(name):
            yield Finding("environment", "failed", f"{name} switches checks of OAuth2 off; unset it.")
    if environ.get(logging.UNSAFE_DEBUG):
        yield Finding("environment", "warning", f"{logging.UNSAFE_DEBUG} lets libraries log what they send; unset it.")
    if environ.get(crashpoints.VARIABLE):
        yield Finding("environment", "warning", f"{crashpoints.VARIABLE} ends processes on purpose; unset it.")
    if any(environ.get(name) for name in PROXIES):
        yield Finding("environment", "warning", "A proxy is set, and flow8 does not use it: it connects directly.")


def files(home: Path, store: str) -> Findings:
    """The home folder, and whether others can read what is secret in it."""
    if not home.exists():
        yield from _makeable(home)
        return
    if not os.access(home, os.W_OK | os.X_OK):
        yield Finding("files", "failed", f"{home} cannot be written by this user; change its owner.")
    if _mode(home) & OTHERS:
        yield Finding("files", "warning", f"Others can look into {home}: chmod 700 {home}")
    for name in SECRET_FILES:
        yield from _kept_to_oneself(home / name)
    database = _database(store)
    if database is not None and database.exists() and _mode(database) & OTHERS and _mode(database.parent) & OTHERS:
        yield Finding("files", "warning", f"Others can read {database}: chmod 600 {database}")


def dotenv(folder: Path) -> Findings:
    """Whether others can read the settings' `.env`."""
    yield from _kept_to_oneself(folder / ENV_NAME)


def is_there(store: str) -> bool:
    """Whether the store exists: a server's does, a file perhaps not yet."""
    database = _database(store)
    return database is None or database.exists()


def cannot_serve(port: int) -> str | None:
    """Why a port of loopback cannot be served; None where it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError as error:
            return _WORDS.get(error.errno or 0, str(error.strerror))
    return None


_WORDS = {
    errno.EADDRINUSE: "another program has it",
    errno.EACCES: "ports below 1024 are the administrator's",
}


def _makeable(home: Path) -> Findings:
    parent = next(folder for folder in home.absolute().parents if folder.exists())
    if os.access(parent, os.W_OK | os.X_OK):
        yield Finding("files", "ok", f"{home} is not there yet; the first command that needs it makes it.")
    else:
        yield Finding("files", "failed", f"{home} cannot be made: {parent} cannot be written by this user.")


def _kept_to_oneself(path: Path) -> Findings:
    if path.exists() and _mode(path) & OTHERS:
        yield Finding("files", "failed", f"Others can read {path}, which holds secrets: chmod 600 {path}")


def _database(store: str) -> Path | None:
    return Path(store.removeprefix("sqlite:///")) if store.startswith("sqlite:") else None


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
