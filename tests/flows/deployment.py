"""A whole deployment for a test: a store, a broker, the laboratory as the vendors, and real worker processes."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from bson import ObjectId

from credentials.keyring import Keyring, KeySettings
from credentials.link_import import LinkImport
from flow8_core.store import Store
from flow8_lab.client import Lab
from flow8_runtime.door import Door
from flow8_runtime.platform import COLLECTIONS, Foundation, Platform
from tests import forked, keys, processes, stores
from tests.forked import Forked

SCOPES = {"slack": ["chat:write"], "microsoft": ["Calendars.ReadWrite", "User.Read", "openid", "profile", "email"]}

BUSY = {"sweep_s": 0.3, "beat_s": 0.5}  # what is waited for comes sooner; recovery times are measured without it


@dataclass
class Worker:
    """A `flow8 worker` with its pool processes, in a process group of its own."""

    process: Forked
    log: Path

    def signal_all(self, number: int) -> None:
        """Send a signal to the parent and all its children at once."""
        os.killpg(self.process.pid, number)

    def signal_one(self, pid: int, number: int) -> None:
        """Send a signal to one of the pool processes."""
        assert pid in self.children()
        os.kill(pid, number)

    def kill(self) -> None:
        """kill -9 of everything."""
        if self.process.poll() is None:
            self.signal_all(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM to the parent, as a supervisor sends it; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def children(self) -> list[int]:
        """The pool processes."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split()] if task.exists() else []

    def cpu_s(self) -> float:
        """Seconds that parent and pool processes have been on a processor, exactly: `stat` counts in ticks of 10 ms,
        and what wakes for less than that is not in it."""
        pids = (self.process.pid, *self.children())
        threads = [path for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        return sum(int(path.read_text().split()[0]) for path in threads) / 1e9

    def stopped(self) -> bool:
        """Whether some pool process has stopped itself (a crash point armed with `stop`)."""
        return any(_state(pid) == "T" for pid in self.children())


@dataclass
class Deployment:
    """Settings in a folder, and what was started on them."""

    folder: Path
    lab: Lab
    environ: dict[str, str]
    workers: list[Worker] = field(default_factory=list)
    company_id: ObjectId = field(default_factory=ObjectId)
    user_id: ObjectId = field(default_factory=ObjectId)

    def __post_init__(self) -> None:
        laid = Foundation.lay(self.environ, self.folder)
        self.platform = Platform(replace(laid, keyring=_derived(laid.settings.keys, _keys_in(self.environ))))
        self.door = Door(self.platform)

    def connect(self, *services: str, **lifetimes: int) -> dict[str, str]:
        """Links by import, as if connected elsewhere: ids by service. `slack=61` gives a token 61 seconds to live."""
        lives = {service: {"expires_in": seconds} for service, seconds in lifetimes.items()}
        return self.take_in(
            *(self.lab.grant(service, scopes=SCOPES[service], **lives.get(service, {})) for service in services)
        )

    def take_in(self, *grants: dict[str, Any]) -> dict[str, str]:
        """Links by import of grants that the laboratory gave: ids by service."""
        platform = self.platform
        take = LinkImport(
            platform.store, platform.vault, platform.providers, company_id=self.company_id, user_id=self.user_id
        )
        return {answer["service"]: answer["id"] for answer in take.run(json.dumps(line) for line in grants)}

    def add_s3(self) -> str:
        """The laboratory's S3 as the company's default storage: the component's id."""
        s3 = self.lab.services["s3"]
        config = {name: s3[name] for name in ("bucket", "region", "endpoint", "access_key_id", "secret_access_key")}
        body = {"name": "s3", "kind": "storage", "config": {"provider": "s3", **config}, "is_default": True}
        return str(self.platform.components(self.company_id).add(body)["id"])

    def make_due(self, link_id: str) -> None:
        """Let a link's token be due for a refresh now, long before it ends."""
        store = self.platform.store
        named = {"_id": ObjectId(link_id), "company_id": self.company_id}
        assert store.update("db_links", named, {"$set": {"refresh_at": store.now()}}) is not None

    def move_in(self) -> None:
        """A new company with a new user: what others left behind in this deployment does not concern it."""
        self.company_id, self.user_id = ObjectId(), ObjectId()

    def flow8(self, *arguments: str, text: str | None = None, exit_code: int = 0) -> Any:
        """Run the `flow8` command as the company's user; the JSON document that it prints."""
        return json.loads(self.said(*arguments, text=text, exit_code=exit_code))

    def said(self, *arguments: str, text: str | None = None, exit_code: int = 0) -> str:
        """Run the `flow8` command as the company's user; what it prints."""
        who = {"FLOW8_COMPANY": str(self.company_id), "FLOW8_USER": str(self.user_id)}
        with tempfile.TemporaryDirectory() as folder:
            given, out, err = (Path(folder) / name for name in ("in", "out", "err"))
            os.mkfifo(given)  # to the command a file and a pipe are not the same
            environ = {**self.environ, **who}
            command = forked.flow8(*arguments, environ=environ, folder=self.folder, stdin=given, stdout=out, stderr=err)
            with suppress(BrokenPipeError), given.open("w") as pipe:
                pipe.write(text or "")
            code = command.wait(60)
            assert code == exit_code, f"{arguments}: exit {code}\n{out.read_text()}\n{err.read_text()}"
            return out.read_text()

    def start_worker(
        self, *, crash_at: str = "", processes_: int = 1, threads: int = 64, queues: Sequence[str] = ()
    ) -> Worker:
        """A worker, of these queues of steps where they are said; it is listening when this returns."""
        (worker,) = self.start_workers(1, crash_at=crash_at, processes_=processes_, threads=threads, queues=queues)
        return worker

    def start_workers(
        self, count: int, *, crash_at: str = "", processes_: int = 1, threads: int = 64, queues: Sequence[str] = ()
    ) -> list[Worker]:
        """Several at once."""
        started = [self._launch(crash_at, processes_, threads, queues) for _ in range(count)]
        try:
            for worker in started:
                processes.until(lambda worker=worker: self._ready(worker), f"a ready worker ({worker.log})")
        except AssertionError:
            for worker in started:
                worker.kill()  # or it would take the messages of the tests that follow
            raise
        return started

    def _launch(self, crash_at: str, processes_: int, threads: int, queues: Sequence[str]) -> Worker:
        log = self.folder / f"worker-{len(self.workers)}.log"
        environ = {**self.environ, "FLOW8_CRASH_AT": crash_at, "FLOW8_WORKER__THREADS": str(threads)}
        argv = ["worker", "--processes", str(processes_)]
        argv += [part for queue in queues for part in ("--queue", queue)]
        process = forked.flow8(*argv, environ=environ, folder=self.folder, stdout=log, stderr=log)
        worker = Worker(process, log)
        self.workers.append(worker)
        return worker

    def submit(self, definition: dict[str, Any], args: dict[str, Any] | None = None) -> ObjectId:
        """Hand in a play."""
        return self.door.submit(definition, args, company_id=self.company_id, user_id=self.user_id)

    def wait(self, play_id: ObjectId, *, timeout: float = 30.0) -> dict[str, Any]:
        """The play once it is over."""
        play = self.door.wait(play_id, company_id=self.company_id, timeout=timeout)
        assert play["status"] not in ("NEW", "RUN"), (
            play,
            *[worker.log.read_text()[-1500:] for worker in self.workers[-2:]],
        )
        return play

    def close(self) -> None:
        """End everything."""
        for worker in self.workers:
            worker.kill()
        self.door.close()

    def _ready(self, worker: Worker) -> bool:
        assert worker.process.poll() is None, worker.log.read_text()[-3000:]
        return "ready" in worker.log.read_text()


def deploy(
    folder: Path, lab: Lab, *, store: str, broker: str, environ: Mapping[str, str] | None = None, **settings: Any
) -> Deployment:
    """A deployment on this store and broker, with the keys that all tests share, for deriving them takes its time; its
    processes get `environ`, too."""
    if store.startswith("sqlite:///"):
        stores.lay(Path(store.removeprefix("sqlite:///")), _declare)
    config = {
        "public_url": f"http://127.0.0.1:{processes.free_port()}",
        "home": str(folder / "home"),
        "store": store,
        "broker": broker,
        "oauth2": {name: lab.oauth2[name] for name in ("slack", "microsoft")},
        "services": {name: lab.services[name] for name in ("slack", "microsoft")},
        "egress": lab.egress,
        **settings,
    }
    (folder / "flow8.yaml").write_text(yaml.safe_dump(config))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLOW8_", "ENC_", "ENV_"))}
    own = {**keys.ENVIRON, "FLOW8_CONFIG": str(folder / "flow8.yaml")}
    return Deployment(folder, lab, {**inherited, **own, **(environ or {})})


@contextmanager
def standing(folder: Path, lab: Lab, **more: Any) -> Iterator[Deployment]:
    """A deployment, made as by `deploy`, whose worker runs as long as the block."""
    made = deploy(folder, lab, **more)
    made.start_worker()
    try:
        yield made
    finally:
        made.close()


def _keys_in(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The variables that keys are derived from."""
    return tuple(sorted((name, value) for name, value in environ.items() if name.startswith(("ENC_KEY", "ENV_KEY"))))


@cache
def _derived(settings: KeySettings, variables: tuple[tuple[str, str], ...]) -> Keyring:
    """The keys of this process, which has many deployments."""
    return Keyring.derive(settings, dict(variables))


def _declare(store: Store) -> None:
    for name, indexes, durable in COLLECTIONS:
        store.declare(name, indexes, durable=durable)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
