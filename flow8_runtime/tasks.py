"""What worker.py's tasks do with a message: check it, write the ledger, drain."""

from __future__ import annotations

import logging
import time

from bson import ObjectId
from celery.exceptions import Reject

from flow8_core.errors import Flow8Error, StoreUnavailable
from flow8_runtime import messages
from flow8_runtime.app import EXECUTE
from flow8_runtime.definition import Flow
from flow8_runtime.messages import MESSAGE_KEY, Execute, M, RefreshLink, RunStep
from flow8_runtime.process import WorkerProcess

log = logging.getLogger("flow8.messages")

AGAIN_S = 0.5  # before a message that could not be taken up is offered again


def run_step(process: WorkerProcess, body: str) -> None:
    """`flow8.run_step`: make one step due now, and drain. A message that is refused is logged and dropped."""
    message = _read(RunStep, process, body)
    if message is not None and process.platform.ledger.make_due(message.step_run_id):
        process.drain_all()


def refresh_link(process: WorkerProcess, body: str) -> None:
    """`flow8.refresh_link`: look after one link now, beside the steps."""
    message = _read(RefreshLink, process, body)
    if message is not None:
        process.links.take(message)


def execute(process: WorkerProcess, body: str) -> None:
    """`flow8.execute`: write the ledger record, then do what any other play's step gets. Whoever ends the step answers
    where asked to; one that is over already is answered here. Where the store is away the message goes back to its
    queue: the ledger has not heard of it, and the sender must not have to ask why."""
    try:
        _execute(process, body)
    except StoreUnavailable as error:
        time.sleep(AGAIN_S)
        raise Reject(error.message, requeue=True) from None


def _execute(process: WorkerProcess, body: str) -> None:
    message = _read(Execute, process, body)
    if message is None:
        return
    try:
        _submit(process, message)
    except Flow8Error as error:
        if error.retryable:
            raise
        process.answers.refuse(message, error)
        return
    if not process.answers.tell(message.ledger_id):
        process.drain_all()


def _read(model: type[M], process: WorkerProcess, body: str) -> M | None:
    """The message, or None where it is refused: nothing in it can be believed, so nobody is told but the log."""
    try:
        return messages.parse(model, messages.arguments(body), process.platform.foundation.environ.get(MESSAGE_KEY))
    except Flow8Error as error:
        log.warning("a %s was refused: %s", model.__name__, error.message)
        return None


def _submit(process: WorkerProcess, message: Execute) -> None:
    # one name for all, so that a step that comes a thousand times is one definition in the store
    flow = Flow.parse({"name": EXECUTE, "steps": [message.step]}, previous=tuple(message.previous))
    process.platform.ledger.submit(
        flow,
        message.args,
        company_id=ObjectId(message.company_id),
        user_id=ObjectId(message.user_id),
        play_id=message.ledger_id,
        previous=message.previous,
        origin=message.model_dump(exclude={"args", "previous", "step"}) | {"step": {"name": flow.steps[0].name}},
    )
