"""Answers to engines with records of their own: `flow8.step_done` for a step that came by `flow8.execute`.

An answer that is lost costs nothing but time: the sender sends again, and gets it from the ledger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from bson import ObjectId
from celery import Celery

from flow8_core.errors import Flow8Error, StoreUnavailable
from flow8_runtime import messages
from flow8_runtime.app import publish_answer
from flow8_runtime.ledger import Ledger
from flow8_runtime.messages import Execute
from flow8_runtime.states import LIVE_PLAYS

log = logging.getLogger("flow8.messages")


class Answers:
    """Sends answers. Threads may share one; `ledger` is asked for when there is something to tell."""

    def __init__(self, ledger: Callable[[], Ledger], app: Celery) -> None:
        self._ledger = ledger
        self._app = app

    def tell(self, play_id: ObjectId) -> bool:
        """Send the outcome of a play that is over, where somebody waits for it. True where it is over."""
        ledger = self._ledger()
        play = ledger.origin(play_id)
        if play is None or play["status"] in LIVE_PLAYS:
            return False
        if play.get("origin", {}).get("reply_to"):
            self._send(Execute.model_validate(play["origin"]), ledger.describe(play))
        return True

    def tell_all(self, play_ids: list[ObjectId]) -> None:
        """`tell` for each; what cannot be told now is asked for again."""
        for play_id in play_ids:
            try:
                self.tell(play_id)
            except StoreUnavailable as error:
                log.warning("an answer was not sent: %s", error.message)

    def refuse(self, message: Execute, error: Flow8Error) -> None:
        """Say that a step cannot be taken up as it stands, where the message says to whom."""
        if message.reply_to:
            name = str(message.step.get("name", ""))
            step = {"name": name, "status": "failed", "output": None, "error": error.to_dict()}
            self._send(message, {"steps": [step]})

    def _send(self, message: Execute, description: Mapping[str, Any]) -> None:
        try:
            publish_answer(self._app, str(message.reply_to), messages.step_done(message, description))
        except StoreUnavailable as error:
            log.warning("an answer was not sent: %s", error.message)
