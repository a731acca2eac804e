"""The wake-up: a message that says "something is due" and carries no work.

The producer commits first, then sets a flag in Redis and publishes only where its call set it; a drainer takes the flag
down before its first claim, so whoever found it up had committed before, and is seen. Losing a message costs time,
never work: the sweep rings without looking at the flag, for a killed drainer may have left it up.

Flag, message and bell are one round trip: a script in Redis, which is atomic there. The message is what any program may
write (docs/contracts.md), made once for each queue; only its ids are new.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import NoPermissionError, NoScriptError

from flow8_core.errors import StoreUnavailable
from flow8_runtime.queues import DEFAULT_QUEUE as DEFAULT_QUEUE  # noqa: PLC0414
from flow8_runtime.queues import DRAIN, bell_channel, drain_queue

FLAG_LIFE_S = 5
QUIET_S, LONGEST_QUIET_S = 0.02, 0.32

# KEYS: flag, queue. ARGV: the flag's life, the message, the bell's channel, "1" to ring whatever the flag says.
# A user who may not publish still rings: without the bell a lingering drainer hears of it by the message.
SCRIPT = """
local set
if ARGV[4] == '1' then
  redis.call('SET', KEYS[1], '1', 'EX', ARGV[1])
  set = true
else
  set = redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1])
end
if set then redis.call('LPUSH', KEYS[2], ARGV[2]) end
redis.pcall('PUBLISH', ARGV[3], '')
return set and 1 or 0
"""
SCRIPT_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class Wakeup:
    """Wakes drainers of a queue. `flags` is the broker's own Redis, and `prefix` what Celery is told to put before its
    keys there (`global_keyprefix`). One for all threads of a process."""

    def __init__(
        self, flags: redis.Redis, *, prefix: str = "", monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._flags = flags
        self._monotonic = monotonic
        self._prefix = prefix
        self._at_leisure: dict[str, _Pace] = {}
        self._places: dict[str, _Place] = {}
        self._held: set[str] = set()
        self._scripting = True

    def ring(self, queue: str = DEFAULT_QUEUE) -> bool:
        """Wake a drainer unless a wake-up is under way already. Call it after the ledger's commit. True if it rang.

        A drainer that lingers hears the bell in any case. Raises `StoreUnavailable` where the broker does not answer:
        the work is safe in the ledger, and the sweep will wake for it.
        """
        return self._send(queue, anyway=False)

    def ring_at_leisure(self, queue: str = DEFAULT_QUEUE) -> bool:
        """`ring`, but at most once in 20 ms, for a drainer in its loop that sees more due; even where this process
        itself holds the flag up. While nobody answers, all are busy, and it is tried more and more seldom."""
        pace = self._at_leisure.setdefault(queue, _Pace())
        now = self._monotonic()
        if now < pace.next_at:
            return False
        pace.next_at = now + pace.quiet_s  # for the threads that ask meanwhile
        rang = self._send(queue, anyway=queue in self._held)
        pace.quiet_s = QUIET_S if rang else min(2 * pace.quiet_s, LONGEST_QUIET_S)
        pace.next_at = now + pace.quiet_s
        return rang

    def ring_anyway(self, queue: str = DEFAULT_QUEUE) -> None:
        """Publish whatever the flag says: for the sweep and a starting worker."""
        self._send(queue, anyway=True)

    def answer(self, queue: str = DEFAULT_QUEUE) -> None:
        """A drainer is here: take the flag down, before the first claim. Raises `StoreUnavailable` as `ring` does; the
        flag then falls by itself, and until it has the sweep wakes."""
        self._held.discard(queue)
        try:
            self._flags.delete(self._place(queue).flag)
        except (redis.RedisError, OSError) as error:
            raise _away() from error

    def hold(self, queue: str, seconds: float) -> None:
        """Keep producers from sending messages for so long: a drainer listens to the bell. Raises `StoreUnavailable` as
        `ring` does."""
        self._held.add(queue)
        try:
            self._flags.set(self._place(queue).flag, "1", px=int(seconds * 1000))
        except (redis.RedisError, OSError) as error:
            raise _away() from error

    def _send(self, queue: str, *, anyway: bool) -> bool:
        place = self._place(queue)
        try:
            if self._scripting:
                try:
                    return self._by_script(place, anyway=anyway)
                except redis.ResponseError as error:
                    if not _refused(error):
                        raise
                    self._scripting = False  # a server, or a user of it, without scripts: for good
            return self._by_commands(place, anyway=anyway)
        except (redis.RedisError, OSError) as error:
            raise _away() from error

    def _by_script(self, place: _Place, *, anyway: bool) -> bool:
        words = (2, place.flag, place.list, FLAG_LIFE_S, place.message(), place.bell, "1" if anyway else "0")
        try:
            rung: object = self._flags.evalsha(SCRIPT_SHA, *words)
        except NoScriptError:  # a new server, or one that was told to forget
            rung = self._flags.eval(SCRIPT, *words)
        return bool(rung == 1)

    def _by_commands(self, place: _Place, *, anyway: bool) -> bool:
        """The same in two round trips. A producer that dies in between leaves the flag up and no message, and the sweep
        wakes: what it is for."""
        rung = bool(self._flags.set(place.flag, "1", nx=not anyway, ex=FLAG_LIFE_S))
        if rung:
            self._flags.lpush(place.list, place.message())
        with suppress(redis.ResponseError):  # a user who may not publish
            self._flags.publish(place.bell, "")
        return rung

    def _place(self, queue: str) -> _Place:
        place = self._places.get(queue)
        if place is None:
            place = self._places[queue] = _Place(queue, self._prefix, _database(self._flags))
        return place


@dataclass(slots=True)
class _Pace:
    """When a drainer rings at leisure next, and how long it is quiet after that (monotonic seconds)."""

    next_at: float = 0.0
    quiet_s: float = QUIET_S


class _Place:
    """Where the wake-ups of a queue go, and what they look like."""

    def __init__(self, queue: str, prefix: str, database: int) -> None:
        self.flag = f"{prefix}flow8:wake:{queue}"
        self.list = prefix + drain_queue(queue)
        self.bell = bell_channel(queue, prefix=prefix, database=database)
        self._parts = _template(drain_queue(queue))

    def message(self) -> str:
        """One more wake-up."""
        first, second, third, fourth, last = self._parts
        ids = os.urandom(32).hex()
        name, tag = ids[:32], ids[32:]
        return f"{first}{name}{second}{name}{third}{name}{fourth}{tag}{last}"


def _template(queue: str) -> list[str]:
    """A wake-up as JSON, cut where its ids go: three times the message's, once the delivery's."""
    hole = os.urandom(16).hex()  # stands nowhere else
    message: dict[str, Any] = {
        "body": base64.b64encode(b"[[],{},{}]").decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": DRAIN, "id": hole, "root_id": hole},
        "properties": {
            "correlation_id": hole,
            "delivery_tag": hole,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "body_encoding": "base64",
        },
    }
    return json.dumps(message).split(hole)


def _refused(error: redis.ResponseError) -> bool:
    return isinstance(error, NoPermissionError) or str(error).lower().startswith("unknown command")


def _database(client: redis.Redis) -> int:
    return int(client.connection_pool.connection_kwargs.get("db") or 0)


def _away() -> StoreUnavailable:
    return StoreUnavailable("The broker does not answer; check `broker` and that Redis runs.")
