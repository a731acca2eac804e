"""S3: a real S3 server from PyPI (moto), as a child process on a port that the laboratory holds.

The laboratory listens itself and hands the socket on, so that the port is known and connections wait from the first
moment, and the half second of moto's imports need not be paid by those who never upload.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
from typing import Any, Literal
from urllib.request import ProxyHandler, Request, build_opener

SERVICE = "s3"
REGION = "us-east-1"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
ALPHABET = LETTERS + LETTERS.lower() + "0189+/"

Mode = Literal["eager", "on-demand", "off"]


class S3:
    """The child and its one pair of keys. `listener` is a listening loopback socket."""

    def __init__(self, listener: socket.socket, *, bucket: str, mode: Mode) -> None:
        self.endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.bucket = bucket
        self.access_key_id = "AKIA" + "".join(secrets.choice(LETTERS) for _ in range(16))
        self.secret_access_key = "".join(secrets.choice(ALPHABET) for _ in range(40))
        self._listener = listener
        self._mode = mode
        self._child: subprocess.Popen[bytes] | None = None
        self._opener = build_opener(ProxyHandler({}))

    @property
    def started(self) -> bool:
        """Whether the child was ever needed."""
        return self._child is not None

    @property
    def exited(self) -> bool:
        """Whether the child was started and has died."""
        return self._child is not None and self._child.poll() is not None

    def open(self) -> None:
        """Start the child, at once or with the first connection. To be called on the event loop."""
        if self._mode == "eager":
            self.start()
        elif self._mode == "on-demand":
            asyncio.get_running_loop().add_reader(self._listener, self.start)

    def start(self) -> None:
        """Start the child, if it is not there yet."""
        if self._mode == "on-demand":
            asyncio.get_running_loop().remove_reader(self._listener)
        if self._child is not None or self._mode == "off":
            return
        descriptor = self._listener.fileno()
        self._child = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [sys.executable, "-m", "flow8_lab.s3_server", str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(descriptor,),
            env={name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))},
            start_new_session=True,  # Ctrl-C is for the laboratory, which then ends its child
        )
        settings = {
            "bucket": self.bucket,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
        }
        # The pipe stays open: the child ends when it closes, be it by our kill -9.
        if self._child.stdin is not None:
            self._child.stdin.write(json.dumps(settings).encode() + b"\n")
            self._child.stdin.flush()

    def stop(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            if self._child.stdin is not None:
                self._child.stdin.close()

    async def ask(self, path: str, body: object = None, *, method: str | None = None) -> Any:
        """Call the child's own control path, starting the child if need be. Raises OSError."""
        self.start()
        return await asyncio.to_thread(self._ask, path, body, method)

    def _ask(self, path: str, body: object, method: str | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.endpoint}/.lab{path}", data=data, method=method)  # noqa: S310 (our own loopback)
        with self._opener.open(request, timeout=30) as answer:
            return json.load(answer)
