"""Who is alive: a process proves it by a locked file on its host and by a heartbeat in the store.

A pid proves nothing (zombies answer `kill(pid, 0)`); the kernel frees a lock the moment its process dies. So a dead
owner on this host is known at once, and one elsewhere when three heartbeats are missing.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from flow8_core.store import Document, Index, Store

COLLECTION = "workers"
INDEXES = (Index(keys=(("beat_until", 1),)),)


@dataclass(frozen=True)
class Keys:
    """The encryption keys of a process, by kid: the one that its environment names first, and all that it has; and how
    many files in its host's spool need which."""

    primary: str
    reads: tuple[str, ...]
    spooled: Mapping[str, int] = field(default_factory=dict)


class Owner:
    """One process that claims steps. Keeps its file locked until `close` or death."""

    def __init__(self, home: Path) -> None:
        folder = _folder(home)
        folder.mkdir(parents=True, exist_ok=True)
        self.id = f"{_host(folder)}:{os.getpid()}:{secrets.token_hex(4)}"
        self._path = folder / _file_name(self.id)
        self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def beat(self, store: Store, *, alive_s: float, keys: Keys | None = None) -> None:
        """Say that this owner lives for another `alive_s` seconds by the store's clock, and which keys it has."""
        until = store.now() + timedelta(seconds=alive_s)
        row: dict[str, Any] = {"host": self.id.split(":")[0], "beat_until": until}
        if keys is not None:
            row["keys"] = {"primary": keys.primary, "reads": list(keys.reads), "spooled": dict(keys.spooled)}
        store.update(COLLECTION, {"_id": self.id}, {"$set": row}, upsert=True)

    def close(self, store: Store | None = None) -> None:
        """Leave in good order: nothing of this owner is in flight any more."""
        if store is not None:
            store.delete(COLLECTION, {"_id": self.id})
        with suppress(FileNotFoundError):
            self._path.unlink()
        os.close(self._fd)


class Owners:
    """Answers whether an owner is known to be dead; a doubt counts as alive, for its lease ends anyway."""

    def __init__(self, store: Store, home: Path) -> None:
        self._store = store
        self._folder = _folder(home)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._host = _host(self._folder)

    def dead(self, owner: str) -> bool:
        """True where the owner can hear of nothing any more."""
        if owner.split(":", maxsplit=1)[0] == self._host:
            return self._dead_here(owner)
        row = self._store.get(COLLECTION, owner)
        return row is None or row["beat_until"] < self._store.now()

    def any_alive(self) -> bool:
        """Whether some worker process of the deployment lives."""
        return any(not self.dead(row["_id"]) for row in self._beating())

    def keys(self) -> dict[str, Keys]:
        """The keys of each worker process that lives, by its id; those that do not tell are left out."""
        rows = [row for row in self._beating() if row.get("keys") and not self.dead(row["_id"])]
        return {row["_id"]: Keys(row["keys"]["primary"], tuple(row["keys"]["reads"])) for row in rows}

    def spooled(self, *, here: bool) -> dict[str, int]:
        """How many files in the spools of other hosts (and of this one: `here`) need which key, as far as workers live
        there. Of the processes of one host, which share a spool, the one that says most is believed."""
        hosts: dict[str, dict[str, int]] = {}
        for row in self._beating():
            if (here or row["host"] != self._host) and not self.dead(row["_id"]):
                said = hosts.setdefault(row["host"], {})
                for kid, count in ((row.get("keys") or {}).get("spooled") or {}).items():
                    said[kid] = max(said.get(kid, 0), count)
        return dict(sum((Counter(said) for said in hosts.values()), Counter[str]()))

    def _beating(self) -> list[Document]:
        return self._store.find(COLLECTION, {"beat_until": {"$gt": self._store.now()}}, limit=1000)

    def bury(self) -> int:
        """Remove what owners long dead left behind. Returns how many rows.

        Heartbeats may be missing for hours where a machine slept or the store was away: a locked file says that its
        owner lives, and without the file it would count as dead for ever.
        """
        limit = self._store.now() - timedelta(hours=1)
        found = self._store.find(COLLECTION, {"beat_until": {"$lt": limit}}, limit=100)
        rows = [row for row in found if self.dead(row["_id"])]
        for row in rows:
            self._store.delete(COLLECTION, {"_id": row["_id"], "beat_until": row["beat_until"]})
            with suppress(FileNotFoundError):
                (self._folder / _file_name(row["_id"])).unlink()
        return len(rows)

    def _dead_here(self, owner: str) -> bool:
        try:
            fd = os.open(self._folder / _file_name(owner), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True


def _folder(home: Path) -> Path:
    return home / "owners"


def _file_name(owner: str) -> str:
    return owner.replace(":", "-")


def _host(folder: Path) -> str:
    """The name of the place whose locks this process sees: two containers may share a host name, not this folder."""
    status = folder.stat()
    return f"{socket.gethostname()}-{status.st_dev:x}-{status.st_ino:x}"
