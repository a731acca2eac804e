"""`flow8 doctor`: what is wrong with this installation, and how to mend it."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from flow8_cli.reporting import FAILED, reporting
from flow8_cli.session import Json, log_to_stderr

EXAMPLES = ("flow8 doctor", "flow8 doctor --json | jq '.findings[] | select(.level != \"ok\")'")


def doctor(as_json: Json = False) -> None:
    """Look at settings, files, store, keys, broker, workers and services, and say what to mend.

    Exit 1 where something fails; warnings alone are exit 0.
    """
    from flow8_runtime.doctor import examine

    with reporting(as_json=as_json) as output:
        log_to_stderr()
        findings = examine(os.environ, Path.cwd())
        output.result(
            {"ok": all(f.level != "failed" for f in findings), "findings": [f.to_dict() for f in findings]},
            ["check", "state", "what was seen, and what to do"],
            [[f.check, f.level, f.message] for f in findings],
        )
        if any(finding.level == "failed" for finding in findings):
            raise typer.Exit(FAILED)
