"""The cache of vendor clients: per process, shared by its threads."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flow8_modules import Clients


def test_a_client_is_made_once_for_all_threads() -> None:
    clients = Clients()
    made: list[object] = []
    ready = threading.Barrier(8)

    def make() -> object:
        made.append(object())
        return made[-1]

    def ask(_: int) -> object:
        ready.wait()
        return clients.get("key", make)

    with ThreadPoolExecutor(8) as pool:
        got = set(pool.map(ask, range(8)))

    assert 1 == len(made) == len(got)


def test_other_keys_have_other_clients() -> None:
    clients = Clients()

    assert clients.get(("s3", "a"), object) is not clients.get(("s3", "b"), object)


def test_the_one_that_was_not_used_for_longest_goes() -> None:
    clients = Clients(size=2)
    first = clients.get(1, object)
    second = clients.get(2, object)

    clients.get(1, object)
    clients.get(3, object)

    assert first is clients.get(1, object)
    assert second is not clients.get(2, object)


def test_making_one_client_may_ask_for_another() -> None:
    clients = Clients()

    assert clients.get("client", lambda: (clients.get("session", lambda: "session"),)) == ("session",)


def test_a_failure_to_make_one_is_not_kept() -> None:
    clients = Clients()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            clients.get("key", lambda: 1 // 0)

    assert clients.get("key", lambda: 7) == 7


def test_a_child_makes_its_own_even_when_the_fork_found_the_lock_taken() -> None:
    clients = Clients()
    parents = clients.get("key", object)
    reading, writing = os.pipe()
    holding, forked = threading.Event(), threading.Event()

    def hold() -> None:
        clients.get("slow", lambda: (holding.set(), forked.wait(10)))

    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait(10)
    child = os.fork()
    if child == 0:
        mine = clients.get("key", object)
        os.write(writing, b"own" if mine is not parents else b"parent's")
        os._exit(0)
    forked.set()
    holder.join()
    os.waitpid(child, 0)

    assert os.read(reading, 100) == b"own"
