"""`flow8 run`: run a flow from a file, and show it as it goes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow8_cli import children
from flow8_cli.output import FAILED, Output
from flow8_cli.plays import steps_table
from flow8_cli.session import Company, Json, User, foundation, reporting

if TYPE_CHECKING:
    from bson import ObjectId

    from flow8_runtime.door import Door

LOOK_S = 0.05


def run(
    flow: Annotated[Path, typer.Argument(help="The flow, JSON or YAML.")],
    args_file: Annotated[str | None, typer.Option("--input", help="The play's arguments as JSON; - for stdin.")] = None,
    file: Annotated[
        list[str] | None, typer.Option("--file", metavar="NAME=PATH", help="Put a file into the play's workspace.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the play's id and leave the work to workers.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the play.")] = 300.0,
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """Run a flow. Where no worker is alive in embedded mode, one is started for the time of the run.

    Examples: flow8 run fixtures/flows/invoice.yaml --input args.json
              flow8 run upload.yaml --file /tmp/invoice.pdf=./invoice.pdf --json
    """
    from flow8_runtime.definition import Flow
    from flow8_runtime.door import Door
    from flow8_runtime.platform import Platform

    with reporting(as_json=as_json) as output:
        definition = Flow.load(flow)
        args = _read_args(args_file)
        door = Door(Platform(foundation()))
        try:
            company_id, user_id = door.platform.identity(company, user)
            play_id = _place_files(door, file or [])
            with _workers(door, output, needed=not detach):
                door.submit(definition, args, company_id=company_id, user_id=user_id, play_id=play_id)
                if detach:
                    _detached(output, play_id)
                    return
                described = _watch(door, play_id, company_id, timeout, output)
        finally:
            door.close()
        if as_json:
            output.document(described)
        elif not output.console.is_terminal:
            output.table(*steps_table(described))
        if described["status"] != "DONE":
            raise typer.Exit(FAILED)


def _read_args(source: str | None) -> dict[str, Any]:
    from flow8_core.errors import ValidationFailed

    if source is None:
        return {}
    try:
        args = json.loads(sys.stdin.read() if source == "-" else Path(source).read_text())
    except (OSError, ValueError) as error:
        raise ValidationFailed(f"The input cannot be read as JSON ({type(error).__name__}).", path="--input") from None
    if not isinstance(args, dict):
        raise ValidationFailed("The input is an object: the play's arguments by name.", path="--input")
    return args


def _place_files(door: Door, pairs: list[str]) -> ObjectId:
    """Copy the files into the workspace of a play that does not exist yet; give the id that it will have."""
    from bson import ObjectId

    from flow8_core.errors import ValidationFailed
    from flow8_modules.workspace import Workspace

    play_id = ObjectId()
    for pair in pairs:
        name, separator, path = pair.partition("=")
        if not separator or not name or not Path(path).is_file():
            raise ValidationFailed("A file reads NAME=PATH, and the path names a file that is there.", path="--file")
        workspace = Workspace(door.platform.settings.workspace_root / str(play_id))
        with Path(path).open("rb") as source, workspace.create_file(name, field="file") as target:
            while block := source.read(1 << 20):
                target.write(block)
    return play_id


def _detached(output: Output, play_id: ObjectId) -> None:
    if output.as_json:
        output.document({"play_id": str(play_id)})
    else:
        output.console.print(str(play_id))


@contextmanager
def _workers(door: Door, output: Output, *, needed: bool) -> Iterator[None]:
    """A worker for the time of the run, where embedded mode has none alive."""
    from flow8_runtime.owners import Owners

    platform = door.platform
    alive = Owners(platform.store, platform.settings.home).any_alive()
    if not needed or alive:
        yield
        return
    if not platform.settings.embedded:
        output.say("[yellow]note[/yellow] no worker is alive; the play waits until one is (flow8 worker)")
        yield
        return
    log = platform.settings.home / "worker.log"
    environ = {**os.environ, "FLOW8_HOME": str(platform.settings.home)}
    child = children.start(["flow8_cli.main", "worker"], environ=environ, log=log)
    try:
        yield
    finally:
        children.stop(child)


def _watch(door: Door, play_id: ObjectId, company_id: ObjectId, timeout: float, output: Output) -> dict[str, Any]:
    """Wait for the play; on a terminal with a table that follows it."""
    if output.as_json or not output.console.is_terminal:
        return door.wait(play_id, company_id=company_id, timeout=timeout)
    return follow(door, play_id, company_id, timeout, output)


def follow(door: Door, play_id: ObjectId, company_id: ObjectId, timeout: float, output: Output) -> dict[str, Any]:
    """Show the play as a live table until it is over or `timeout` seconds are."""
    from rich.live import Live

    ends = time.monotonic() + timeout
    with Live(console=output.console, auto_refresh=False) as live:
        while True:
            described = door.wait(play_id, company_id=company_id, timeout=LOOK_S)
            live.update(play_table(described), refresh=True)
            if described["status"] not in ("NEW", "RUN") or time.monotonic() >= ends:
                return described


def play_table(described: dict[str, Any]) -> Any:
    """A play as a Rich table."""
    from rich.table import Table

    from flow8_cli.output import styled

    columns, rows = steps_table(described)
    table = Table(
        title=f"play {described['play_id']}  {styled(described['status'])}", title_justify="left", header_style="bold"
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(styled(value) for value in row))
    return table
