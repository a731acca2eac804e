"""Processes that compete for one store: what they do, and how tests start them.

They are forked from a clean server process and not from the test's own, which may have threads.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Barrier
from typing import Any

from bson.objectid import ObjectId

from flow8_core.store import DuplicateKey, Insert, Store, Update, open_store
from tests.forkserver import CONTEXT

Work = Callable[[Store, str], Any]
TOGETHER_WITHIN_S = 30


def compete(work: Work, url: str, *, processes: int = 8) -> list[Any]:
    """What each of several processes returned for `work(store, own name)`; they begin together."""
    barrier = CONTEXT.Barrier(processes)
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(processes)]
    rivals = [
        CONTEXT.Process(target=_rival, args=(work, url, f"rival{number}", barrier, sender))
        for number, (_, sender) in enumerate(pipes)
    ]
    for rival in rivals:
        rival.start()
    for _, sender in pipes:
        sender.close()
    outcomes = [receiver.recv() for receiver, _ in pipes]
    for rival, (receiver, _) in zip(rivals, pipes, strict=True):
        rival.join()
        rival.close()
        receiver.close()
    return outcomes


def _rival(work: Work, url: str, name: str, barrier: Barrier, outcome: Connection) -> None:
    with closing(open_store(url)) as store:
        store.get("warm_up", 1)
        barrier.wait(TOGETHER_WITHIN_S)
        outcome.send(work(store, name))


def start_writer(url: str, name: str) -> tuple[ForkServerProcess, Connection]:
    """A process that writes until it is killed, and the pipe on which it says what was acknowledged."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_write_for_ever, args=(url, name, sender))
    process.start()
    sender.close()
    return process, receiver


def _write_for_ever(url: str, name: str, acknowledged: Connection) -> None:
    store = open_store(url)
    number = 0
    while True:
        store.insert("written", {"_id": f"{name}.{number}", "owner": name, "list": [number]})
        store.update("counters", {"_id": name}, {"$inc": {"count": 1}}, upsert=True)
        store.batch(
            [
                Insert("written", {"_id": f"{name}.{number}.batch", "owner": name}),
                Update("counters", {"_id": name}, {"$set": {"last": number}}),
            ]
        )
        acknowledged.send(number)
        number += 1


def in_child(work: Callable[[], bool]) -> Callable[[], bool]:
    """Fork this process; the returned function waits for the child and says whether its work came out true."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later: of forks among threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def increments(store: Store, _: str) -> int:
    """50 increments of one counter."""
    return sum(store.update("counters", {"_id": "all"}, {"$inc": {"count": 1}}) is not None for _ in range(50))


def claims(store: Store, name: str) -> list[int]:
    """The jobs taken by first-match updates, until none is left."""
    taken = []
    while job := store.update(
        "jobs", {"status": "new"}, {"$set": {"status": "taken", "owner": name}}, sort=[("rank", 1)]
    ):
        taken.append(job["_id"])
    return taken


def consumptions(store: Store, _: str) -> list[int]:
    """The tickets consumed by deletes, until none is left."""
    consumed = []
    while ticket := store.delete("tickets", {"kind": "one-time"}, sort=[("_id", 1)]):
        consumed.append(ticket["_id"])
    return consumed


def leases(store: Store, name: str) -> list[int]:
    """Which of 40 leases this process won: free, or over."""
    won = []
    for number in range(40):
        now = store.now()
        free = {"_id": number, "$or": [{"until": None}, {"until": {"$lte": now}}]}
        lease = {"$set": {"owner": name, "until": now + timedelta(minutes=1)}}
        if store.update("leases", free, lease) is not None:
            won.append(number)
    return won


def compare_and_set(store: Store, name: str) -> int:
    """25 replacements of one document, each on the `rev` that was read, half of them in batches."""
    for attempt in range(25):
        while True:
            seen = store.get("plays", "p")
            assert seen is not None
            changed = {
                **seen,
                "rev": seen["rev"] + 1,
                "log": [*seen["log"], f"{name}.{attempt}"],
                "write_id": ObjectId(),
            }
            condition = {"_id": "p", "rev": seen["rev"]}
            if attempt % 2:
                applied = store.batch([Update("plays", condition, changed)]) == [True]
            else:
                applied = store.update("plays", condition, changed) is not None
            if applied:
                break
    return 25


def inserts(store: Store, name: str) -> int:
    """How many of 30 documents this process was first to insert."""
    first = 0
    for number in range(30):
        try:
            store.insert("named", {"_id": ObjectId(), "name": f"name {number}", "by": name})
            first += 1
        except DuplicateKey:
            continue
    return first


def upserts(store: Store, _: str) -> int:
    """30 counters, made by whoever comes first."""
    for number in range(30):
        assert store.update("upserted", {"_id": number}, {"$inc": {"count": 1}}, upsert=True) is not None
    return 30
