"""Looking after links beside the steps: what is due is sent to the queue `flow8.upkeep`, and a few threads of each
worker process do it.

The message carries no work: whoever gets it reads the link, and does what its dates ask for then. A provider that does
not answer holds up a thread here and no step. What is too much is dropped, for it comes again.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bson import ObjectId
from celery import Celery

from credentials.key_census import UNKNOWN
from flow8_core.clock import Deadline
from flow8_core.errors import Flow8Error, InternalError
from flow8_runtime import app as celery_app
from flow8_runtime import messages
from flow8_runtime.messages import MESSAGE_KEY, RefreshLink
from flow8_runtime.platform import Platform

THREADS = 4
WAITING = 64  # of one process; more are left to the others
REFRESH_S = 30.0

log = logging.getLogger("flow8.upkeep")


class Caretaker:
    """One process's part in keeping links alive."""

    def __init__(self, platform: Platform, app: Celery) -> None:
        self._platform = platform
        self._app = app
        self._room = threading.BoundedSemaphore(THREADS + WAITING)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="flow8-links")

    def send_due(self) -> int:
        """Send the links whose moment has come to the queue, and pause or resume those of applications; how many were
        sent. For the sweep. Raises `StoreUnavailable`."""
        upkeep = self._platform.upkeep
        upkeep.pause_and_resume()
        sent = 0
        for due in upkeep.due():
            ids = {"company_id": str(due.company_id), "link_id": str(due.link_id)}
            celery_app.publish_refresh(self._app, self._signed({"version": 1, **ids, "if_due": not due.trial}))
            sent += 1
        return sent

    def adopt_spooled(self) -> None:
        """Bring what this host's spool holds to its links; each process looks, for the spool is its host's own."""
        if self._platform.settings.refresh.spool is not None:
            self._platform.refresher.adopt(deadline=Deadline.after(REFRESH_S, self._platform.clock))

    def spooled(self) -> dict[str, int]:
        """How many files in this host's spool need which key."""
        platform = self._platform
        try:
            kids = platform.spools.here.kids(platform.vault)
        except InternalError as error:
            log.warning("%s", error.message)
            return {}
        return {kid or UNKNOWN: count for kid, count in kids.items()}

    def take(self, message: RefreshLink) -> bool:
        """Look after a link in a thread of its own; whether there was room for it."""
        if not self._room.acquire(blocking=False):
            log.info("no room for another link; it comes again")
            return False
        self._threads.submit(self._look, message)
        return True

    def close(self) -> None:
        """Finish what has begun: a refresh that is broken off may cost its link."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _look(self, message: RefreshLink) -> None:
        platform = self._platform
        try:
            link = platform.links(ObjectId(message.company_id)).get(message.link_id)
            deadline = Deadline.after(REFRESH_S, platform.clock)
            platform.upkeep.look(link, platform.refresher, deadline=deadline, wished=not message.if_due)
        except Flow8Error as error:
            log.warning("flow8.refresh_link: %s", error.message)
        except Exception:
            log.exception("a link could not be looked after")
        finally:
            self._room.release()

    def _signed(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        key = self._platform.foundation.environ.get(MESSAGE_KEY)
        return kwargs | {"signature": messages.sign(kwargs, key)} if key else kwargs
