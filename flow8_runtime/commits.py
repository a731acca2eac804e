"""Group commit: of the threads of a process that write at once, one writes for all that wait.

A transaction costs more than what stands in it, and only one writes at a time anyway. The operations of each caller
keep their order; those of different callers are about different documents or are settled by compare-and-set.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from flow8_core.errors import StoreUnavailable
from flow8_core.store import Insert, Op, Store

LARGEST = 512  # operations of one batch: what waits behind it should not wait long


class _Entry:
    """What one caller wants written, and what came of it."""

    def __init__(self, ops: Sequence[Op]) -> None:
        self.ops = ops
        self.applied: list[bool] | None = None
        self.error: Exception | None = None

    @property
    def settled(self) -> bool:
        return self.applied is not None or self.error is not None


class Commits:
    """`Store.batch` for the threads of one process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[_Entry] = []
        self._guard = threading.Lock()
        self._turn = threading.Lock()

    def batch(self, ops: Sequence[Op]) -> list[bool]:
        """As `Store.batch`, perhaps together with those of other threads. Raises what that raises."""
        entry = _Entry(ops)
        with self._guard:
            self._waiting.append(entry)
        with self._turn:
            while not entry.settled:  # else somebody who had the turn has written it
                self._commit(self._taken())
        if entry.error is not None:
            raise entry.error
        assert entry.applied is not None  # noqa: S101  # settled without an error
        return entry.applied

    def _taken(self) -> list[_Entry]:
        with self._guard:
            count, size = 0, 0
            while count < len(self._waiting) and (count == 0 or size + len(self._waiting[count].ops) <= LARGEST):
                size += len(self._waiting[count].ops)
                count += 1
            taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    def _commit(self, entries: list[_Entry]) -> None:
        try:
            self._together(entries)
        except StoreUnavailable as error:
            for entry in entries:
                entry.error = error
        except Exception as error:  # noqa: BLE001  # one of them cannot be written: the others must not suffer for it
            if len(entries) == 1:
                entries[0].error = error
                return
            for entry in entries:
                self._commit([entry])

    def _together(self, entries: list[_Entry]) -> None:
        """Inserts first, for they lead to what is written after them, and a bulk of one kind is one message."""
        ops = [(entry, place, op) for entry in entries for place, op in enumerate(entry.ops)]
        if len(entries) > 1:
            ops.sort(key=lambda each: not isinstance(each[2], Insert))
        applied = self._store.batch([op for _, _, op in ops])
        results = {id(entry): [False] * len(entry.ops) for entry in entries}
        for (entry, place, _), done in zip(ops, applied, strict=True):
            results[id(entry)][place] = done
        for entry in entries:
            entry.applied = results[id(entry)]
