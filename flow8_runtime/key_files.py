"""The keys file of embedded mode during a rotation: what an operator does by hand elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from credentials.keyring import NEXT, PREVIOUS, SALT, SECRET
from flow8_runtime.embedded import KEYS_FILE, locked
from flow8_runtime.foundation import Foundation


class KeysFile:
    """`.flow8/keys.env`, changed as a whole and durable before anything relies on it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, foundation: Foundation) -> KeysFile | None:
        """The file that this folder's keys come from; None where they come from the environment or `.env`.

        `foundation` as it was laid, before its keys were looked for.
        """
        path = foundation.settings.home / KEYS_FILE
        given = foundation.environ.get(SECRET) or foundation.environ.get(SALT)
        return cls(path) if foundation.settings.embedded and not given and path.exists() else None

    def announce(self, secret: str) -> None:
        """Add the secret that will write next; one that wrote before is done with."""
        with self._changed() as lines:
            lines[NEXT] = secret
            lines.pop(PREVIOUS, None)

    def switch(self) -> None:
        """Make the next secret the current one, and the current one the previous; harmless to repeat."""
        with self._changed() as lines:
            if NEXT in lines:
                lines |= {SECRET: lines.pop(NEXT), PREVIOUS: lines[SECRET]}

    @contextmanager
    def _changed(self) -> Iterator[dict[str, str]]:
        with locked(self.path.with_name("keys.lock")):
            read = (line.partition("=") for line in self.path.read_text().splitlines() if "=" in line)
            lines = {name: value for name, _, value in read}
            yield lines
            _write(self.path, lines)


def _write(path: Path, lines: Mapping[str, str]) -> None:
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in lines.items())
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
