"""What comes out of a broker's queue, before Celery sees it: taken apart, and only what we know put together again.

Whoever can write to the broker is not trusted. Celery and kombu end the worker on a message that is no JSON, lacks a
field or is nested deeply, and obey its headers: time limits that kill a call, callbacks, chains, compression. Here all
of that falls away. The body goes on as it is, as one text, and is read by the process that has use for it.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from typing import Any

JSON_TYPE = "application/json"
BODY_LIMIT = 16 * 1024 * 1024  # characters; `flow8.execute` with all that it may carry has 6 million
ID_LIMIT = 128
MOMENT_LIMIT = 64
WRAPPED = "flow8"  # the header by which a message is known again that the broker puts back (its worker died, say)


class Refused(ValueError):
    """Not a message for us. Says why, and nothing of the content."""


def checked(message: Any, queue: str, tasks: frozenset[str]) -> dict[str, Any]:
    """A fresh message of Celery's protocol 2 with what this one says: task, id, eta, expires, and in the keyword
    argument `message` the text of its body.

    Raises `Refused` for what is none, is not JSON, or names a task that is not in `tasks`.
    """
    message = _object(message, "the message")
    headers = _object(message.get("headers"), "headers")
    task = headers.get("task")
    if not isinstance(task, str) or task not in tasks:
        raise Refused("it names no task of ours")
    if message.get("content-type") != JSON_TYPE or message.get("content-encoding", "utf-8") != "utf-8":
        raise Refused("it is not JSON in UTF-8")
    if headers.get("compression"):
        raise Refused("it is compressed")
    moments = {name: _moment(headers.get(name), name) for name in ("eta", "expires")}
    text = _text(message)
    return _fresh(
        _id(headers.get("id")), queue, {"task": task, **moments}, _unwrapped(text) if headers.get(WRAPPED) else text
    )


def _text(message: dict[str, Any]) -> str:
    """The body, which is in base64 or as it is."""
    body = message.get("body")
    if not isinstance(body, str) or len(body) > BODY_LIMIT:
        raise Refused("its body is no text, or too long")
    encoding = _object(message.get("properties", {}), "properties").get("body_encoding")
    if encoding is None:
        return body
    if encoding != "base64":
        raise Refused("its body is in no encoding that we know")
    try:
        return base64.b64decode(body, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Refused("its body is no base64 of UTF-8") from None


def _unwrapped(text: str) -> str:
    """The text that `_fresh` has put into a body. Whoever else writes the header has a text of his own read: no more
    than without it."""
    try:
        inner = json.loads(text)[1]["message"]
    except (ValueError, RecursionError, TypeError, LookupError):
        inner = None
    if not isinstance(inner, str):
        raise Refused("its body is not what it is said to be")
    return inner


def _fresh(task_id: str, queue: str, headers: dict[str, Any], text: str) -> dict[str, Any]:
    body = json.dumps([[], {"message": text}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-type": JSON_TYPE,
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "id": task_id,
            "root_id": task_id,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": "",
            "kwargsrepr": "",
            "ignore_result": True,
            WRAPPED: True,
            **headers,
        },
        "properties": {
            "correlation_id": task_id,
            "delivery_mode": 2,
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),  # ours, not the sender's: it names the message among those in flight
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    }


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"{what} is no object")
    return value


def _id(value: Any) -> str:
    return value if isinstance(value, str) and 0 < len(value) <= ID_LIMIT else str(uuid.uuid4())


def _moment(value: Any, name: str) -> str | None:
    if value is not None and not (isinstance(value, str) and len(value) <= MOMENT_LIMIT):
        raise Refused(f"{name} is no moment")
    return value
