"""Replies that may hold the only refresh token left, sealed on a local disk until the store has them.

A file is written before the store is asked and removed once it has answered, so what lies here was left by a process
that died, or by a store that stayed away. It holds an envelope and where that belongs; nothing in it is believed before
the envelope opens there. The spool is the host's: each host adopts what its own processes left.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bson import ObjectId
from bson.errors import InvalidId

from credentials.grants import MAIN, USER, GrantPath, place
from credentials.link import Link
from credentials.vault import Place, Vault
from flow8_core.errors import InternalError

_PATHS = {"main": MAIN, "user": USER}
_SUFFIX = ".reply"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spooled:
    """A file of the spool, as it says of itself."""

    file: Path
    company_id: ObjectId
    link_id: ObjectId
    path: GrantPath
    envelope: Mapping[str, Any]

    @property
    def place(self) -> Place:
        """Where the envelope opens."""
        return place(self.path, "refresh.reply", link_id=self.link_id, company_id=self.company_id)


class Spool:
    """A folder of sealed replies; None: no spool, and nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def put(self, link: Link, path: GrantPath, envelope: Mapping[str, Any], *, sent_at: datetime) -> Path | None:
        """Write an envelope, durable when this returns. A disk that does not take it is told in the log and is no
        reason to lose the reply: the store is asked in any case."""
        if self._folder is None:
            return None
        name = _name(path)
        file = self._folder / f"{link.id}.{name}.{link.grant(path).generation}.{int(sent_at.timestamp())}{_SUFFIX}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(file, _text(link.company_id, link.id, path, envelope))
        except OSError as error:
            _log.error("the spool %s cannot be written (%s); check the disk", self._folder, error.strerror)
            return None
        return file

    def replace(self, spooled: Spooled, envelope: Mapping[str, Any]) -> None:
        """Put the same reply, sealed anew, in a file's place. Where somebody took the file meanwhile there is one again
        that its generation refuses. Raises `OSError`; the file is as it was then."""
        _write(spooled.file, _text(spooled.company_id, spooled.link_id, spooled.path, envelope))

    def kids(self, vault: Vault) -> Counter[str | None]:
        """How many files need which key; None: one that no key here opens. Raises `InternalError` where the folder may
        not be looked into: nothing is known then, and not that there is nothing."""
        try:
            if self._folder is not None and self._folder.is_dir():
                os.scandir(self._folder).close()
        except OSError as error:
            raise InternalError(
                f"The spool {self._folder} cannot be read ({error.strerror}); run this as the user of the workers."
            ) from error
        return Counter(vault.kid_of(spooled.envelope) for spooled in self.all())

    def remove(self, file: Path | None) -> None:
        """What is in the store, or of no use, is not kept twice. A disk that keeps it is told in the log: what it holds
        is refused by its generation from now on."""
        if file is None:
            return
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            _log.error("the spool's file %s cannot be removed (%s); check the disk", file.name, error.strerror)

    def all(self, link: Link | None = None) -> Iterator[Spooled]:
        """Everything that lies here, or what does for one link. A file that nobody can understand is set aside."""
        if self._folder is None or not self._folder.is_dir():
            return
        for file in sorted(self._folder.glob(f"{link.id if link else ''}*{_SUFFIX}")):
            try:
                said = json.loads(file.read_bytes())
                path, envelope = _PATHS[said["grant"]], dict(said["reply"])
                yield Spooled(file, ObjectId(said["company_id"]), ObjectId(said["link_id"]), path, envelope)
            except FileNotFoundError:
                continue  # another process of this host has it
            except (ValueError, KeyError, TypeError, InvalidId):
                _log.error("the spool's file %s makes no sense; it is set aside", file.name)
                file.rename(file.with_suffix(".odd"))


@dataclass(frozen=True)
class Spools:
    """What lies in this host's spool, and what other hosts say of theirs: how many files need which key."""

    here: Spool = field(default_factory=lambda: Spool(None))
    elsewhere: Callable[[], Mapping[str, int]] = dict

    def kids(self, vault: Vault) -> Counter[str | None]:
        """As `Spool.kids`, of all hosts that are heard of."""
        return self.here.kids(vault) + Counter[str | None](dict(self.elsewhere()))


NO_SPOOLS = Spools()


def _name(path: GrantPath) -> str:
    return next(name for name, known in _PATHS.items() if known == path)


def _text(company_id: ObjectId, link_id: ObjectId, path: GrantPath, envelope: Mapping[str, Any]) -> bytes:
    said = {"company_id": str(company_id), "link_id": str(link_id), "grant": _name(path), "reply": dict(envelope)}
    return json.dumps(said).encode()


def _write(file: Path, content: bytes) -> None:
    fresh = file.with_suffix(f".{os.getpid()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
