"""What comes out of a broker's queue, before Celery sees it: taken apart, and only what we know put together again.

Whoever can write to the broker is not trusted. Celery and kombu end the worker on an envelope that is no JSON or lacks
a field, and obey its headers: time limits that kill a call, callbacks, chains, compression. Here all of that falls
away.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from typing import Any, NoReturn

JSON_TYPE = "application/json"
BODY_LIMIT = 16 * 1024 * 1024  # characters; `flow8.execute` with all that it may carry has 6 million
ID_LIMIT = 128
MOMENT_LIMIT = 64


class Refused(ValueError):
    """Not a message for us. Says why, and nothing of the content."""


def checked(envelope: Any, queue: str, tasks: frozenset[str]) -> dict[str, Any]:
    """A fresh envelope of Celery's protocol 2 with what this one says: task, id, keyword arguments, eta and expires.

    Raises `Refused` for what is none, is not JSON, or names a task that is not in `tasks`.
    """
    envelope = _object(envelope, "the message")
    headers = _object(envelope.get("headers"), "headers")
    task = headers.get("task")
    if not isinstance(task, str) or task not in tasks:
        raise Refused("it names no task of ours")
    if envelope.get("content-type") != JSON_TYPE or envelope.get("content-encoding", "utf-8") != "utf-8":
        raise Refused("it is not JSON in UTF-8")
    if headers.get("compression"):
        raise Refused("it is compressed")
    kwargs = _kwargs(envelope)
    return _fresh(task, _id(headers.get("id")), kwargs, queue, {name: _moment(headers, name) for name in MOMENTS})


MOMENTS = ("eta", "expires")


def _kwargs(envelope: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments in the body `[args, kwargs, embed]`, in base64 or as they are."""
    body = envelope.get("body")
    if not isinstance(body, str) or len(body) > BODY_LIMIT:
        raise Refused("its body is no text, or too long")
    encoding = _object(envelope.get("properties", {}), "properties").get("body_encoding")
    try:
        text = base64.b64decode(body, validate=True).decode() if encoding == "base64" else body
        parts = json.loads(text, parse_constant=_no_number)
    except (ValueError, binascii.Error, RecursionError):
        raise Refused("its body cannot be read") from None
    if encoding not in (None, "base64") or not isinstance(parts, list) or len(parts) != 3 or parts[0] != []:
        raise Refused("its body is not [[], kwargs, embed]")
    return _object(parts[1], "kwargs")


def _fresh(
    task: str, task_id: str, kwargs: dict[str, Any], queue: str, moments: dict[str, str | None]
) -> dict[str, Any]:
    body = json.dumps([[], kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-type": JSON_TYPE,
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": task,
            "id": task_id,
            "root_id": task_id,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": "()",
            "kwargsrepr": "{}",
            "ignore_result": True,
            **moments,
        },
        "properties": {
            "correlation_id": task_id,
            "delivery_mode": 2,
            "priority": 0,
            "body_encoding": "base64",
            # ours, not the sender's: it names the message among those in flight
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    }


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"{what} is no object")
    return value


def _id(value: Any) -> str:
    return value if isinstance(value, str) and 0 < len(value) <= ID_LIMIT else str(uuid.uuid4())


def _moment(headers: dict[str, Any], name: str) -> str | None:
    value = headers.get(name)
    if value is not None and not (isinstance(value, str) and len(value) <= MOMENT_LIMIT):
        raise Refused(f"{name} is no moment")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
