"""Vendor clients that are dear to make: kept per process, shared by its threads, made anew after a fork."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

T = TypeVar("T")


class Clients:
    """A least-recently-used cache of at most `size` thread-safe clients.

    The key must hold everything that tells two clients apart: endpoint, region, key id, and a digest of the secret.
    What drops out is not closed, for another thread may be using it: clients own no sockets, the egress does.
    """

    def __init__(self, *, size: int = 64) -> None:
        self._size = size
        self._kept = _Kept()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The client for `key`, made by `make` the first time. `make` may ask for another client itself."""
        kept = self._kept
        if kept.pid != os.getpid():  # a lock that was held at the fork would never be released here
            kept = self._kept = _Kept()
        with kept.lock:
            if key in kept.clients:
                kept.clients.move_to_end(key)
                return cast("T", kept.clients[key])
            client = make()
            kept.clients[key] = client
            while len(kept.clients) > self._size:
                kept.clients.popitem(last=False)
            return client


class _Kept:
    """The clients of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.clients: OrderedDict[Hashable, object] = OrderedDict()
