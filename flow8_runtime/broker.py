"""Where the broker is: as configured, or the bundled Valkey that a worker of this home folder has started.

The bundled one lives and dies with workers, and comes back at the same address, so that those which are left find it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import redis

from flow8_runtime import valkey
from flow8_runtime.embedded import locked
from flow8_runtime.settings import Settings
from flow8_runtime.valkey import Valkey

ADDRESS_FILE = "broker.json"


@dataclass
class Broker:
    """The broker's address and, where this process started it, its server, which dies with this process."""

    url: str
    server: Valkey | None = None

    def flags(self) -> redis.Redis:
        """A client for the wake-up flags; every wait is bounded."""
        return redis.Redis.from_url(
            self.url, socket_timeout=5.0, socket_connect_timeout=2.0, socket_keepalive=True, health_check_interval=30
        )

    def close(self) -> None:
        if self.server is not None:
            self.server.stop()


def find(settings: Settings) -> Broker | None:
    """The configured broker, else the bundled one where it runs."""
    if settings.broker:
        return Broker(settings.broker)
    url = _kept(settings.home)
    return Broker(url) if url and _answers(url) else None


def find_or_start(settings: Settings) -> Broker:
    """As `find`; where there is none the bundled Valkey is started, at the address that it had before if that is free.

    Call it in a thread that lasts: the server ends with it.
    """
    if settings.broker:
        return Broker(settings.broker)
    with locked(settings.home / "broker.lock"):
        found = find(settings)
        if found is not None:
            return found
        server = valkey.start(settings.home, url=_kept(settings.home))
        _keep(settings.home, server.url)
        return Broker(server.url, server)


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0) as client:
            return bool(client.ping())
    except (ValueError, redis.RedisError):
        return False


def _kept(home: Path) -> str | None:
    """The address that the last one had."""
    try:
        return str(json.loads((home / ADDRESS_FILE).read_text())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(home: Path, url: str) -> None:
    """The address holds the server's password: for its owner alone."""
    path = home / ADDRESS_FILE
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump({"url": url}, file)
    fresh.rename(path)
