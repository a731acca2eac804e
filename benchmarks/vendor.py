"""A vendor that answers at once, or after a pause (`?pause_ms=50`): the least that Slack, S3 and a web service can be.

Run: python -m benchmarks.vendor CERTIFICATE KEY; prints `PORT PLAIN_PORT`. GET /reset begins to count effects anew; GET
/effects tells them; GET /after/N answers once there were N of them, with the moment of the last one
(`time.perf_counter`, which all processes of a Linux host share). It is no laboratory: it checks nothing, so that what
is measured is the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import time
from typing import cast

SLACK = b'{"ok":true,"channel":"C1","ts":"1712230001.000200","message":{"text":"x"}}'
WEB = b'{"ok":true}'


class Vendor(asyncio.Protocol):
    """One keep-alive HTTP/1.1 connection."""

    effects = 0
    last_effect = 0.0
    awaited: tuple[int, Vendor] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self._one():
            pass

    def _one(self) -> bool:
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return False
        lower = head.lower()
        length = 0
        if b"\r\ncontent-length:" in lower:
            length = int(lower.split(b"\r\ncontent-length:", 1)[1].split(b"\r\n", 1)[0])
        if b"100-continue" in lower and not rest and length:
            if not getattr(self, "continued", False):
                self.continued = True
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return False
        if len(rest) < length:
            return False
        self.continued = False
        self.buffer = rest[length:]
        method, path, _ = head.split(b" ", 2)
        if path == b"/reset":
            Vendor.effects = 0
            self.answer(b"0")
        elif path == b"/effects":
            self.answer(str(Vendor.effects).encode())
        elif path.startswith(b"/after/"):
            Vendor.awaited = int(path.removeprefix(b"/after/")), self
            self._tell()
        elif b"?pause_ms=" in path:
            pause_s = float(path.partition(b"?pause_ms=")[2]) / 1000
            asyncio.get_running_loop().call_later(pause_s, self._effect, method, path)
        else:
            self._effect(method, path)
        return bool(self.buffer)

    def _effect(self, method: bytes, path: bytes) -> None:
        Vendor.effects += 1
        Vendor.last_effect = time.perf_counter()
        if method == b"PUT":
            self.answer(b"", b'ETag: "d41d8cd98f00b204e9800998ecf8427e"\r\n')
        else:
            self.answer(SLACK if path.startswith(b"/api/") else WEB)
        self._tell()

    def _tell(self) -> None:
        if Vendor.awaited is not None and Vendor.effects >= Vendor.awaited[0]:
            asker, Vendor.awaited = Vendor.awaited[1], None
            asker.answer(str(Vendor.last_effect).encode())

    def answer(self, body: bytes, extra: bytes = b"") -> None:
        """Say 200 with a body."""
        with contextlib.suppress(OSError):
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s"
                % (extra, len(body), body)
            )


async def main(certificate: str, key: str) -> None:
    """Serve TLS and plain HTTP on free loopback ports until killed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    secure = await loop.create_server(Vendor, "127.0.0.1", 0, ssl=context, backlog=512)
    plain = await loop.create_server(Vendor, "127.0.0.1", 0, backlog=512)
    print(secure.sockets[0].getsockname()[1], plain.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
