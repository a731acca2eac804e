"""What a benchmark runs on: a vendor, a broker, a deployment with our worker, and the hand-written worker beside it."""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
import yaml
from bson import ObjectId
from nacl.secret import SecretBox
from nacl.utils import random as random_bytes

from benchmarks import handwritten
from credentials.kdf import generate
from credentials.link_import import LinkImport
from flow8_runtime import valkey
from flow8_runtime.definition import Flow
from flow8_runtime.door import Door
from flow8_runtime.foundation import Foundation
from flow8_runtime.platform import Platform

TOKEN = "xoxb-benchmark-0123456789-abcdefghijkl"
S3_KEYS = {"access_key_id": "AKIABENCHMARK2345ABC", "secret_access_key": "a1B2" * 10}
PROCESSES = 2
PATIENCE_S = 120.0


class Bed:
    """Everything on loopback, in one folder. Use it in a `with` block: its end ends all processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = valkey.start(folder)
        self._certificates()
        self.vendor, secure, plain = self._vendor()
        self.secure_url, self.plain_url = f"https://127.0.0.1:{secure}", f"http://127.0.0.1:{plain}"
        self.environ = self._deployment(allow=[f"127.0.0.1:{secure}", f"127.0.0.1:{plain}"])
        self.platform = Platform(Foundation.lay(self.environ))
        self.door = Door(self.platform)
        self.company_id, self.user_id = self.platform.identity()
        self.link_id, self.request_id = self._link(), self._components()
        self.handwritten_environ = self._handwritten()

    def __enter__(self) -> Bed:
        return self

    def __exit__(self, *_: object) -> None:
        self.door.close()
        self.vendor.kill()
        self.vendor.wait()
        self.broker.stop()

    def step(self, module_ref: str, order: int = 1, **mapping: Any) -> dict[str, Any]:
        """A step of a flow."""
        return {"name": f"s{order}", "module_ref": module_ref, "order": order, "input_mapping": mapping}

    def submit(self, flow: Flow) -> ObjectId:
        """One play of ours."""
        return self.door.submit(flow, {}, company_id=self.company_id, user_id=self.user_id)

    def burst(self, send: Callable[[], Any], count: int, *, effects: int | None = None) -> float:
        """Send `count` times; the seconds from before the first to the last effect (as many as sent, unless said)."""
        self._ask("/reset")
        began = time.perf_counter()
        for _ in range(count):
            send()
        return float(self._ask(f"/after/{effects or count}")) - began

    @contextmanager
    def our_worker(self) -> Iterator[Worker]:
        """`flow8 worker`."""
        argv = ["-m", "flow8_cli.main", "worker", "--processes", str(PROCESSES)]
        with self._worker("ours", argv, self.environ) as worker:
            yield worker

    @contextmanager
    def handwritten_worker(self) -> Iterator[Worker]:
        """`celery worker` with the hand-written tasks, and as many processes."""
        argv = ["-m", "celery", "-A", "benchmarks.handwritten", "worker", f"--concurrency={PROCESSES}"]
        argv += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=INFO"]
        with self._worker("handwritten", argv, self.handwritten_environ) as worker:
            yield worker

    @contextmanager
    def _worker(self, name: str, argv: list[str], environ: dict[str, str]) -> Iterator[Worker]:
        log = self.folder / f"{name}.log"
        began = time.perf_counter()
        with log.open("w") as sink:
            process = subprocess.Popen(
                [sys.executable, *argv], env=environ, stdout=sink, stderr=sink, start_new_session=True
            )
        try:
            while "ready" not in log.read_text():
                if process.poll() is not None or time.perf_counter() - began > PATIENCE_S:
                    raise RuntimeError(log.read_text()[-3000:])
                time.sleep(0.005)
            yield Worker(process, time.perf_counter() - began)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _ask(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.plain_url}{path}", timeout=PATIENCE_S) as answer:
            return str(answer.read().decode())

    def _certificates(self) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        leaf.private_key_pem.write_to_path(str(self.folder / "key.pem"))
        leaf.cert_chain_pems[0].write_to_path(str(self.folder / "cert.pem"))

    def _vendor(self) -> tuple[subprocess.Popen[str], int, int]:
        argv = [sys.executable, "-m", "benchmarks.vendor", str(self.folder / "cert.pem"), str(self.folder / "key.pem")]
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        secure, plain = child.stdout.readline().split()
        return child, int(secure), int(plain)

    def _deployment(self, *, allow: list[str]) -> dict[str, str]:
        slack = f"{self.secure_url}/api/"
        settings = {
            "home": str(self.folder / "home"),
            "broker": self.broker.url,
            "oauth2": {"slack": {"client_id": "bench", "client_secret": "bench-secret-0123456789"}},
            "services": {"slack": {"base_url": slack, "authorize_url": slack, "token_url": slack}},
            "egress": {"allow": allow, "ca_file": str(self.folder / "ca.pem")},
        }
        (self.folder / "flow8.yaml").write_text(yaml.safe_dump(settings))
        secret, salt = generate()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLOW8_")}
        config = {"FLOW8_CONFIG": str(self.folder / "flow8.yaml")}
        return {**inherited, **config, "ENC_KEY_SECRET": secret, "ENV_KEY_SALT": salt}

    def _link(self) -> str:
        platform = self.platform
        line = {"service": "slack", "access_token": TOKEN, "scopes": ["chat:write"], "provider_user_id": "U1"}
        take = LinkImport(
            platform.store, platform.vault, platform.providers, company_id=self.company_id, user_id=self.user_id
        )
        return str(take.run([json.dumps(line)])[0]["id"])

    def _components(self) -> str:
        components = self.platform.components(self.company_id, user_id=self.user_id)
        storage = {"provider": "s3", "bucket": "bench", "region": "us-east-1", "endpoint": self.plain_url, **S3_KEYS}
        components.add({"name": "s3", "kind": "storage", "config": storage, "is_default": True})
        host = self.secure_url.removeprefix("https://")
        request = {"hosts": [host], "auth": {"type": "bearer", "value": TOKEN}}
        return str(components.add({"name": "http", "kind": "request", "config": request})["id"])

    def _handwritten(self) -> dict[str, str]:
        key = random_bytes(32)
        store = self.folder / "handwritten.db"
        connection = sqlite3.connect(store)
        connection.execute("CREATE TABLE credentials (name TEXT PRIMARY KEY, nonce TEXT, ciphertext TEXT)")
        keys = {"id": S3_KEYS["access_key_id"], "secret": S3_KEYS["secret_access_key"]}
        for name, value in {"slack": {"token": TOKEN}, "http": {"token": TOKEN}, "s3": keys}.items():
            sealed = SecretBox(key).encrypt(json.dumps(value).encode())
            row = (name, base64.b64encode(sealed.nonce).decode(), base64.b64encode(sealed.ciphertext).decode())
            connection.execute("INSERT INTO credentials VALUES (?, ?, ?)", row)
        connection.commit()
        connection.close()
        broker = self.broker.url.removesuffix("/0") + "/1"
        handwritten.app.conf.broker_url = broker
        return {
            **os.environ,
            "BENCH_BROKER": broker,
            "BENCH_STORE": str(store),
            "BENCH_KEY": key.hex(),
            "BENCH_CA": str(self.folder / "ca.pem"),
            "BENCH_SECURE": self.secure_url,
            "BENCH_PLAIN": self.plain_url,
        }


@dataclass(frozen=True)
class Worker:
    """A running worker; `ready_s` is how long it took until it said that it is ready."""

    process: subprocess.Popen[bytes]
    ready_s: float

    def child_memory(self) -> list[float]:
        """Resident memory of each pool process, in MB."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [_resident(int(pid)) for pid in task.read_text().split()]


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
