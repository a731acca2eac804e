"""Processes that refresh again and again, on one store, at one server."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from bson import ObjectId

from credentials.links import Links
from credentials.refresh import Refresher
from credentials.vault import Vault
from flow8_core import errors
from flow8_core.clock import Deadline, SystemClock
from flow8_core.egress import Egress, EgressSettings
from flow8_core.store import Store, open_store
from tests.credentials.desk import Desk, SharedClock, providers_at
from tests.forkserver import CONTEXT

Named = tuple[str, str]  # a link's company and id


@dataclass(frozen=True)
class Place:
    """Where a crowd works: a desk's store and server."""

    folder: Path
    url: str
    ca_file: Path
    acme: dict[str, Any]

    @contextmanager
    def opened(self) -> Iterator[tuple[Store, Vault, Refresher]]:
        """A process's own store, vault and refresher."""
        from tests.credentials.derived import RING

        with ExitStack() as stack:
            clock = SharedClock(self.folder / "ahead")
            store = stack.enter_context(closing(open_store(f"sqlite:///{self.folder / 'desk.db'}", clock=clock)))
            settings = EgressSettings(allow=(self.url.removeprefix("https://"),), ca_file=self.ca_file)
            egress = stack.enter_context(Egress(settings))
            vault = Vault(RING)
            yield store, vault, Refresher(store, vault, providers_at(self.url, **self.acme), egress)


def named(desk: Desk, link_id: ObjectId) -> Named:
    """A link of the desk, as another process is told of it."""
    return str(desk.company_id), str(link_id)


class Workplace(Protocol):
    """Where a crowd works: sent to each process, and opened there."""

    def opened(self) -> AbstractContextManager[tuple[Store, Vault, Refresher]]: ...


class Crowd:
    """So many processes at one place. `ask` gives each its order and gathers their answers."""

    def __init__(self, place: Workplace, count: int) -> None:
        self._members = []
        for _ in range(count):
            ours, theirs = CONTEXT.Pipe()
            process = CONTEXT.Process(target=_member, args=(place, theirs), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, ours))
        for _, pipe in self._members:
            assert pipe.recv() == "ready"

    def ask(self, *orders: Any) -> list[Any]:
        """Each process gets one of the orders, or all the same one; their answers."""
        for (_, pipe), order in zip(self._members, orders * (len(self._members) // len(orders)), strict=True):
            pipe.send(order)
        return [pipe.recv() for _, pipe in self._members]

    def close(self) -> None:
        for process, pipe in self._members:
            pipe.send(None)
            process.join(30)
            pipe.close()


@dataclass(frozen=True)
class Once:
    """Make a link's token fresh, all at once; the answer is (an error's code or "fresh", the generation)."""

    link: Named


@dataclass(frozen=True)
class Often:
    """Refresh links by wish, each chosen by chance, until so many refreshes went well; the answer counts outcomes."""

    links: Sequence[Named]
    count: int
    seed: int


def _member(place: Workplace, orders: Connection) -> None:
    with place.opened() as (store, vault, refresher):
        orders.send("ready")
        while (order := orders.recv()) is not None:
            if isinstance(order, Once):
                orders.send(_once(store, vault, refresher, order))
            else:
                orders.send(_often(store, vault, refresher, order))


def _once(store: Store, vault: Vault, refresher: Refresher, order: Once) -> tuple[str, int]:
    link = Links(store, vault, ObjectId(order.link[0])).get(order.link[1])
    try:
        return "fresh", refresher.fresh(link, deadline=Deadline.after(20.0, SystemClock())).generation
    except errors.Flow8Error as error:
        return error.code, link.generation


def _often(store: Store, vault: Vault, refresher: Refresher, order: Often) -> Counter[str]:
    chance, outcomes = random.Random(order.seed), Counter[str]()
    while outcomes["fresh"] < order.count:
        company, link_id = chance.choice(order.links)
        try:
            link = Links(store, vault, ObjectId(company)).get(link_id)
            refresher.refresh(link, deadline=Deadline.after(20.0, SystemClock()))
        except errors.Flow8Error as error:
            outcomes[error.code] += 1
        else:
            outcomes["fresh"] += 1
    return outcomes
