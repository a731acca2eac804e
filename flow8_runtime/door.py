"""The Python door: hand in a play, wait for it. `flow8_runtime.submit` and `flow8_runtime.wait`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

from bson import ObjectId

from flow8_runtime.definition import Flow
from flow8_runtime.foundation import Foundation
from flow8_runtime.platform import Platform

FIRST_LOOK_S, LAST_LOOK_S = 0.002, 0.1


class Door:
    """Hands plays to the ledger of a deployment and wakes its workers. Keep one; it holds connections."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    @classmethod
    def open(cls, environ: Mapping[str, str] | None = None) -> Door:
        """A door to the deployment that flow8.yaml, .env and the environment describe."""
        return cls(Platform(Foundation.lay(os.environ if environ is None else environ)))

    def submit(
        self,
        definition: Mapping[str, Any] | Flow,
        args: Mapping[str, Any] | None = None,
        *,
        company_id: ObjectId,
        user_id: ObjectId,
        play_id: ObjectId | None = None,
    ) -> ObjectId:
        """Write a play with its first steps due, wake a worker, and return the play's id.

        Once this returns, the play is not lost, whatever happens to workers or broker. With a `play_id` of your own,
        a second submit changes nothing. Raises `ValidationFailed` with every fault of the definition at once.
        """
        flow = definition if isinstance(definition, Flow) else Flow.parse(definition)
        play = self.platform.ledger.submit(flow, args or {}, company_id=company_id, user_id=user_id, play_id=play_id)
        self.platform.bell.ring({step.queue for step in flow.steps})
        return play

    def submit_many(
        self,
        definition: Mapping[str, Any] | Flow,
        many: Iterable[Mapping[str, Any]],
        *,
        company_id: ObjectId,
        user_id: ObjectId,
        play_ids: Sequence[ObjectId] | None = None,
    ) -> list[ObjectId]:
        """`submit` for each of these arguments, some thousand a second: the plays' ids, in the same order.

        All arguments are checked before anything is written; `ValidationFailed` names each fault below `args[index]`.
        With `play_ids` of your own, one for each, it can be done again after an error, and adds only what is missing.
        Workers are woken once, at the end. All of it is held in memory: hand in a larger crowd in parts.
        """
        flow = definition if isinstance(definition, Flow) else Flow.parse(definition)
        listed = list(many)
        ids = [ObjectId() for _ in listed] if play_ids is None else list(play_ids)
        try:
            self.platform.ledger.submit_many(flow, listed, company_id=company_id, user_id=user_id, play_ids=ids)
        finally:
            if listed:
                self.platform.bell.ring({step.queue for step in flow.steps})
        return ids

    def wait(self, play_id: ObjectId, *, company_id: ObjectId, timeout: float = 300.0) -> dict[str, Any]:
        """The play as `flow8 run --json` prints it, once it is over, or as it stands after `timeout` seconds."""
        ledger = self.platform.ledger
        ends = time.monotonic() + timeout
        pause = FIRST_LOOK_S
        while True:
            play = ledger.get(play_id, company_id=company_id)
            if play["status"] not in ("NEW", "RUN") or time.monotonic() >= ends:
                return ledger.describe(play)
            time.sleep(min(pause, max(0.0, ends - time.monotonic())))
            pause = min(LAST_LOOK_S, pause * 1.3)

    def broker_dump(self) -> bytes:
        """All that lies in the broker now, as Redis serialises it: for looking whether a secret is in it."""
        self.platform.bell.find()
        flags = self.platform.bell.flags
        if flags is None:
            return b""
        return b"".join(key + (flags.dump(key) or b"") for key in list(flags.scan_iter(count=1000)))

    def close(self) -> None:
        """Close the connections."""
        self.platform.close()


def submit(
    definition: Mapping[str, Any] | Flow,
    args: Mapping[str, Any] | None = None,
    *,
    company_id: ObjectId | None = None,
    user_id: ObjectId | None = None,
) -> ObjectId:
    """`Door.submit` through a door opened for this one call; keep a `Door` where you submit more than now and then.

    Who acts is as on the command line: FLOW8_COMPANY and FLOW8_USER, or embedded mode's one local user, where it is not
    said here.
    """
    with closing(Door.open()) as door:
        company, user = door.platform.identity(_text(company_id), _text(user_id))
        return door.submit(definition, args, company_id=company, user_id=user)


def submit_many(
    definition: Mapping[str, Any] | Flow,
    many: Iterable[Mapping[str, Any]],
    *,
    company_id: ObjectId | None = None,
    user_id: ObjectId | None = None,
    play_ids: Sequence[ObjectId] | None = None,
) -> list[ObjectId]:
    """`Door.submit_many` through a door opened for this one call; who acts is found as by `submit`."""
    with closing(Door.open()) as door:
        company, user = door.platform.identity(_text(company_id), _text(user_id))
        return door.submit_many(definition, many, company_id=company, user_id=user, play_ids=play_ids)


def wait(play_id: ObjectId, *, company_id: ObjectId | None = None, timeout: float = 300.0) -> dict[str, Any]:
    """`Door.wait` through a door opened for this one call; the company is found as by `submit`."""
    with closing(Door.open()) as door:
        company = company_id or door.platform.identity()[0]
        return door.wait(play_id, company_id=company, timeout=timeout)


def _text(given: ObjectId | None) -> str | None:
    return None if given is None else str(given)
