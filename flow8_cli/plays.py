"""`flow8 plays`: what ran, what waits, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow8_cli.output import Output
from flow8_cli.reporting import reporting
from flow8_cli.session import Company, Json, Session, User, opened
from flow8_core.errors import ValidationFailed

if TYPE_CHECKING:
    from bson import ObjectId

EXAMPLES = (
    "flow8 plays",
    "flow8 plays 6923f0c2a7d1e84b5c0f9a12",
    "flow8 plays 6923f0c2a7d1e84b5c0f9a12 --json | jq '.steps[].output'",
    "flow8 plays cancel 6923f0c2a7d1e84b5c0f9a12",
    "flow8 plays cancel 6923f0c2a7d1e84b5c0f9a12 notify-slack",
)

CANCEL = "cancel"
QUIET = ("done", "filtered", "skipped", "waiting")
STEP_COLUMNS = ["step", "module", "status", "attempts", "note"]


def plays(
    play_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Show this play with its steps; or the word cancel.")
    ] = None,
    cancelled: Annotated[str | None, typer.Argument(metavar="PLAY", help="After cancel: the play.")] = None,
    step: Annotated[
        str | None, typer.Argument(metavar="STEP", help="After cancel: this one step, by its name, and no other.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many plays, newest first.")] = 25,
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """List the newest plays, show one with its steps, or cancel one.

    `cancel` stops what has not called its service yet, of the whole play or of one step. What is calling may still take
    effect, and is named; it is not called again. Under on_error: fail a cancelled step ends its play.
    """
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        if play_id is None:
            _list(output, session, limit)
        elif play_id == CANCEL:
            _cancel(output, session, cancelled, step)
        elif cancelled is not None:
            raise ValidationFailed("There are more arguments than this command takes.", path="command line")
        else:
            _show(output, session, _object_id(play_id))


def step_rows(described: dict[str, Any]) -> list[list[Any]]:
    """A play's steps as rows of `STEP_COLUMNS`."""
    return [[s["name"], s["module_ref"], s["status"], s["attempts"], _note(s["error"])] for s in described["steps"]]


def _list(output: Output, session: Session, limit: int) -> None:
    ledger = session.platform.ledger
    shown = [ledger.describe(play) for play in ledger.list(company_id=session.company_id, limit=limit)]
    rows = [[p["play_id"], p["status"], p["seconds"], len(p["steps"]), _concerned(p)] for p in shown]
    output.result({"plays": shown}, ["play", "status", "seconds", "steps", "waits or failed at"], rows)


def _show(output: Output, session: Session, play_id: ObjectId) -> None:
    ledger = session.platform.ledger
    described = ledger.describe(ledger.get(play_id, company_id=session.company_id))
    output.result(described, STEP_COLUMNS, step_rows(described))


def _cancel(output: Output, session: Session, play: str | None, step: str | None) -> None:
    if play is None:
        raise ValidationFailed("Which play? Its id goes behind cancel; `flow8 plays` lists them.", path="PLAY")
    ledger, play_id, company_id = session.platform.ledger, _object_id(play), session.company_id
    if step is None:
        told = ledger.cancel(play_id, company_id=company_id)
    else:
        told = ledger.cancel_step(play_id, step, company_id=company_id)
    described = ledger.describe(told.play)
    output.result({**described, "open": list(told.open)}, STEP_COLUMNS, step_rows(described))
    for step_run_id in told.open:
        name = step_run_id.partition(":")[2]
        output.say(
            f"{name} has begun to call its service: that may still take effect, and is not repeated.", mark="open"
        )


def _object_id(text: str) -> ObjectId:
    from bson import ObjectId

    from flow8_core.errors import NotFound

    if not ObjectId.is_valid(text):
        raise NotFound("There is no such play.", path="play_id")
    return ObjectId(text)


def _note(error: dict[str, Any] | None) -> str:
    return f"{error['code']}: {error['message']}" if error else ""


def _concerned(described: dict[str, Any]) -> str:
    return ", ".join(_named(step) for step in described["steps"] if step["status"] not in QUIET)


def _named(step: dict[str, Any]) -> str:
    waiting_for = step.get("waiting_for")
    return f"{step['name']} (waits for {waiting_for.replace(':', ' ')})" if waiting_for else str(step["name"])
