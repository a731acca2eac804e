"""What every command needs: who acts, and on which platform."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bson import ObjectId

    from flow8_runtime.foundation import Foundation
    from flow8_runtime.platform import Platform

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print JSON lines on stdout, and nothing else there.")]
Company = Annotated[
    str | None, typer.Option("--company", metavar="ID", envvar="FLOW8_COMPANY", help="Act for this company.")
]
User = Annotated[str | None, typer.Option("--user", metavar="ID", envvar="FLOW8_USER", help="Act as this user.")]


@dataclass(frozen=True)
class Session:
    """A command's platform and identity."""

    platform: Platform
    company_id: ObjectId
    user_id: ObjectId


def log_to_stderr() -> None:
    """Logs of this command, redacted, from `FLOW8_LOG_LEVEL` (WARNING) on. Raises `ValidationFailed`."""
    from flow8_core import logging
    from flow8_core.errors import ValidationFailed

    try:
        logging.configure(level=os.environ.get("FLOW8_LOG_LEVEL") or "WARNING")
    except ValidationFailed as error:
        raise ValidationFailed(error.message, path="FLOW8_LOG_LEVEL") from None


def foundation() -> Foundation:
    """Settings from flow8.yaml, .env and the environment of the working folder."""
    from flow8_runtime.foundation import Foundation

    log_to_stderr()
    return Foundation.lay(os.environ)


@contextmanager
def platform_here() -> Iterator[Platform]:
    """The platform that the working folder's settings describe; closed at the end."""
    from flow8_runtime.platform import Platform

    platform = Platform(foundation())
    try:
        yield platform
    finally:
        platform.close()


@contextmanager
def opened(*, company: str | None, user: str | None) -> Iterator[Session]:
    """The platform and who acts on it. Raises `ValidationFailed` where a shared database is not told who."""
    with platform_here() as platform:
        company_id, user_id = platform.identity(company, user)
        yield Session(platform, company_id, user_id)
