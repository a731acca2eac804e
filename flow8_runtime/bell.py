"""Wakes workers from outside of one: a producer, a command, the API."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import redis

from flow8_core.errors import Flow8Error
from flow8_runtime import broker
from flow8_runtime.settings import Settings
from flow8_runtime.wakeup import Wakeup


class Bell:
    """The broker's wake-ups for one process. The broker is looked for when it is first needed, and again until it is
    there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wakeup: Wakeup | None = None
        self.flags: redis.Redis | None = None

    def ring(self, queues: Iterable[str]) -> None:
        """Wake workers. Without a broker there is none alive to wake: a worker looks into the ledger when it starts,
        and where the broker does not answer now, the sweep wakes one later."""
        wakeup = self.find()
        if wakeup is None:
            return
        with suppress(Flow8Error):
            for queue in queues:
                wakeup.ring(queue)

    def find(self) -> Wakeup | None:
        """The broker's wake-up; None where there is no broker yet."""
        found = broker.find(self._settings) if self._wakeup is None else None
        if found is not None:
            self.flags = found.flags()
            self._wakeup = Wakeup(self.flags)
        return self._wakeup

    def close(self) -> None:
        """Close the connection."""
        if self.flags is not None:
            self.flags.close()
