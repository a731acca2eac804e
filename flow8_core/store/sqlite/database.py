"""A SQLite file in WAL mode, as one process uses it: a connection that writes behind the gate, and one that reads.

Both are made on first use. A fork closes them first, and both sides make them anew: SQLite keeps a process's locks in
tables, which a child would inherit without the locks (https://www.sqlite.org/howtocorrupt.html, section 2.6).
Nothing else in the process may open the database file: closing it would drop SQLite's POSIX locks (section 2.2).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from flow8_core.errors import StoreUnavailable
from flow8_core.store.forks import around_fork
from flow8_core.store.sqlite import catalogue
from flow8_core.store.sqlite.gate import Gate

_BUSY_MS = 400  # for foreign tools, which do not know of the gate
_NORMAL, _FULL = 1, 2
_CACHED_STATEMENTS = 512
_CHECKPOINT_PAGES = 10_000  # of 4 KiB: a checkpoint waits for the disk inside the gate, so let it be rare


class _Open:
    """What a process has open."""

    def __init__(self, gate: Gate, writer: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        self.gate = gate
        self.writer = writer
        self.reader = reader
        self.reader_lock = threading.Lock()
        self.synchronous = _NORMAL
        self.closed = False

    def close(self) -> None:
        """Once nobody uses it any more. Raises `StoreUnavailable` where somebody does for too long."""
        if not self.gate.enter():
            return
        with self.reader_lock:
            self.closed = True
            self.reader.close()
            self.writer.close()
        self.gate.close()


class Database:
    """One database file. Errors of SQLite come out as `StoreUnavailable`, except `sqlite3.IntegrityError`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._opening = threading.Lock()
        self._open: _Open | None = None
        self._inherited: list[_Open] = []
        around_fork(before=self._before_fork, in_parent=self._after_fork_in_parent, in_child=self._after_fork_in_child)

    def reading(self, *, snapshot: bool = True) -> Reading:
        """`with` it: the reading connection, for one thread at a time; all statements see one `snapshot`."""
        return Reading(self, snapshot=snapshot)

    def writing(self, *, durable: bool = False) -> Writing:
        """`with` it: a write transaction, committed at the end, rolled back on errors. `durable`: wait for the disk."""
        return Writing(self, _FULL if durable else _NORMAL)

    def close(self) -> None:
        """Close what this process has open; the next use opens it again."""
        with self._opening:
            current, self._open = self._open, None
        if current is not None:
            current.close()

    def unavailable(self, reason: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"The store {self.path} cannot be used ({reason}); check that its folder exists, is writable and has space."
        )

    def translate(self, error: BaseException | None) -> None:
        """Raise `StoreUnavailable` for an error of SQLite's."""
        if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
            raise self.unavailable(str(error)) from error

    def connected(self) -> _Open:
        """What is open now, made where nothing is."""
        current = self._open
        if current is not None:
            return current
        with self._opening:
            if self._open is None:
                try:
                    self._open = self._opened()
                except OSError as error:
                    raise self.unavailable(error.strerror or "cannot be opened") from None
                except sqlite3.Error as error:
                    raise self.unavailable(str(error)) from None
            return self._open

    def _opened(self) -> _Open:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileExistsError):  # a file that is there is left alone: see above
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        gate = Gate(self.path.with_name(self.path.name + ".gate"))
        gate.enter()  # under load, opening in WAL mode says "locked" at once
        connections: list[sqlite3.Connection] = []
        try:
            connections += (self._connection(), self._connection())
            writer, reader = connections
            writer.execute("PRAGMA journal_mode = WAL").fetchall()
            writer.execute(f"PRAGMA synchronous = {_NORMAL}")
            writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}").fetchall()
            catalogue.prepare(writer)
            reader.execute("SELECT count(*) FROM flow8_collections").fetchall()
            reader.execute("PRAGMA query_only = 1")
        except BaseException:
            for connection in connections:
                connection.close()
            gate.close()
            raise
        gate.leave()
        return _Open(gate, writer, reader)

    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, cached_statements=_CACHED_STATEMENTS
        )
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        return connection

    def _before_fork(self) -> None:
        self._opening.acquire()  # nobody opens anything until the fork is done
        if self._open is not None:
            with suppress(StoreUnavailable):
                self._open.close()
                self._open = None

    def _after_fork_in_parent(self) -> None:
        self._opening.release()

    def _after_fork_in_child(self) -> None:
        self._opening = threading.Lock()
        if self._open is not None:  # a thread of the parent was busy for too long: never touch, and never close it
            self._inherited.append(self._open)
            self._open = None


class Reading:
    """The reading connection for the time of a `with`."""

    def __init__(self, database: Database, *, snapshot: bool) -> None:
        self._database = database
        self._snapshot = snapshot

    def __enter__(self) -> sqlite3.Connection:
        while True:
            self._current = current = self._database.connected()
            current.reader_lock.acquire()
            if not current.closed:
                break
            current.reader_lock.release()
        try:
            if self._snapshot:
                current.reader.execute("BEGIN")
        except sqlite3.Error as error:
            current.reader_lock.release()
            raise self._database.unavailable(str(error)) from error
        return current.reader

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._snapshot:
                self._current.reader.execute("ROLLBACK")
        except sqlite3.Error as failure:
            self._database.translate(error or failure)
        finally:
            self._current.reader_lock.release()
        if error is not None:
            self._database.translate(error)


class Writing:
    """The writing connection for the time of a `with`, in one transaction behind the gate."""

    def __init__(self, database: Database, synchronous: int) -> None:
        self._database = database
        self._synchronous = synchronous

    def __enter__(self) -> sqlite3.Connection:
        self._current = current = self._database.connected()
        while not current.gate.enter():
            self._current = current = self._database.connected()
        try:
            if current.synchronous != self._synchronous:
                current.writer.execute(f"PRAGMA synchronous = {self._synchronous}")
                current.synchronous = self._synchronous
            current.writer.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            current.gate.leave()
            self._database.translate(error)
            raise
        return current.writer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._finish(commit=error is None)
        except sqlite3.Error as failure:
            self._database.translate(error or failure)
        finally:
            self._current.gate.leave()
        self._database.translate(error)

    def _finish(self, *, commit: bool) -> None:
        writer = self._current.writer
        try:
            if commit:
                writer.execute("COMMIT")
        finally:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
