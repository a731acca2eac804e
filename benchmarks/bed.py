"""The test bed of a benchmark: a vendor, Redis, a deployment with our worker, and the hand-written worker beside it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import trustme
import yaml
from bson import ObjectId
from nacl.secret import SecretBox
from nacl.utils import random as random_bytes

from benchmarks import handwritten
from credentials.kdf import generate
from flow8_runtime import valkey
from flow8_runtime.door import Door
from flow8_runtime.platform import Foundation, Platform

TOKEN = "xoxb-benchmark-0123456789-abcdefghijkl"
PROCESSES = 2


@dataclass
class Bed:
    """Everything on loopback, in one folder. `close` ends it."""

    folder: Path
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._certificates()
        self.secure, self.plain = self._vendor()
        self._redis()
        self._deployment()
        self._handwritten()

    def effects(self) -> int:
        """How many effects the vendor saw since the last time it was asked."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.plain}/count") as answer:
            return int(answer.read())

    def until_effects(self, count: int, *, timeout: float = 120.0) -> float:
        """Wait until the vendor has seen `count` effects; the moment when it had, by `time.perf_counter`."""
        seen, ends = 0, time.perf_counter() + timeout
        while (seen := seen + self.effects()) < count:
            if time.perf_counter() > ends:
                raise RuntimeError(f"{seen} of {count} effects after {timeout:g} s")
            time.sleep(0.002)
        return time.perf_counter()

    def start_worker(self) -> Worker:
        """Our worker, two pool processes."""
        argv = ["-m", "flow8_cli.main", "worker", "--processes", str(PROCESSES), "--log-level", "INFO"]
        return Worker(self, argv, "ours", self.environ)

    def start_handwritten(self, *, pool: str = "prefork", concurrency: int = PROCESSES) -> Worker:
        """The hand-written tasks' worker."""
        argv = ["-m", "celery", "-A", "benchmarks.handwritten", "worker", f"--pool={pool}", f"--concurrency={concurrency}"]
        argv += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=INFO"]
        return Worker(self, argv, "handwritten", {**os.environ, **self.handwritten_environ})

    def spawn(self, argv: list[str], environ: dict[str, str], log: Path) -> subprocess.Popen[str]:
        with log.open("w") as sink:
            child = subprocess.Popen(
                [sys.executable, *argv], env=environ, stdout=sink, stderr=sink, text=True, start_new_session=True
            )
        self.children.append(child)
        return child

    def close(self) -> None:
        self.door.close()
        for child in self.children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        self.server.kill()
        self.server.wait()

    def _certificates(self) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        leaf.private_key_pem.write_to_path(str(self.folder / "key.pem"))
        leaf.cert_chain_pems[0].write_to_path(str(self.folder / "cert.pem"))

    def _vendor(self) -> tuple[int, int]:
        argv = [sys.executable, "-m", "benchmarks.vendor", str(self.folder / "cert.pem"), str(self.folder / "key.pem")]
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.children.append(child)
        assert child.stdout is not None
        secure, plain = child.stdout.readline().split()
        return int(secure), int(plain)

    def _redis(self) -> None:
        port = 20000 + os.getpid() % 20000
        binary = shutil.which("redis-server") or str(valkey.binary_path())
        argv = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        self.server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        self.broker = f"redis://127.0.0.1:{port}"
        client = redis.Redis.from_url(self.broker)
        for _ in range(500):
            try:
                client.ping()
                return
            except redis.RedisError:
                time.sleep(0.01)
        raise RuntimeError("Redis did not start")

    def _deployment(self) -> None:
        slack = f"https://127.0.0.1:{self.secure}/api/"
        allow = [f"127.0.0.1:{self.secure}", f"127.0.0.1:{self.plain}"]
        settings = {
            "home": str(self.folder / "home"),
            "broker": f"{self.broker}/0",
            "oauth2": {"slack": {"client_id": "bench", "client_secret": "bench-secret-0123456789"}},
            "services": {"slack": {"base_url": slack, "authorize_url": slack, "token_url": slack}},
            "egress": {"allow": allow, "ca_file": str(self.folder / "ca.pem")},
        }
        (self.folder / "flow8.yaml").write_text(yaml.safe_dump(settings))
        secret, salt = generate()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLOW8_")}
        keys = {"FLOW8_CONFIG": str(self.folder / "flow8.yaml"), "ENC_KEY_SECRET": secret, "ENV_KEY_SALT": salt}
        self.environ = {**inherited, **keys}
        self.platform = Platform(Foundation.lay(self.environ))
        self.door = Door(self.platform)
        self.company_id, self.user_id = self.platform.identity()
        self._credentials()

    def _credentials(self) -> None:
        from credentials.link_import import LinkImport

        platform = self.platform
        line = {"service": "slack", "access_token": TOKEN, "scopes": ["chat:write"], "provider_user_id": "U1"}
        take = LinkImport(
            platform.store, platform.vault, platform.providers, company_id=self.company_id, user_id=self.user_id
        )
        self.link_id = take.run([json.dumps(line)])[0]["id"]
        components = platform.components(self.company_id, user_id=self.user_id)
        keys = {"access_key_id": "AKIABENCHMARK2345ABC", "secret_access_key": "a1B2" * 10}
        endpoint = f"http://127.0.0.1:{self.plain}"
        storage = {"provider": "s3", "bucket": "bench", "region": "us-east-1", "endpoint": endpoint, **keys}
        components.add({"name": "s3", "kind": "storage", "config": storage, "is_default": True})
        request = {"hosts": [f"127.0.0.1:{self.secure}"], "auth": {"type": "bearer", "value": TOKEN}}
        answer = components.add({"name": "http", "kind": "request", "config": request})
        self.request_id = answer["id"]

    def _handwritten(self) -> None:
        key = random_bytes(32)
        box = SecretBox(key)
        store = self.folder / "handwritten.db"
        connection = sqlite3.connect(store)
        connection.execute("CREATE TABLE credentials (name TEXT PRIMARY KEY, nonce TEXT, ciphertext TEXT)")
        keys = {"id": "AKIABENCHMARK2345ABC", "secret": "a1B2" * 10}
        for name, value in {"slack": {"token": TOKEN}, "http": {"token": TOKEN}, "s3": keys}.items():
            sealed = box.encrypt(json.dumps(value).encode())
            row = (name, base64.b64encode(sealed.nonce).decode(), base64.b64encode(sealed.ciphertext).decode())
            connection.execute("INSERT INTO credentials VALUES (?, ?, ?)", row)
        connection.commit()
        connection.close()
        self.handwritten_environ = {
            "BENCH_BROKER": f"{self.broker}/1",
            "BENCH_STORE": str(store),
            "BENCH_KEY": key.hex(),
            "BENCH_CA": str(self.folder / "ca.pem"),
            "BENCH_SECURE": f"https://127.0.0.1:{self.secure}",
            "BENCH_PLAIN": f"http://127.0.0.1:{self.plain}",
        }
        handwritten.app.conf.broker_url = self.handwritten_environ["BENCH_BROKER"]

    def submit(self, flow: Any, args: dict[str, Any] | None = None) -> ObjectId:
        """One play of ours."""
        return self.door.submit(flow, args or {}, company_id=self.company_id, user_id=self.user_id)


class Worker:
    """A running worker; `ready_s` is how long it took."""

    def __init__(self, bed: Bed, argv: list[str], name: str, environ: dict[str, str]) -> None:
        self.log = bed.folder / f"{name}.log"
        began = time.perf_counter()
        self.process = bed.spawn(argv, environ, self.log)
        while "ready" not in self.log.read_text():
            if self.process.poll() is not None or time.perf_counter() - began > 60:
                raise RuntimeError(self.log.read_text()[-3000:])
            time.sleep(0.005)
        self.ready_s = time.perf_counter() - began

    def child_memory(self) -> list[float]:
        """Resident memory of each pool process, in MB."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [_resident(int(pid)) for pid in task.read_text().split()]

    def memory(self) -> float:
        """Resident memory of the parent, in MB."""
        return _resident(self.process.pid)

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


Submit = Callable[[int], None]
