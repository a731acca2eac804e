"""`flow8 check`: every fault of a flow, before it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from flow8_cli.files import read_bytes
from flow8_cli.reporting import FAILED, reporting
from flow8_cli.session import Company, Json, User, opened

EXAMPLES = (
    "flow8 check fixtures/flows/invoice.yaml",
    "flow8 check invoice.yaml --json | jq -r '.problems[].path'",
)


def check(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The flow, JSON or YAML; - for stdin.")],
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """Look for every fault of a flow before it runs, each with its path.

    Looks at the definition and its expressions, module refs, inputs against their schemas, and whether the links and
    components that the steps need are there, usable and allowed enough. No vendor is called. Exit 1 where there is a
    fault.
    """
    from flow8_runtime import notation
    from flow8_runtime.preflight import Preflight

    with reporting(as_json=as_json) as output:
        text = read_bytes(flow, path="FLOW")
        with opened(company=company, user=user) as session:
            preflight = Preflight(session.platform, company_id=session.company_id, user_id=session.user_id)
            found = preflight.check_text(text, form=notation.form_of(flow))
        if found or as_json:
            answer = {"ok": not found, "problems": [problem.to_dict() for problem in found]}
            output.result(answer, ["where", "code", "what to do"], [[p.path, p.code, p.message] for p in found])
        else:
            output.say("Nothing is known that would stop this flow.", mark="ok", style="green")
        if found:
            raise typer.Exit(FAILED)
