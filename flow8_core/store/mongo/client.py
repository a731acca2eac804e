"""A MongoDB database as one process uses it: its client, its clock, and what its errors mean to us."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, NoReturn

import pymongo
from pymongo import ReadPreference
from pymongo import errors as mongo_errors
from pymongo.collection import Collection
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from flow8_core.clock import Clock, to_millis
from flow8_core.errors import Flow8Error, StoreUnavailable, ValidationFailed
from flow8_core.store.base import Document, DuplicateKey
from flow8_core.store.dialect.documents import OPTIONS
from flow8_core.store.forks import around_fork

Mongo = Collection[Document]

DEFAULT_DATABASE = "flow8"
# Two seconds bound every call. pymongo waits for a server in steps of half a second, and rounds up.
TOTAL_S = 1.4
ANSWER_WITHIN_S = 1.0  # a write's first answer; what is left of the total settles it
CONNECT_WITHIN_S = 1.0
DECLARE_WITHIN_S = 60.0  # filling an index takes as long as it takes
CLOCK_VALID_S, CLOCK_READINGS = 30.0, 3

_COMMAND_NOT_FOUND = 59
_REFUSED_VALUE = frozenset(  # error_codes.yml of MongoDB's source; 10141.. are what older servers say for 2 (BadValue)
    (2, 9, 14, 28, 40, 52, 53, 66, 171, 10141, 10142, 10143, 10334, 17280)
)
_REFUSED_US = frozenset((13, 18))  # Unauthorized, AuthenticationFailed
_LOST = (mongo_errors.ConnectionFailure, mongo_errors.ExecutionTimeout, mongo_errors.WriteConcernError)


class AnswerLost(Exception):
    """A command was sent, or may have been, and its answer was not heard."""


@dataclass(frozen=True, slots=True)
class _ClockReading:
    server: datetime
    monotonic: float
    took_s: float


class MongoConnection:
    """The client of this process, made on first use and again after a fork, with majority and journalled writes.

    Raises `ValidationFailed` for a URL that pymongo does not understand. No message holds anything of the URL but the
    host names.
    """

    def __init__(self, url: str, *, clock: Clock) -> None:
        try:
            parsed = parse_uri(url, validate=True) if url.startswith("mongodb://") else {}
        except (mongo_errors.PyMongoError, ValueError):
            raise ValidationFailed("The store's mongodb:// URL cannot be read.", path="store") from None
        self._url = url
        self._name: str = parsed.get("database") or _database_of(url)
        self.hosts = ", ".join(f"{host}:{port}" for host, port in parsed.get("nodelist", ())) or _host_of(url)
        self._clock = clock
        self._lock = threading.Lock()
        self._client: pymongo.MongoClient[Document] | None = None
        self._collections: dict[str, Mongo] = {}
        self._inherited: list[Any] = []
        self._reading: _ClockReading | None = None
        around_fork(in_child=self._after_fork_in_child)

    def collection(self, name: str) -> Mongo:
        """A collection, read from the primary and written with majority and journal, whatever the URL says."""
        found = self._collections.get(name)
        if found is None:
            concern = WriteConcern(w="majority", j=True)
            found = self._connected().get_database(self._name, OPTIONS, ReadPreference.PRIMARY, concern)[name]
            self._collections[name] = found
        return found

    def now(self) -> datetime:
        """The server's clock: asked for twice a minute, and carried on by our monotonic clock in between."""
        reading = self._reading
        if reading is None or self._clock.monotonic() - reading.monotonic > CLOCK_VALID_S:
            self._reading = reading = self._read_clock()
        return to_millis(reading.server + timedelta(seconds=self._clock.monotonic() - reading.monotonic))

    def asking(self, seconds: float) -> Asking:
        """`with` it around commands: `seconds` in total. Raises `AnswerLost`, or one of ours."""
        return Asking(self, seconds, changes=True)

    def reading(self, seconds: float = TOTAL_S) -> Asking:
        """`with` it around commands that change nothing: a lost answer is `StoreUnavailable`."""
        return Asking(self, seconds, changes=False)

    def refused(self, code: int | None, details: Mapping[str, Any] | None) -> Flow8Error:
        """What a server's refusal means. Its own text is kept away: it may quote the document."""
        if code == 11000:
            return DuplicateKey("There already is a document with this _id or these unique values.")
        if code in _REFUSED_VALUE:
            name = (details or {}).get("codeName", code)
            return ValidationFailed(f"MongoDB refuses a value of the write ({name}).")
        if code in _REFUSED_US:
            return self.unavailable("it refuses our user or password")
        return self.unavailable(f"it refused a command with code {code}")

    def unavailable(self, reason: str, *, ambiguous: bool = False) -> StoreUnavailable:
        return StoreUnavailable(
            f"The store at {self.hosts} cannot be used: {reason}. Check that MongoDB runs and is reachable from here.",
            ambiguous=ambiguous,
        )

    def doubtful(self) -> StoreUnavailable:
        """The error for a write of which nobody can say whether it took place."""
        return self.unavailable("a write may or may not have taken place", ambiguous=True)

    def close(self) -> None:
        """Give the connections back; the next use connects again."""
        with self._lock:
            client, self._client, self._collections = self._client, None, {}
        if client is not None:
            client.close()

    def _connected(self) -> pymongo.MongoClient[Document]:
        with self._lock:
            if self._client is None:
                try:
                    self._client = pymongo.MongoClient(
                        self._url,
                        serverSelectionTimeoutMS=int(TOTAL_S * 1000),
                        connectTimeoutMS=int(CONNECT_WITHIN_S * 1000),
                        appname="flow8",
                    )
                except (mongo_errors.PyMongoError, ValueError):
                    raise self.unavailable("its URL cannot be used or resolved") from None
            return self._client

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._inherited.append(self._client)  # never to be closed here: its sockets are the parent's
        self._client, self._collections = None, {}

    def _read_clock(self) -> _ClockReading:
        """The closest of a few readings: one that takes long, like the first on a new connection, says little."""
        with self.reading():
            return min((self._ask_clock() for _ in range(CLOCK_READINGS)), key=lambda reading: reading.took_s)

    def _ask_clock(self) -> _ClockReading:
        admin = self._connected().admin
        sent = self._clock.monotonic()
        try:
            answer = admin.command("hello")
        except mongo_errors.OperationFailure as error:
            if error.code != _COMMAND_NOT_FOUND:
                raise
            sent = self._clock.monotonic()
            answer = admin.command("isMaster")  # what older servers call it
        took_s = self._clock.monotonic() - sent
        return _ClockReading(answer["localTime"].replace(tzinfo=UTC), sent + took_s / 2, took_s)


