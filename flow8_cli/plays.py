"""`flow8 plays`: what ran, what waits, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow8_cli.session import Company, Json, User, opened, reporting

if TYPE_CHECKING:
    from bson import ObjectId


def plays(
    play_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Show this play with its steps.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many plays, newest first.")] = 25,
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """List the newest plays, or show one with its steps.

    Examples: flow8 plays
              flow8 plays 6923f0c2a7d1e84b5c0f9a12 --json
    """
    with reporting(as_json=as_json) as output, opened(company=company, user=user) as session:
        ledger = session.platform.ledger
        if play_id is not None:
            described = ledger.describe(ledger.get(_play(play_id), company_id=session.company_id))
            if as_json:
                output.document(described)
            else:
                output.table(*steps_table(described))
            return
        shown = [ledger.describe(play) for play in ledger.list(company_id=session.company_id, limit=limit)]
        if as_json:
            output.document({"plays": shown})
            return
        rows = [[p["play_id"], p["status"], p["seconds"], len(p["steps"]), _waiting(p)] for p in shown]
        output.table(["play", "status", "seconds", "steps", "waits or failed at"], rows)


def steps_table(described: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a play's steps."""
    rows = [[s["name"], s["module_ref"], s["status"], s["attempts"], _why(s)] for s in described["steps"]]
    return ["step", "module", "status", "attempts", "note"], rows


def _play(text: str) -> ObjectId:
    from bson import ObjectId

    from flow8_core.errors import NotFound

    if not ObjectId.is_valid(text):
        raise NotFound("There is no such play.", path="play_id")
    return ObjectId(text)


def _why(step: dict[str, Any]) -> str:
    error = step["error"]
    return f"{error['code']}: {error['message']}" if error else ""


def _waiting(described: dict[str, Any]) -> str:
    concerned = [
        step["name"] for step in described["steps"] if step["status"] not in ("done", "filtered", "skipped", "waiting")
    ]
    return ", ".join(concerned)
