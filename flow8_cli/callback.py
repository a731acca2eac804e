"""Waits for the browser's return: through our API where that is running, else by serving the callback itself."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flow8_cli.session import Session
from flow8_core.errors import AccessDenied, ExecutionTimeout, Flow8Error

if TYPE_CHECKING:
    from credentials.connect import Begun
    from credentials.links import Link

LOOK_S = 0.2
EXCHANGE_S = 20.0  # a state that is used up becomes a link within this time, or not at all

Heard = queue.SimpleQueue["Link | Flow8Error"]


@dataclass(frozen=True)
class Waiting:
    """A connection that has begun at `began_at` (the store's clock)."""

    session: Session
    begun: Begun
    service: str
    began_at: datetime
    heard: Heard

    def link(self, timeout: float) -> Link:
        """The connected link. Raises what the callback came to, or `ExecutionTimeout` where nobody came."""
        ends, used_up = time.monotonic() + timeout, None
        while time.monotonic() < ends:
            result = self._next()
            if self.session.platform.connect.pending(self.begun.state):
                continue  # what was heard concerns another attempt: a page elsewhere, a scanner, an old tab
            if result is not None:
                return _link(result)
            used_up = used_up or time.monotonic()
            if time.monotonic() - used_up > EXCHANGE_S:
                raise AccessDenied("The vendor's answer came back, but made no link; the page in the browser says why.")
        raise ExecutionTimeout("Nobody came back from the vendor's page in time; run the command again.")

    def _next(self) -> Link | Flow8Error | None:
        """What this process's own callback heard, or the link that our API has stored meanwhile."""
        try:
            return self.heard.get(timeout=LOOK_S)
        except queue.Empty:
            return self._stored()

    def _stored(self) -> Link | None:
        """The link that the user's last connection made or renewed, by the audit log: a refresh is none."""
        from credentials.audit import Selection

        session = self.session
        events = session.platform.audit(session.company_id).query(
            Selection(action="integration_linked", user_id=session.user_id, since=self.began_at), limit=1
        )
        links = session.platform.links(session.company_id)
        found = links.find(events[0]["resource_id"]) if events else None
        if found is None or found.service != self.service or found.document["updated_at"] < self.began_at:
            return None
        return found


@contextmanager
def awaited(session: Session, begun: Begun, service: str) -> Iterator[Waiting]:
    """Have the callback served while the block lasts. Raises `ValidationFailed` where a stranger holds its port."""
    from flow8_runtime.deployment import LOOPBACK, answers_at

    waiting = Waiting(session, begun, service, session.platform.store.now(), queue.SimpleQueue())
    address = urlsplit(session.platform.connect.redirect_uri(service))
    port = address.port or 80
    if address.hostname not in LOOPBACK or answers_at(port, session.platform):
        yield waiting
    else:
        with _served(waiting, port):
            yield waiting


@contextmanager
def _served(waiting: Waiting, port: int) -> Iterator[None]:
    from flow8_api.app import make_app
    from flow8_api.server import listen, make_server

    with listen("127.0.0.1", port) as listener:
        server = make_server(make_app(waiting.session.platform, heard=waiting.heard.put, lasting=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(timeout=5)


def _link(result: Link | Flow8Error) -> Link:
    if isinstance(result, Flow8Error):
        raise result
    return result
