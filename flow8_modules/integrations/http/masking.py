"""Takes secrets out of a body while it is written, wherever its blocks are cut."""

from __future__ import annotations

import re
from typing import Protocol

from flow8_modules.integrations.http.answer import MASK


class Sink(Protocol):
    """Where the bytes go."""

    def write(self, data: bytes, /) -> int: ...


class Masking:
    """Writes what it is given into another sink, with a mask in place of each of `secrets`, the longest of which come
    first. Call `finish` after the last block: what may be the beginning of a secret is held back until then."""

    def __init__(self, sink: Sink, secrets: tuple[str, ...]) -> None:
        self._sink = sink
        self._secrets = re.compile(b"|".join(re.escape(secret.encode()) for secret in secrets)) if secrets else None
        self._longest = max((len(secret.encode()) for secret in secrets), default=1)
        self._held = b""

    def write(self, data: bytes) -> int:
        """Take a block; the number of bytes taken, which is all."""
        self._pass_on(self._held + data, keep=self._longest - 1)
        return len(data)

    def finish(self) -> None:
        """Write what was held back."""
        self._pass_on(self._held, keep=0)

    def _pass_on(self, data: bytes, *, keep: int) -> None:
        """Write all but the last `keep` bytes, in which a secret may begin whose end is yet to come."""
        place, sure = 0, len(data) - keep
        for found in self._secrets.finditer(data) if self._secrets else ():
            if found.start() >= sure:
                break
            self._sink.write(data[place : found.start()] + MASK.encode())
            place = found.end()
        rest = max(place, sure)
        self._sink.write(data[place:rest])
        self._held = data[rest:]
