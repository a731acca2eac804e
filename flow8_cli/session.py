"""What every command needs: who acts, on which platform, and how errors end it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from flow8_cli.output import Output
from flow8_core.errors import Flow8Error

if TYPE_CHECKING:
    from bson import ObjectId

    from flow8_runtime.platform import Foundation, Platform

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
Company = Annotated[
    str | None, typer.Option("--company", envvar="FLOW8_COMPANY", help="Act for this company (its id).")
]
User = Annotated[str | None, typer.Option("--user", envvar="FLOW8_USER", help="Act as this user (its id).")]


@dataclass(frozen=True)
class Session:
    """A command's platform and identity."""

    platform: Platform
    company_id: ObjectId
    user_id: ObjectId


@contextmanager
def reporting(*, as_json: bool) -> Iterator[Output]:
    """An output whose command ends with the right exit code, whatever of ours is raised inside."""
    output = Output(as_json=as_json)
    try:
        yield output
    except Flow8Error as error:
        raise typer.Exit(output.error(error)) from None


def foundation() -> Foundation:
    """Settings from flow8.yaml, .env and the environment of the working folder; logs go to stderr from here on."""
    from flow8_core import logging
    from flow8_runtime.platform import Foundation

    logging.configure(level=os.environ.get("FLOW8_LOG_LEVEL", "WARNING"))
    return Foundation.lay(os.environ)


@contextmanager
def opened(*, company: str | None, user: str | None) -> Iterator[Session]:
    """An open platform and who acts on it; closed at the end."""
    from flow8_runtime.platform import Platform

    platform = Platform(foundation())
    try:
        company_id, user_id = platform.identity(company, user)
        yield Session(platform, company_id, user_id)
    finally:
        platform.close()
