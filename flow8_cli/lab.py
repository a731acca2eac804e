"""`flow8 lab`: run the laboratory, our loopback stand-in for all vendors."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from flow8_cli.session import JsonLines

EXAMPLES = ("flow8 lab", "flow8 lab --json --auto-approve | tee lab.json")


def lab(
    as_json: JsonLines = False,
    auto_approve: Annotated[bool, typer.Option("--auto-approve", help="Consent pages agree by themselves.")] = False,
    with_s3: Annotated[bool, typer.Option("--s3/--no-s3", help="Run a real S3 server (moto) beside it.")] = True,
    port_base: Annotated[
        int, typer.Option("--port-base", min=0, max=65519, help="The first of seventeen ports; 0 takes free ones.")
    ] = 0,
) -> None:
    """Run loopback Slack, Microsoft, Google, Clio, QuickBooks, Bexio, a general web service and S3 until Ctrl-C.

    With --json the first line says where they are; its parts `services`, `oauth2` and `egress` fit into flow8.yaml.
    """
    arguments = [sys.executable, "-P", "-m", "flow8_lab", "--port-base", str(port_base)]
    chosen = {"--json": as_json, "--auto-approve": auto_approve, "--no-s3": not with_s3}
    arguments += [option for option, wanted in chosen.items() if wanted]
    os.execv(sys.executable, arguments)  # noqa: S606  # a process of its own: it imports nothing of ours
