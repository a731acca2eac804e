"""`flow8 check`: every fault of a flow, before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flow8_cli.output import FAILED
from flow8_cli.session import Company, Json, User, opened, reporting


def check(
    flow: Annotated[Path, typer.Argument(help="The flow, JSON or YAML.")],
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """Check a flow: module refs, inputs, links and components there, scopes enough. No vendor is called.

    Example: flow8 check fixtures/flows/invoice.yaml
    """
    from flow8_core.errors import ValidationFailed
    from flow8_runtime.definition import Flow
    from flow8_runtime.preflight import Preflight, Problem

    with reporting(as_json=as_json) as output:
        try:
            definition = Flow.load(flow)
        except ValidationFailed as error:
            found = [Problem(path, error.code, message) for path, message in error.problems]
        else:
            with opened(company=company, user=user) as session:
                platform = session.platform
                found = Preflight(
                    platform.catalogue, platform.resolver, company_id=session.company_id, user_id=session.user_id
                ).check(definition)
        if as_json:
            output.document({"ok": not found, "problems": [problem.to_dict() for problem in found]})
        elif found:
            output.table(["where", "code", "what to do"], [[p.path, p.code, p.message] for p in found])
        else:
            output.say("[green]ok[/green] nothing is known that would stop this flow")
        if found:
            raise typer.Exit(FAILED)
