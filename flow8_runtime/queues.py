"""The names of queues: those of steps, as flows say them, and Celery's, on which the wake-ups for them travel."""

from __future__ import annotations

DEFAULT_QUEUE = "default"
DRAIN = "flow8.drain"  # the task
DRAIN_QUEUE = "flow8.drain"


def drain_queue(queue: str) -> str:
    """The Celery queue on which wake-ups for a named queue of steps travel."""
    return DRAIN_QUEUE if queue == DEFAULT_QUEUE else f"{DRAIN_QUEUE}.{queue}"


def step_queue(routing_key: str | None) -> str:
    """The named queue of steps for which a wake-up came: the inverse of `drain_queue`."""
    prefix = f"{DRAIN_QUEUE}."
    return routing_key.removeprefix(prefix) if routing_key and routing_key.startswith(prefix) else DEFAULT_QUEUE


def bell_channel(queue: str, *, prefix: str = "", database: int = 0) -> str:
    """The channel of Redis on which the wake-ups for a named queue of steps are heard by whoever listens already. Redis
    keeps channels apart neither by database nor by prefix; their names do."""
    return f"{prefix}flow8:bell:{database}:{queue}"
