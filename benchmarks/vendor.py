"""A vendor that answers at once, or after a pause: the least that Slack, S3 and a web service can be.

Run: python -m benchmarks.vendor CERTIFICATE KEY [PAUSE_MS]; prints `PORT PLAIN_PORT`. GET /count gives and resets the
number of effects. It is no laboratory: it checks nothing, so that what is measured is the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys

SLACK = b'{"ok":true,"channel":"C1","ts":"1712230001.000200","message":{"text":"x"}}'
WEB = b'{"ok":true}'


class Vendor(asyncio.Protocol):
    """One keep-alive HTTP/1.1 connection."""

    effects = 0
    pause_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
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
        if Vendor.pause_s:
            asyncio.get_running_loop().call_later(Vendor.pause_s, self._answer, head)
        else:
            self._answer(head)
        return bool(self.buffer)

    def _answer(self, head: bytes) -> None:
        method, path, _ = head.split(b" ", 2)
        extra = b""
        if path == b"/count":
            body, Vendor.effects = str(Vendor.effects).encode(), 0
        else:
            Vendor.effects += 1
            body = SLACK if path.startswith(b"/api/") else WEB
            if method == b"PUT":
                body, extra = b"", b'ETag: "d41d8cd98f00b204e9800998ecf8427e"\r\n'
        with contextlib.suppress(OSError):
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s"
                % (extra, len(body), body)
            )


async def main(certificate: str, key: str, pause_ms: float) -> None:
    """Serve TLS and plain HTTP on free loopback ports until killed."""
    Vendor.pause_s = pause_ms / 1000
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    secure = await loop.create_server(Vendor, "127.0.0.1", 0, ssl=context, backlog=512)
    plain = await loop.create_server(Vendor, "127.0.0.1", 0, backlog=512)
    print(secure.sockets[0].getsockname()[1], plain.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 0.0))
