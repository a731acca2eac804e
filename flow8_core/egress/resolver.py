"""Name resolution with a time limit, which `getaddrinfo` has not: it may sit in a dead DNS server for half a minute."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from flow8_core.clock import Deadline
from flow8_core.egress.url import Url

GetAddrInfo = Callable[..., Sequence[tuple[Any, ...]]]
SocketAddress = tuple[Any, ...]
Answers = SimpleQueue[Sequence[tuple[Any, ...]] | BaseException]

LOOKUPS = 32  # at once: so many threads may be stuck in a dead DNS server, and no more


class Resolver:
    """Asks `getaddrinfo` in a thread of its own, and stops waiting at the deadline."""

    def __init__(self, getaddrinfo: GetAddrInfo) -> None:
        self._getaddrinfo = getaddrinfo
        self._slots = threading.BoundedSemaphore(LOOKUPS)
        self._pid = os.getpid()

    def addresses(self, url: Url, deadline: Deadline) -> list[tuple[int, SocketAddress]]:
        """All (family, socket address) answers for the URL's host, from one lookup; a literal address needs none.

        Raises `TimeoutError` at the deadline and `OSError` (`socket.gaierror`) where the name does not resolve.
        """
        literal = _literal(url)
        if literal is not None:
            return [literal]
        slots = self._mine()
        if not slots.acquire(timeout=deadline.remaining()):
            raise TimeoutError
        answers: Answers = SimpleQueue()
        try:
            threading.Thread(target=self._look_up, args=(url, answers, slots), name="flow8-dns", daemon=True).start()
        except BaseException:
            slots.release()
            raise
        try:
            answer = answers.get(timeout=deadline.remaining())
        except Empty:
            raise TimeoutError from None
        if isinstance(answer, BaseException):
            raise answer
        return [(entry[0], entry[4]) for entry in answer]

    def _mine(self) -> threading.BoundedSemaphore:
        if self._pid != os.getpid():  # a forked child has none of the threads that hold slots
            self._pid, self._slots = os.getpid(), threading.BoundedSemaphore(LOOKUPS)
        return self._slots

    def _look_up(self, url: Url, answers: Answers, slots: threading.BoundedSemaphore) -> None:
        try:
            answers.put(self._getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP))
        except BaseException as error:  # noqa: BLE001  # handed to the thread that waits
            answers.put(error)
        finally:
            slots.release()


def _literal(url: Url) -> tuple[int, SocketAddress] | None:
    """A host that is an address is canonical already (`Url`), so its shape tells."""
    if ":" in url.host:
        return socket.AF_INET6, (url.host, url.port, 0, 0)
    if url.host.rpartition(".")[2].isdigit():
        return socket.AF_INET, (url.host, url.port)
    return None
