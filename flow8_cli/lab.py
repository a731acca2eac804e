"""`flow8 lab`: run the laboratory, our loopback stand-in for all vendors."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from flow8_cli.session import Json


def lab(
    as_json: Json = False,
    with_s3: Annotated[
        bool, typer.Option("--s3/--no-s3", help="Run a real S3 server (moto) beside the vendors.")
    ] = True,
) -> None:
    """Run loopback Slack, Microsoft, a general web service and S3 until Ctrl-C. With --json the first line says where.

    Example: flow8 lab
    """
    arguments = [sys.executable, "-m", "flow8_lab"]
    arguments += ["--json"] if as_json else []
    arguments += [] if with_s3 else ["--no-s3"]
    os.execv(sys.executable, arguments)  # noqa: S606  # the laboratory is a process of its own: it imports nothing of ours
