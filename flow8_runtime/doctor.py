"""What is wrong with an installation, and how to mend it. Each check says one thing; none changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import redis

from flow8_core.errors import Flow8Error
from flow8_core.store.probe import probe
from flow8_runtime import broker
from flow8_runtime.messages import MESSAGE_KEY
from flow8_runtime.owners import Owners
from flow8_runtime.platform import Platform

Level = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what, how it stands, and what to do where it is not well."""

    check: str
    level: Level
    message: str

    def to_dict(self) -> dict[str, str]:
        return {"check": self.check, "level": self.level, "message": self.message}


def examine(platform: Platform) -> list[Finding]:
    """All findings, in the order in which one would mend them."""
    return [
        finding
        for check in (_store, _keys, _broker, _workers, _oauth2, _messages, _transport)
        for finding in _guarded(check, platform)
    ]


def _guarded(check: Callable[[Platform], Iterator[Finding]], platform: Platform) -> list[Finding]:
    name = check.__name__.lstrip("_")
    try:
        return list(check(platform))
    except Flow8Error as error:
        return [Finding(name, "failed", error.message)]


def _store(platform: Platform) -> Iterator[Finding]:
    for promise in probe(platform.store):
        yield Finding("store", "ok" if promise.kept else "failed", f"{promise.promise}: {promise.seen}.")


def _keys(platform: Platform) -> Iterator[Finding]:
    platform.vault  # noqa: B018  # opening it compares the keys with the store's check values
    yield Finding("keys", "ok", f"They open this store (KDF {platform.settings.keys.kdf}).")


def _broker(platform: Platform) -> Iterator[Finding]:
    settings = platform.settings
    url = settings.broker or broker.find(settings.home / broker.ADDRESS_FILE)
    if url is None:
        yield Finding("broker", "ok", "None configured; the bundled Valkey starts with the first worker or run.")
        return
    client = redis.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0)
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "unknown")
    except redis.RedisError as error:
        yield Finding("broker", "failed", f"It does not answer ({type(error).__name__}); start Redis or mend `broker`.")
        return
    finally:
        client.close()
    if policy != "noeviction":
        yield Finding("broker", "warning", f"Redis evicts when full (maxmemory-policy {policy}); set noeviction.")
    yield Finding("broker", "ok", "It answers.")


def _workers(platform: Platform) -> Iterator[Finding]:
    if Owners(platform.store, platform.settings.home).any_alive():
        yield Finding("workers", "ok", "At least one is alive.")
    else:
        yield Finding("workers", "warning", "None is alive; start one with `flow8 worker`.")


def _oauth2(platform: Platform) -> Iterator[Finding]:
    for service in platform.settings.oauth2:
        platform.providers.get(service)
        yield Finding(f"oauth2.{service}", "ok", "Its declaration is complete.")
    if not platform.settings.oauth2:
        yield Finding("oauth2", "warning", "No OAuth2 application is configured; links cannot be connected.")


def _messages(platform: Platform) -> Iterator[Finding]:
    if not platform.foundation.environ.get(MESSAGE_KEY):
        yield Finding(
            "messages", "warning", f"{MESSAGE_KEY} is not set: whoever can write to the broker can start steps."
        )


def _transport(platform: Platform) -> Iterator[Finding]:
    url = platform.settings.public_url
    loopback = url.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]"))
    if url.startswith("http://") and not loopback:
        yield Finding(
            "public_url", "warning", "It is plain http: authorization codes would travel in the clear. Use https."
        )
