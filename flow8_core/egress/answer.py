"""`Answer`: a response whose body is still on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

from flow8_core.clock import Deadline
from flow8_core.egress.connection import Connection
from flow8_core.egress.failures import NETWORK_ERRORS, explain
from flow8_core.egress.headers import Headers
from flow8_core.egress.inflate import Inflated
from flow8_core.egress.reply import BadReply, Reply
from flow8_core.egress.request import Request
from flow8_core.errors import ProviderUnavailable, VendorBadResponse

BLOCK = 65_536
DRAIN = 65_536  # bytes of an unwanted body worth reading to keep its connection


class Answer:
    """Status and headers are there, the body is read on demand, in blocks, under the call's deadline and byte cap.

    Enough of a file and of urllib3's response (`read`, `readinto`, `stream`, `close`, `release_conn`, `headers`,
    `status`, `reason`) that requests and botocore take it for their raw response. Read it to its end or close it;
    it is a context manager. One thread at a time.
    """

    def __init__(
        self,
        reply: Reply,
        connection: Connection,
        request: Request,
        deadline: Deadline,
        *,
        max_bytes: int,
        decode: bool,
        give: Callable[[Connection], None],
    ) -> None:
        self.status: int = reply.status
        self.reason: str = reply.reason
        self.headers: Headers = reply.headers
        self.request = request
        self._connection: Connection | None = connection
        self._deadline = deadline
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._give = give
        self._source = _source(reply, decode=decode)
        self._plain = reply if self._source == reply.take else None

    @property
    def url(self) -> str:
        """The URL that answered. May hold a secret."""
        return str(self.request.url)

    @property
    def closed(self) -> bool:
        return self._connection is None

    def read(self, amt: int | None = None) -> bytes:
        """At most `amt` bytes, b"" only at the end; or all the rest.

        Raises `VendorBadResponse` where the body is too large, cut off or cannot be decompressed, `ExecutionTimeout` at
        the deadline, `ProviderUnavailable` where the connection breaks.
        """
        if amt is None or amt < 0:
            return b"".join(self.stream())
        return self._read(amt)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        block = self._read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def stream(self, amt: int = BLOCK, decode_content: bool | None = None) -> Iterator[bytes]:
        """The rest of the body in blocks. `decode_content` is there for urllib3's callers; what was asked at the start
        holds."""
        del decode_content
        while block := self._read(amt):
            yield block

    def discard(self) -> None:
        """Be done with the body, keeping the connection where that is cheap."""
        self._left = min(self._left, DRAIN)
        try:
            for _ in self.stream():
                pass
        except (VendorBadResponse, ProviderUnavailable):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Be done with it; a connection with an unread body goes."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._give(connection)

    release_conn = close

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, amt: int) -> bytes:
        if self._connection is None or not amt:
            return b""
        try:
            block = self._counted(self._source(min(amt, self._left + 1)))
        except NETWORK_ERRORS as error:
            self._abort()
            raise explain(error, self.request, self._deadline, sent=True) from None
        except BaseException:
            self._abort()
            raise
        if not block or (self._plain is not None and self._plain.ended):
            self.close()
        return block

    def _counted(self, block: bytes) -> bytes:
        self._left -= len(block)
        if self._left < 0:
            raise BadReply(f"it is larger than {self._max_bytes} bytes")
        return block

    def _abort(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()


def _source(reply: Reply, *, decode: bool) -> Callable[[int], bytes]:
    """What to read the body from: the reply itself, or its decompression."""
    coding = reply.headers.get("content-encoding", "").strip().lower()
    if not decode or coding in ("", "identity"):
        return reply.take
    if coding in ("gzip", "x-gzip", "deflate"):
        return Inflated(reply.take, coding).read
    return lambda size: _nothing(reply.take(size))


def _nothing(block: bytes) -> bytes:
    """For a body in a coding that nobody asked for: there may be none, as after HEAD."""
    if block:
        raise BadReply("its body is compressed in a way that was not asked for")
    return block
