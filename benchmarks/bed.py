"""What a benchmark runs on: a vendor, a broker, a deployment of ours, and what the hand-written workers need."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import trustme
from nacl.secret import SecretBox
from nacl.utils import random as random_bytes

from benchmarks import handwritten
from benchmarks.deployment import S3_KEYS, TOKEN, Deployment
from benchmarks.worker import PATIENCE_S, Worker, running
from flow8_runtime import valkey
from tests.counterparts import mongo

PROCESSES = 2


class Bed:
    """Everything on loopback, in one folder. Use it in a `with` block: its end ends all processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = valkey.start(folder)
        self._certificates()
        self.vendor, secure, plain = self._vendor()
        self.secure_url, self.plain_url = f"https://127.0.0.1:{secure}", f"http://127.0.0.1:{plain}"
        self._ends = ExitStack()
        self.ours = self.deployment("ours", database=0)
        self.handwritten_environ = self._handwritten()

    def __enter__(self) -> Bed:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()
        self.vendor.kill()
        self.vendor.wait()
        self.broker.stop()

    @cached_property
    def mongo(self) -> str | None:
        """A server of MongoDB's protocol: the one that FLOW8_TEST_MONGO names, else mongo-java-server where there is
        Java."""
        if os.environ.get(mongo.VARIABLE) is None and shutil.which("java") is None:
            return None
        return self._ends.enter_context(mongo.served())

    def deployment(self, name: str, *, database: int, store: str = "") -> Deployment:
        """A deployment of ours that lasts as long as the bed; its broker is a database of the bed's."""
        made = Deployment(
            self.folder / name,
            broker=self.broker_url(database),
            secure=self.secure_url,
            plain=self.plain_url,
            ca=self.folder / "ca.pem",
            store=store,
        )
        self._ends.callback(made.close)
        return made

    def mongo_database(self) -> str | None:
        """An empty database on MongoDB, where there is a server; a real one's is dropped at the end."""
        return None if self.mongo is None else self._ends.enter_context(mongo.empty_database(self.mongo))

    def broker_url(self, database: int) -> str:
        """A database of the bed's broker."""
        return f"{self.broker.url.removesuffix('/0')}/{database}"

    def step(self, module_ref: str, order: int = 1, **mapping: Any) -> dict[str, Any]:
        """A step of a flow."""
        return {"name": f"s{order}", "module_ref": module_ref, "order": order, "input_mapping": mapping}

    def burst(self, send: Callable[[], Any], count: int, *, effects: int | None = None) -> float:
        """Send `count` times; the seconds from before the first to the last effect (as many as sent, unless said)."""
        self.reset()
        began = time.perf_counter()
        for _ in range(count):
            send()
        return self.after(effects or count) - began

    def reset(self) -> None:
        """The vendor counts effects from here on."""
        self._ask("/reset")

    def after(self, effects: int) -> float:
        """Wait until the vendor has seen so many; when (`time.perf_counter`) it saw the last one."""
        return float(self._ask(f"/after/{effects}"))

    def effects(self) -> int:
        """How many the vendor has seen since `reset`."""
        return int(self._ask("/effects"))

    @contextmanager
    def our_worker(self) -> Iterator[Worker]:
        """`flow8 worker`."""
        with self.ours.worker(PROCESSES) as worker:
            yield worker

    @contextmanager
    def handwritten_worker(self) -> Iterator[Worker]:
        """`celery worker` with the hand-written tasks, and as many processes."""
        argv = [*handwritten.ARGV, f"--concurrency={PROCESSES}"]
        with running("handwritten", argv, self.handwritten_environ, self.folder) as worker:
            yield worker

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
        handwritten.app.conf.broker_url = self.broker_url(1)
        return {
            **os.environ,
            "BENCH_BROKER": self.broker_url(1),
            "BENCH_STORE": str(store),
            "BENCH_KEY": key.hex(),
            "BENCH_CA": str(self.folder / "ca.pem"),
            "BENCH_SECURE": self.secure_url,
            "BENCH_PLAIN": self.plain_url,
        }