class Asking:
    """The time limit of some commands, and what their errors mean. Each command stands in one, hence a class: two
    generators, one in the other, take twice as long."""

    __slots__ = ("_changes", "_connection", "_timeout")

    def __init__(self, connection: MongoConnection, seconds: float, *, changes: bool) -> None:
        self._connection = connection
        self._timeout = pymongo.timeout(seconds)
        self._changes = changes

    def __enter__(self) -> None:
        self._timeout.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timeout.__exit__(kind, error, traceback)
        if isinstance(error, mongo_errors.PyMongoError):
            self._translate(error)

    def _translate(self, error: mongo_errors.PyMongoError) -> NoReturn:
        connection = self._connection
        if isinstance(error, mongo_errors.ServerSelectionTimeoutError):
            raise connection.unavailable("no server can be reached") from None
        if isinstance(error, _LOST):
            if self._changes:
                raise AnswerLost from error
            raise connection.unavailable("it does not answer") from error
        if isinstance(error, mongo_errors.OperationFailure):
            raise connection.refused(error.code, error.details) from None
        raise connection.unavailable(type(error).__name__) from error


def _database_of(url: str) -> str:
    return url.partition("://")[2].partition("/")[2].partition("?")[0] or DEFAULT_DATABASE


def _host_of(url: str) -> str:
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2]
