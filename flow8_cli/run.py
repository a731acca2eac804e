"""`flow8 run`: run a flow from a file, and show it as it goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow8_cli.files import read_bytes, read_object
from flow8_cli.output import Output
from flow8_cli.own_worker import OwnWorker, own_worker
from flow8_cli.plays import STEP_COLUMNS, step_rows
from flow8_cli.reporting import FAILED, reporting
from flow8_cli.session import Company, Json, User, opened
from flow8_cli.watching import watch
from flow8_core.errors import ValidationFailed

if TYPE_CHECKING:
    from bson import ObjectId

    from flow8_runtime.definition import Flow
    from flow8_runtime.platform import Platform

EXAMPLES = (
    "flow8 run fixtures/flows/invoice.yaml --input args.json",
    'echo \'{"invoice": "001"}\' | flow8 run invoice.yaml --input - --json',
    "flow8 run upload.yaml --file /tmp/invoice.pdf=./invoice.pdf",
    "flow8 run nightly.yaml --detach",
)
BLOCK = 1 << 20  # bytes that are copied at a time


def run(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The flow, JSON or YAML; - for stdin.")],
    args_file: Annotated[
        str | None, typer.Option("--input", metavar="FILE", help="The play's arguments, a JSON object; - for stdin.")
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--file", metavar="NAME=PATH", help="Put a file into the play's workspace; repeatable."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the play's id and leave the work to workers.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="How long to wait for the play.")
    ] = 300.0,
    as_json: Json = False,
    company: Company = None,
    user: User = None,
) -> None:
    """Run a flow and wait for it. Exit 1 unless it is DONE in time.

    Where no worker is alive in embedded mode, one is started for the time of the run.
    """
    from flow8_runtime.door import Door

    with reporting(as_json=as_json) as output:
        definition, args = _read(flow, args_file)
        files = [_file(pair) for pair in file or []]
        with opened(company=company, user=user) as session, closing(Door(session.platform)) as door:
            play_id = door.submit(
                definition,
                args,
                company_id=session.company_id,
                user_id=session.user_id,
                play_id=_placed(session.platform, files),
            )
            if detach:
                _detached(output, play_id)
                return
            with _worker(output, session.platform, definition) as own:
                alive = own.require if own else _nothing
                play = watch(output, door, play_id, company_id=session.company_id, timeout=timeout, alive=alive)
                _show(output, play, own)  # now: a worker of our own takes a second or two to end
        if play["status"] != "DONE":
            raise typer.Exit(FAILED)


def _read(flow: str, args_file: str | None) -> tuple[Flow, dict[str, Any]]:
    from flow8_runtime import notation
    from flow8_runtime.definition import Flow

    if flow == args_file == "-":
        raise ValidationFailed("Only one of flow and input can come from stdin.", path="--input")
    definition = Flow.parse(notation.read(read_bytes(flow, path="FLOW"), form=notation.form_of(flow)))
    return definition, {} if args_file is None else read_object(args_file, path="--input")


def _file(pair: str) -> tuple[str, Path]:
    name, separator, path = pair.partition("=")
    if not separator or not name:
        raise ValidationFailed("A file reads NAME=PATH.", path="--file")
    if not Path(path).is_file():
        raise ValidationFailed(f"There is no file for {name}.", path="--file")
    return name, Path(path)


def _placed(platform: Platform, files: list[tuple[str, Path]]) -> ObjectId:
    """Copy files into the workspace of a play that does not exist yet; the id that it will have."""
    from bson import ObjectId

    from flow8_modules.workspace import Workspace

    play_id = ObjectId()
    for name, path in files:
        workspace = Workspace(platform.settings.workspace_root / str(play_id))
        try:
            with path.open("rb") as source, workspace.create_file(name) as target:
                while block := source.read(BLOCK):
                    target.write(block)
        except OSError as error:
            raise ValidationFailed(f"The file {path.name} cannot be read: {error.strerror}.", path="--file") from None
        except ValidationFailed as error:
            raise ValidationFailed(error.message, path="--file") from None
    return play_id


def _detached(output: Output, play_id: ObjectId) -> None:
    if output.as_json:
        output.document({"play_id": str(play_id)})
    else:
        output.show(str(play_id))


@contextmanager
def _worker(output: Output, platform: Platform, flow: Flow) -> Iterator[OwnWorker | None]:
    """A worker for the time of the run, where embedded mode has none alive."""
    from flow8_runtime.owners import Owners

    settings = platform.settings
    if Owners(platform.store, settings.home).any_alive():
        yield None
    elif not settings.embedded:
        output.say("no worker is alive; the play waits until one is (flow8 worker)", mark="note")
        yield None
    else:
        queues = {step.queue for step in flow.steps}
        log = settings.home / "worker.log"
        with own_worker(environ=os.environ, cwd=Path.cwd(), log=log, queues=queues) as worker:
            yield worker


def _nothing() -> None:
    """Workers of others look after themselves."""


def _show(output: Output, play: dict[str, Any], own: OwnWorker | None) -> None:
    if play["status"] == "NEW":
        play["status"] = "RUN"  # to whoever waits it is the same: not over
    if output.as_json:
        output.document(play)
    elif output.live is None:
        output.table(STEP_COLUMNS, step_rows(play))
    if play["status"] == "RUN":
        output.say(f"The play is not over; workers go on with it. See `flow8 plays {play['play_id']}`.", mark="note")
    if play["status"] != "DONE" and own:
        output.say(f"The worker's log is {own.log}.", mark="note")
