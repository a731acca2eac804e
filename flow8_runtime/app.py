"""The Celery app: its settings, each with its reason. Tasks are bound by worker.py; producers send them by name."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from flow8_core.errors import StoreUnavailable
from flow8_runtime.queues import DEFAULT_QUEUE, DRAIN, drain_queue

STEPS_QUEUE = "flow8"
UPKEEP_QUEUE = "flow8.upkeep"

RUN_STEP, EXECUTE = "flow8.run_step", "flow8.execute"
REFRESH_LINK, SWEEP, STEP_DONE = "flow8.refresh_link", "flow8.sweep", "flow8.step_done"
TASKS = frozenset({DRAIN, RUN_STEP, EXECUTE, REFRESH_LINK, SWEEP})

# The connection that lies ready may be one that a restarted broker has forgotten; a second failure is the broker's.
ONCE_MORE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}

SETTINGS: dict[str, Any] = {
    # Who can write to the broker is not trusted: no format that can carry code, no commands by broadcast.
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "worker_enable_remote_control": False,
    # The ledger is the truth. No results: they would keep outputs and error texts in Redis for a day.
    "task_ignore_result": True,
    "task_store_errors_even_if_ignored": False,
    "result_backend": None,
    # A message carries no work, so it is acknowledged when taken; losing one costs a sweep's pause. `flow8.execute`
    # alone carries work, and says so itself.
    "task_acks_late": False,
    # One wake-up at a time: a prefetched one waits behind a drain while another process idles.
    "worker_prefetch_multiplier": 1,
    # Limits would hit the drain, not a step; steps have deadlines of their own.
    "task_time_limit": None,
    "task_soft_time_limit": None,
    # Would kill a task in the midst of a vendor's call.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # Redis away is waited for, at start and later, for ever.
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # Kombu's own ends the worker on a message that is none.
    "broker_transport": "flow8_runtime.transport:Transport",
    "broker_transport_options": {
        "socket_connect_timeout": 2.0,
        "socket_timeout": 5.0,  # a look into the queues takes one
        "socket_keepalive": True,
        "health_check_interval": 30,
        # `flow8.execute` comes back after an hour if its worker died; it may run that long, but not longer.
        "visibility_timeout": 3600,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 5,
    },
    # Nobody listens to events; each costs a message.
    "worker_send_task_events": False,
    "task_send_sent_event": False,
    # Our logging redacts; Celery's own handlers would not.
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "enable_utc": True,
    "task_default_queue": STEPS_QUEUE,
    "task_create_missing_queues": True,
    # Other engines speak protocol 2; so do we, whatever Celery's default becomes.
    "task_protocol": 2,
}


def make_app(broker_url: str, *, queues: tuple[str, ...] = (DEFAULT_QUEUE,)) -> Celery:
    """A Celery app that consumes the three queues, and the wake-ups of the named queues of steps."""
    app = Celery("flow8", broker=broker_url)
    app.conf.update(SETTINGS)
    if broker_url.startswith("rediss://"):
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}  # kombu's default is to believe any certificate
    names = [STEPS_QUEUE, *(drain_queue(queue) for queue in queues), UPKEEP_QUEUE]
    app.conf.task_queues = [Queue(name, routing_key=name) for name in names]  # type: ignore[no-untyped-call]
    return app


def publish_refresh(app: Celery, message: Mapping[str, Any]) -> None:
    """Send a `flow8.refresh_link`. Raises `StoreUnavailable` where the broker does not answer."""
    _publish(app, REFRESH_LINK, message, UPKEEP_QUEUE)


def publish_answer(app: Celery, queue: str, answer: Mapping[str, Any]) -> None:
    """Send a `flow8.step_done` to a queue of the sender's. Raises `StoreUnavailable` where the broker does not
    answer."""
    _publish(app, STEP_DONE, answer, queue)


def _publish(app: Celery, task: str, kwargs: Mapping[str, Any], queue: str) -> None:
    target = Queue(queue, routing_key=queue)  # type: ignore[no-untyped-call]
    try:
        app.send_task(
            task,
            kwargs=dict(kwargs),
            queue=target,
            declare=[],  # a list in Redis needs none, and a queue of somebody else's is not ours to bind
            kwargsrepr="",  # a second copy of what may be long
            ignore_result=True,
            retry=True,
            retry_policy=ONCE_MORE,
        )
    except (OperationalError, OSError) as error:
        raise StoreUnavailable("The broker does not answer; check `broker` and that Redis runs.") from error
