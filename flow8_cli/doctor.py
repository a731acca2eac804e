"""`flow8 doctor`: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

import typer

from flow8_cli.output import FAILED
from flow8_cli.session import Json, foundation, reporting


def doctor(as_json: Json = False) -> None:
    """Check store, keys, broker, workers and configuration, and say what to mend. Exit 1 where something fails.

    Example: flow8 doctor --json
    """
    from flow8_runtime.doctor import examine
    from flow8_runtime.platform import Platform

    with reporting(as_json=as_json) as output:
        platform = Platform(foundation())
        try:
            findings = examine(platform)
        finally:
            platform.close()
        if as_json:
            output.document({"findings": [finding.to_dict() for finding in findings]})
        else:
            output.table(["check", "state", "what to do"], [[f.check, f.level, f.message] for f in findings])
        if any(finding.level == "failed" for finding in findings):
            raise typer.Exit(FAILED)
