"""Kombu's Redis transport with our check in front, and a hole closed: whatever lies in the queues and whenever the
broker goes, the worker lives on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any

from kombu.transport import redis

from flow8_runtime.app import TASKS
from flow8_runtime.incoming import Refused, checked

log = logging.getLogger("flow8.messages")


class QoS(redis.QoS):
    """Counts the messages in hand, which may be so many and no more.

    Kombu goes on counting a message whose acknowledgement found the broker gone. With no other to be taken, the worker
    would never look into a queue again, nor find out that its connection is lost.
    """

    def ack(self, delivery_tag: str) -> None:
        """Done with."""
        with self._counted_no_more(delivery_tag):
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # kombu's signature
        """Given back, or dropped."""
        with self._counted_no_more(delivery_tag):
            super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]

    @contextmanager
    def _counted_no_more(self, delivery_tag: str) -> Iterator[None]:
        try:
            yield
        except self.channel.connection_errors:
            self._quick_ack(delivery_tag)
            raise


class Channel(redis.Channel):
    """Reads from the queues."""

    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        delivered = self.connection.delivered
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (Empty, *self.connection_errors):
            raise
        except Exception:  # kombu could not read what it popped, which is gone from the queue
            if self.connection.delivered != delivered:
                raise
            log.warning("a message was dropped: it is no JSON")
            return True


class Transport(redis.Transport):
    """Named in the Celery app's settings."""

    Channel = Channel
    delivered = 0

    def _deliver(self, message: Any, queue: str) -> None:
        self.delivered += 1
        try:
            message = checked(message, queue, TASKS)
        except Refused as reason:
            log.warning("a message in %s was dropped: %s", queue, reason)
            return
        super()._deliver(message, queue)  # type: ignore[no-untyped-call]
