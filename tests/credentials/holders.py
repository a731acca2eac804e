"""Processes that refresh a link and may be killed or stopped at a crash point on the way."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from bson import ObjectId

from credentials.links import Links
from credentials.refresh import Refresher
from credentials.refresh_settings import RefreshSettings
from credentials.vault import Vault
from flow8_core import crashpoints, errors
from flow8_core.clock import Deadline, SystemClock
from flow8_core.egress import Egress, EgressSettings
from flow8_core.store import open_store
from tests.credentials.desk import Desk, SharedClock, providers_at
from tests.forkserver import CONTEXT


@dataclass(frozen=True)
class Errand:
    """Refresh this link, at that server; `crash_at` as in `FLOW8_CRASH_AT`."""

    folder: Path
    company_id: str
    link_id: str
    url: str
    ca_file: Path
    acme: dict[str, Any]
    crash_at: str = ""
    force: bool = False
    spool: Path | None = None


def errand(desk: Desk, link: Any, folder: Path, ca_file: Path, *, crash_at: str = "", **acme: Any) -> Errand:
    """The errand for a link of the desk, whose store is in `folder`."""
    return Errand(folder, str(desk.company_id), str(link.id), desk.server.url, ca_file, acme, crash_at)


def send(one: Errand) -> tuple[ForkServerProcess, Connection]:
    """A process on the errand, and the pipe on which its outcome comes: (an error's code or "fresh", the
    generation)."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run, args=(one, sender))
    process.start()
    sender.close()
    return process, receiver


def _run(one: Errand, outcome: Connection) -> None:
    from tests.credentials.derived import RING

    vault = Vault(RING)
    clock = SharedClock(one.folder / "ahead")
    place = one.url.removeprefix("https://")
    settings = EgressSettings(allow=(place,), ca_file=one.ca_file)
    with closing(open_store(f"sqlite:///{one.folder / 'desk.db'}", clock=clock)) as store, Egress(settings) as egress:
        link = Links(store, vault, ObjectId(one.company_id)).get(one.link_id)
        crashpoints.arm(one.crash_at)
        spooling = RefreshSettings(spool=one.spool)
        refresher = Refresher(store, vault, providers_at(one.url, **one.acme), egress, settings=spooling)
        try:
            fresh = refresher.fresh(link, deadline=Deadline.after(20.0, SystemClock()), force=one.force)
        except errors.Flow8Error as error:
            outcome.send((error.code, 0))
        else:
            outcome.send(("fresh", fresh.generation))
