"""What worker.py's tasks do with a message: check it, write the ledger, drain."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from bson import ObjectId

from flow8_core.clock import Deadline
from flow8_core.errors import Flow8Error
from flow8_runtime import messages
from flow8_runtime.app import EXECUTE
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
        process.drain_all()


def refresh_link(process: WorkerProcess, kwargs: Mapping[str, Any]) -> None:
    """`flow8.refresh_link`: refresh one link now."""
    try:
        message = messages.parse(RefreshLink, kwargs, _key(process))
        link = process.platform.links(ObjectId(message.company_id)).get(message.link_id)
        deadline = Deadline.after(REFRESH_S, process.platform.clock)
        process.platform.refresher.fresh(link, deadline=deadline, force=True)
    except Flow8Error as error:
        log.warning("flow8.refresh_link: %s", error.message)


def execute(process: WorkerProcess, kwargs: Mapping[str, Any]) -> None:
    """`flow8.execute`: write the ledger record, then do what any other play's step gets. Whoever ends the step answers
    where asked to; one that is over already is answered here."""
    try:
        message = messages.parse(Execute, kwargs, _key(process))
    except Flow8Error as error:
        log.warning("flow8.execute refused: %s", error.message)
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


def _key(process: WorkerProcess) -> str | None:
    return process.platform.foundation.environ.get(MESSAGE_KEY)
