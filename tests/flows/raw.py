"""Celery's protocol 2 by hand, as a program in another language writes it: JSON into a Redis list, nothing else."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Any

import redis

from tests.processes import until


def envelope(task: str, kwargs: Mapping[str, Any], *, queue: str = "flow8") -> dict[str, Any]:
    """A message with a task's name and keyword arguments."""
    message_id = str(uuid.uuid4())
    return {
        "body": body([[], kwargs, {}]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "go", "task": task, "id": message_id, "root_id": message_id},
        "properties": {
            "correlation_id": message_id,
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue},
            "body_encoding": "base64",
        },
    }


def body(value: Any) -> str:
    """The base64 of a JSON text."""
    return base64.b64encode(json.dumps(value).encode()).decode()


class Queues:
    """The broker's lists."""

    def __init__(self, url: str) -> None:
        self.redis = redis.Redis.from_url(url)

    def send(self, task: str, kwargs: Mapping[str, Any], *, queue: str = "flow8") -> None:
        """Put a message into a queue."""
        self.put(json.dumps(envelope(task, kwargs, queue=queue)), queue=queue)

    def put(self, text: str | bytes, *, queue: str = "flow8") -> None:
        """Put anything into a queue."""
        self.redis.lpush(queue, text)

    def take(self, queue: str, *, timeout: float = 15.0) -> dict[str, Any]:
        """The next message's task and keyword arguments, as `{task, **kwargs}`."""
        until(lambda: self.length(queue) > 0, f"a message in {queue}", timeout=timeout)
        message = json.loads(self.redis.rpop(queue))  # type: ignore[arg-type]
        assert (message["content-type"], message["properties"]["body_encoding"]) == ("application/json", "base64")
        args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
        assert args == []
        return {"task": message["headers"]["task"], **kwargs}

    def length(self, queue: str) -> int:
        """How many messages lie in a queue."""
        return int(self.redis.llen(queue))  # type: ignore[arg-type]
