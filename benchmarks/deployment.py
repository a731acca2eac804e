"""A deployment of ours on the bed: its settings, keys, credentials and door, on one store."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from bson import ObjectId

from benchmarks.worker import Worker, running
from credentials.kdf import generate
from credentials.link_import import LinkImport
from flow8_core.errors import StoreUnavailable
from flow8_runtime.definition import Flow
from flow8_runtime.door import Door
from flow8_runtime.foundation import Foundation
from flow8_runtime.platform import Platform

TOKEN = "xoxb-benchmark-0123456789-abcdefghijkl"
MOMENT_S = 0.05  # in which whoever holds something lets go of it
S3_KEYS = {"access_key_id": "AKIABENCHMARK2345ABC", "secret_access_key": "a1B2" * 10}


class Deployment:
    """One deployment in a folder of its own; SQLite unless a store is said. `secure` and `plain` are the vendor's."""

    def __init__(self, folder: Path, *, broker: str, secure: str, plain: str, ca: Path, store: str = "") -> None:
        folder.mkdir()
        self.folder = folder
        slack = f"{secure}/api/"
        settings = {
            "home": str(folder / "home"),
            "store": store,
            "broker": broker,
            "oauth2": {"slack": {"client_id": "bench", "client_secret": "bench-secret-0123456789"}},
            "services": {"slack": {"base_url": slack, "authorize_url": slack, "token_url": slack}},
            "egress": {"allow": [_place(secure), _place(plain)], "ca_file": str(ca)},
        }
        if store:
            settings |= {"company": str(ObjectId()), "user": str(ObjectId())}
        (folder / "flow8.yaml").write_text(yaml.safe_dump(settings))
        secret, salt = generate()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLOW8_")}
        config = {"FLOW8_CONFIG": str(folder / "flow8.yaml")}
        self.environ = {**inherited, **config, "ENC_KEY_SECRET": secret, "ENV_KEY_SALT": salt}
        self.platform = Platform(Foundation.lay(self.environ))
        self.door = Door(self.platform)
        self.company_id, self.user_id = self.platform.identity()
        self.link_id = self._link()
        self.request_id = self._components(secure, plain)

    def close(self) -> None:
        """Nothing is handed in any more."""
        self.door.close()

    def submit(self, flow: Flow) -> ObjectId:
        """One play."""
        return self.door.submit(flow, {}, company_id=self.company_id, user_id=self.user_id)

    def fill(self, flow: Flow, count: int) -> Sequence[ObjectId]:
        """So many plays into the ledger, and nobody woken."""
        ids = [ObjectId() for _ in range(count)]
        self.platform.ledger.submit_many(
            flow, [{}] * count, company_id=self.company_id, user_id=self.user_id, play_ids=ids
        )
        return ids

    def halt(self, worker: Worker) -> None:
        """Halt a worker at a moment in which it holds nothing that others need."""
        while True:
            worker.halt()
            with suppress(StoreUnavailable):
                self.platform.store.update("bench", {"_id": "probe"}, {"$set": {"at": 1}}, upsert=True)
                return
            worker.go_on()
            time.sleep(MOMENT_S)

    @contextmanager
    def worker(self, processes: int) -> Iterator[Worker]:
        """`flow8 worker`."""
        argv = ["-m", "flow8_cli.main", "worker", "--processes", str(processes)]
        with running("worker", argv, self.environ, self.folder) as worker:
            yield worker

    def _link(self) -> str:
        platform = self.platform
        line = {"service": "slack", "access_token": TOKEN, "scopes": ["chat:write"], "provider_user_id": "U1"}
        take = LinkImport(
            platform.store, platform.vault, platform.providers, company_id=self.company_id, user_id=self.user_id
        )
        return str(take.run([json.dumps(line)])[0]["id"])

    def _components(self, secure: str, plain: str) -> str:
        components = self.platform.components(self.company_id, user_id=self.user_id)
        storage = {"provider": "s3", "bucket": "bench", "region": "us-east-1", "endpoint": plain, **S3_KEYS}
        components.add({"name": "s3", "kind": "storage", "config": storage, "is_default": True})
        request: dict[str, Any] = {
            "hosts": [_place(secure), _place(plain)],
            "auth": {"type": "bearer", "value": TOKEN},
            "honours_idempotency_key": True,
        }
        return str(components.add({"name": "http", "kind": "request", "config": request})["id"])


def _place(url: str) -> str:
    return url.partition("://")[2]
