"""Waits for the browser's return: through our API where that is running, else by serving the callback itself."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flow8_cli.session import Session
from flow8_core.errors import AccessDenied, ExecutionTimeout, Flow8Error, ValidationFailed

if TYPE_CHECKING:
    from credentials.connect import Begun
    from credentials.links import Link

LOOK_S = 0.2
EXCHANGE_S = 20.0  # a state that is used up becomes a link within this time, or not at all


class Waiting:
    """A connect that has begun. `link` waits for it to end."""

    def __init__(self, session: Session, begun: Begun, service: str) -> None:
        self._session = session
        self._begun = begun
        self._service = service
        self._began_at = session.platform.store.now()
        self._heard: queue.Queue[Link | Flow8Error] = queue.Queue()
        self.hear = self._heard.put

    def link(self, timeout: float) -> Link:
        """The connected link. Raises what the callback came to, or `ExecutionTimeout` where nobody came."""
        ends = time.monotonic() + timeout
        used_up: float | None = None
        while time.monotonic() < ends:
            result = self._next()
            if isinstance(result, Flow8Error):
                raise result
            if result is not None:
                return result
            if used_up is None and not self._session.platform.connect.pending(self._begun.state):
                used_up = time.monotonic()
            if used_up is not None and time.monotonic() - used_up > EXCHANGE_S:
                raise AccessDenied("The vendor's answer came back, but made no link; the page in the browser says why.")
        raise ExecutionTimeout("Nobody came back from the vendor's page in time; run the command again.")

    def _next(self) -> Link | Flow8Error | None:
        """What this process's own callback heard, or the link that our API has stored meanwhile."""
        try:
            return self._heard.get(timeout=LOOK_S)
        except queue.Empty:
            links = self._session.platform.links(self._session.company_id)
            fresh = [
                link
                for link in links.list(service=self._service, user_id=self._session.user_id, status="active")
                if link.document["updated_at"] >= self._began_at
            ]
            return fresh[0] if fresh else None


@contextmanager
def connected(session: Session, begun: Begun, service: str) -> Iterator[Waiting]:
    """Have the callback served while the block lasts."""
    waiting = Waiting(session, begun, service)
    listener = _listen(session.platform.settings.callback_port)
    if listener is None:
        _require_our_api(session)
        yield waiting
        return
    server = _server(session, waiting)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield waiting
    finally:
        server.should_exit = True
        thread.join(timeout=5)
        listener.close()


def _listen(port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        return None
    listener.listen()
    return listener


def _server(session: Session, waiting: Waiting) -> Any:
    import uvicorn

    from flow8_api.app import make_app

    return uvicorn.Server(
        uvicorn.Config(
            make_app(session.platform, heard=waiting.hear),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
        )
    )


def _require_our_api(session: Session) -> None:
    """Somebody holds the port; it has to be our API, or the browser's return would end at a stranger's."""
    import json
    from urllib.error import URLError
    from urllib.request import ProxyHandler, build_opener

    port = session.platform.settings.callback_port
    try:
        with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            ours = json.loads(answer.read(4096)).get("service") == "flow8-modules"
    except (URLError, OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise ValidationFailed(
            f"Port {port} is taken by another program; free it, or change public_url.", path="public_url"
        )
