"""What worker.py's tasks do with a message: check it, write the ledger, drain, answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from bson import ObjectId
from celery import Celery

from flow8_core.clock import Deadline
from flow8_core.errors import Flow8Error
from flow8_runtime import messages
from flow8_runtime.app import STEP_DONE
from flow8_runtime.definition import Flow
from flow8_runtime.messages import MESSAGE_KEY, Execute, RefreshLink, RunStep
from flow8_runtime.process import WorkerProcess

log = logging.getLogger("flow8.messages")

REFRESH_S = 30.0


def run_step(process: WorkerProcess, kwargs: Mapping[str, Any]) -> None:
    """`flow8.run_step`: make one step due now, and drain. A message that is refused is logged and dropped."""
    try:
        message = messages.parse(RunStep, kwargs, _key(process))
    except Flow8Error as error:
        log.warning("flow8.run_step refused: %s", error.message)
        return
    if process.platform.ledger.make_due(message.step_run_id):
        process.drain()


def refresh_link(process: WorkerProcess, kwargs: Mapping[str, Any]) -> None:
    """`flow8.refresh_link`: refresh one link now."""
    try:
        message = messages.parse(RefreshLink, kwargs, _key(process))
        link = process.platform.links(ObjectId(message.company_id)).get(message.link_id)
        deadline = Deadline.after(REFRESH_S, process.platform.clock)
        process.platform.refresher.fresh(link, deadline=deadline, force=True)
    except Flow8Error as error:
        log.warning("flow8.refresh_link: %s", error.message)


def execute(process: WorkerProcess, app: Celery, kwargs: Mapping[str, Any]) -> None:
    """`flow8.execute`: write the ledger record, then do what any other play's step gets; answer where asked to."""
    try:
        message = messages.parse(Execute, kwargs, _key(process))
    except Flow8Error as error:
        log.warning("flow8.execute refused: %s", error.message)
        return
    try:
        _submit(process, message)
    except Flow8Error as error:
        if message.reply_to and not error.retryable:
            _answer(app, message, _refusal(message, error))
            return
        raise
    process.drain()
    answer_if_finished(process, app, message.ledger_id)


def answer_if_finished(process: WorkerProcess, app: Celery, play_id: ObjectId) -> None:
    """Send `flow8.step_done` for a finished play that came by `flow8.execute` and names a queue for the answer.

    A crash before it loses the answer alone: the sender sends again, and gets it from the ledger.
    """
    ledger = process.platform.ledger
    play = ledger.origin(play_id)
    if play is None or play["status"] in ("NEW", "RUN") or not play.get("origin", {}).get("reply_to"):
        return
    message = Execute.model_validate(play["origin"])
    _answer(app, message, ledger.describe(play))


def _submit(process: WorkerProcess, message: Execute) -> None:
    flow = Flow.parse(
        {"name": message.ledger_id.binary.hex(), "steps": [message.step]}, previous=tuple(message.previous)
    )
    process.platform.ledger.submit(
        flow,
        message.args,
        company_id=ObjectId(message.company_id),
        user_id=ObjectId(message.user_id),
        play_id=message.ledger_id,
        previous=message.previous,
        origin=message.model_dump(exclude={"args", "previous", "step"}) | {"step": {"name": flow.steps[0].name}},
    )


def _refusal(message: Execute, error: Flow8Error) -> dict[str, Any]:
    step = {"name": str(message.step.get("name", "")), "status": "failed", "output": None, "error": error.to_dict()}
    return {"steps": [step]}


def _answer(app: Celery, message: Execute, description: Mapping[str, Any]) -> None:
    app.send_task(
        STEP_DONE, kwargs=messages.step_done(message, description), queue=message.reply_to, ignore_result=True
    )


def _key(process: WorkerProcess) -> str | None:
    return process.platform.foundation.environ.get(MESSAGE_KEY)
