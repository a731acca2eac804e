"""A SQLite file in WAL mode, as one process uses it: a connection that writes behind the gate, and one that reads.

Both are made on first use and again after a fork: a connection that crosses a fork loses its locks. Nothing else in the
process may open the database file: closing it would drop SQLite's POSIX locks.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flow8_core.errors import StoreUnavailable
from flow8_core.store.sqlite.catalogue import TABLES
from flow8_core.store.sqlite.gate import Gate

_BUSY_MS = 400  # for foreign tools, which do not know of the gate
_NORMAL, _FULL = 1, 2
_CACHED_STATEMENTS = 512


@dataclass(slots=True)
class _Open:
    """What one process has open."""

    gate: Gate
    writer: sqlite3.Connection
    reader: sqlite3.Connection
    reader_lock: threading.Lock
    synchronous: int = _NORMAL


class Database:
    """One database file. Errors of SQLite come out as `StoreUnavailable`, except `sqlite3.IntegrityError`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._opening = threading.Lock()
        self._open: _Open | None = None
        self._inherited: list[_Open] = []
        forget = weakref.WeakMethod(self._forget)
        os.register_at_fork(after_in_child=lambda: (method := forget()) and method())

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The reading connection, for one thread at a time."""
        with self._errors():
            current = self._open or self._connect()
            with current.reader_lock:
                yield current.reader

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed at the end, rolled back on any error. `durable` waits for the disk."""
        with self._errors():
            current = self._open or self._connect()
            with current.gate.entered():
                wanted = _FULL if durable else _NORMAL
                if current.synchronous != wanted:
                    current.writer.execute(f"PRAGMA synchronous = {wanted}")
                    current.synchronous = wanted
                current.writer.execute("BEGIN IMMEDIATE")
                try:
                    yield current.writer
                    current.writer.execute("COMMIT")
                finally:
                    if current.writer.in_transaction:
                        current.writer.execute("ROLLBACK")

    def close(self) -> None:
        """Close what this process has open; the next use opens it again."""
        with self._opening:
            current, self._open = self._open, None
        if current is not None:
            with current.gate.entered(), current.reader_lock:
                current.reader.close()
                current.writer.close()
            current.gate.close()

    def _connect(self) -> _Open:
        with self._opening:
            if self._open is None:
                self._open = self._opened()
            return self._open

    def _opened(self) -> _Open:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            gate = Gate(self.path.with_name(self.path.name + ".gate"))
        except OSError as error:
            raise self._unavailable(error.strerror or "cannot be opened") from None
        with gate.entered():
            writer, reader = self._connection(), self._connection()
            writer.execute("PRAGMA journal_mode = WAL").fetchall()
            writer.execute(f"PRAGMA synchronous = {_NORMAL}")
            writer.executescript(TABLES)
            reader.execute("SELECT count(*) FROM sqlite_master").fetchall()
            reader.execute("PRAGMA query_only = 1")
        return _Open(gate, writer, reader, threading.Lock())

    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, cached_statements=_CACHED_STATEMENTS
        )
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        return connection

    def _forget(self) -> None:
        """In a forked child: never touch, and never close, what the parent has open."""
        self._opening = threading.Lock()
        if self._open is not None:
            self._open.gate.close()
            self._inherited.append(self._open)
            self._open = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise self._unavailable(str(error)) from error

    def _unavailable(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"The store {self.path} cannot be used ({reason}); check that its folder exists, is writable and has space."
        )
