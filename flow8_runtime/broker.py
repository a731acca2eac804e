"""Where the broker is: as configured, or a bundled Valkey that the first process of a home folder starts."""

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


def find_or_start(settings: Settings) -> Broker:
    """The configured broker; without one the bundled Valkey, found by `.flow8/broker.json` or started now."""
    if settings.broker:
        return Broker(settings.broker)
    path = settings.home / ADDRESS_FILE
    with locked(settings.home / "broker.lock"):
        url = find(path)
        if url:
            return Broker(url)
        server = valkey.start(settings.home)
        _write(path, server.url)
        return Broker(server.url, server)


def find(path: Path) -> str | None:
    """The address in the file, where a server answers there."""
    try:
        url = str(json.loads(path.read_text())["url"])
        redis.Redis.from_url(url, socket_timeout=1.0, socket_connect_timeout=1.0).ping()
    except (OSError, ValueError, KeyError, redis.RedisError):
        return None
    return url


def _write(path: Path, url: str) -> None:
    """The address holds the server's password: for its owner alone."""
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump({"url": url}, file)
    fresh.rename(path)
