"""A key is changed while four processes refresh links and edit components: nothing is lost, nothing is unreadable."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from credentials import check_values, key_rows
from credentials.components import Components
from credentials.key_rows import Writer
from credentials.links import Links
from credentials.refresh import Refresher
from credentials.vault import Vault
from flow8_core import errors
from flow8_core.clock import Deadline, SystemClock
from flow8_core.egress import Egress, EgressSettings
from flow8_core.store import open_store
from tests.counterparts.token_server import Loopback, TokenServer
from tests.credentials import rotating
from tests.credentials.desk import Desk, open_desk, providers_at
from tests.credentials.rotating import NEW_KID, OLD_KID, before, kids
from tests.credentials.test_keyring import NEW, ring
from tests.environment import rounds
from tests.forkserver import CONTEXT
from tests.processes import until

PROCESSES = 4


@dataclass(frozen=True)
class Work:
    """What one process does until `over` is there: refreshes any of the links, and edits a component of its own."""

    store_url: str
    server_url: str
    ca_file: Path
    company_id: str
    links: tuple[str, ...]
    component: str
    over: Path
    seed: int


@dataclass
class Done:
    """What it did. `value` is the key that its component holds in the end; `faults` are errors that nobody expects."""

    refreshed: int = 0
    edited: int = 0
    value: str = ""
    faults: tuple[str, ...] = ()


def work(one: Work, outcome: Connection) -> None:
    """The process. It has the old key and the next one, as all have before a rotation."""
    place, rng, done = one.server_url.removeprefix("https://"), random.Random(one.seed), Done()
    company_id, faults = ObjectId(one.company_id), list[str]()
    settings = EgressSettings(allow=(place,), ca_file=one.ca_file)
    with closing(open_store(one.store_url)) as store, Egress(settings) as egress:
        vault = Vault(before(), Writer(store, before()))
        refresher = Refresher(store, vault, providers_at(one.server_url), egress)
        links, components = Links(store, vault, company_id), Components(store, vault, company_id)
        while not one.over.exists():
            try:
                link = links.get(rng.choice(one.links))
                fresh = refresher.fresh(link, deadline=Deadline.after(20.0, SystemClock()), force=True)
                done.refreshed += fresh.generation > link.generation
            except errors.RefreshBusy:
                pass
            except errors.Flow8Error as error:
                faults.append(error.code)
            value = f"sk-live-{one.seed:016}{done.edited:016}"
            try:
                components.update(one.component, {"config": {"auth": {"value": value}}})
                done.edited, done.value = done.edited + 1, value
            except errors.Flow8Error as error:
                faults.append(error.code)
    done.faults = tuple(faults)
    outcome.send(done)


def begin(one: Work) -> tuple[Any, Connection]:
    """A process at work, and the pipe on which its outcome comes."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=work, args=(one, sender))
    process.start()
    sender.close()
    return process, receiver


def works(desk: Desk, store_url: str, ca_file: Path, folder: Path) -> list[Work]:
    """One for each process, with components of their own and links that they share."""
    links = tuple(str(desk.link(account=f"user-{number}").id) for number in range(rounds(20, short=8)))
    components = Components(desk.store, desk.vault, desk.company_id)
    names = [f"component-{number}" for number in range(PROCESSES)]
    for name in names:
        components.add({"name": name, "kind": "request", "config": rotating.BEARER})
    return [
        Work(store_url, desk.server.url, ca_file, str(desk.company_id), links, name, folder / "over", seed)
        for seed, name in enumerate(names)
    ]


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_nothing_is_lost_while_four_processes_refresh_and_edit(
    store_url: str, tmp_path: Path, token_server: TokenServer, token_egress: Egress, loopback_tls: Loopback
) -> None:
    old = Vault(before())
    with open_desk(tmp_path, old, token_server, token_egress, shared_clock=True, store_url=store_url) as desk:
        desk.store.declare(check_values.COLLECTION, check_values.INDEXES, durable=True)
        before().verify(desk.store)
        started = [begin(each) for each in works(desk, store_url, loopback_tls.ca_file, tmp_path)]
        calls = len(token_server.token_calls)
        until(lambda: len(token_server.token_calls) > calls + 8, "refreshes", timeout=90)

        for _ in range(rounds(3, short=1)):  # what they still seal with the old key is found by the next
            rotating.rotate(desk.store)
            during = len(token_server.token_calls)
            until(lambda seen=during: len(token_server.token_calls) > seen + 8, "refreshes meanwhile", timeout=90)
        until(lambda: _all_follow(desk), "everybody's following", timeout=60)
        (tmp_path / "over").touch()
        outcomes = [receiver.recv() for _, receiver in started]
        for process, _ in started:
            process.join(30)

        rotating.rotate(desk.store)
        rotating.retire(desk.store)
        _check(desk, outcomes)


def _all_follow(desk: Desk) -> bool:
    """Whether what is refreshed is sealed with the new key; that takes `LOOK_S` at the longest."""
    rotating.rotate(desk.store)
    return kids(desk.store) == {NEW_KID}


def _check(desk: Desk, outcomes: list[Done]) -> None:
    assert [done.faults for done in outcomes] == [()] * PROCESSES
    assert kids(desk.store) == {NEW_KID}
    assert key_rows.state(key_rows.all_rows(desk.store)[OLD_KID]) == "retired"
    alone = Vault(ring(NEW))
    links = [Links(desk.store, alone, desk.company_id).get(link.id) for link in desk.links.list()]
    assert {link.status for link in links} == {"active"}
    assert all(desk.server.alive(link.open("refresh_token").reveal()) for link in links)
    # one call for each generation: what was spent once was never spent again
    assert len(desk.server.token_calls) == sum(link.generation - 1 for link in links)
    components = Components(desk.store, alone, desk.company_id)
    for number, done in enumerate(outcomes):
        value = components.resolve("request", id=f"component-{number}").config["auth"]["value"]
        assert value.reveal() == done.value
        assert done.edited > 0
        assert done.refreshed > 0
