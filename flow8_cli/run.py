"""`flow8 run`: run a flow from a file, and show it as it goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow8_cli import each, lines
from flow8_cli.files import read_bytes, read_object
from flow8_cli.output import Output
from flow8_cli.own_worker import OwnWorker, nothing, worker_for
from flow8_cli.plays import STEP_COLUMNS, step_rows
from flow8_cli.reporting import FAILED, reporting
from flow8_cli.session import Company, Json, Session, User, opened
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
    "flow8 run invoice.yaml --each orders.jsonl --batch orders-2026-04",
    "generate | flow8 run invoice.yaml --each - --detach",
)
BLOCK = 1 << 20  # bytes that are copied at a time


def run(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The flow, JSON or YAML; - for stdin.")],
    args_file: Annotated[
        str | None, typer.Option("--input", metavar="FILE", help="The play's arguments, a JSON object; - for stdin.")
    ] = None,
    each_file: Annotated[
        str | None,
        typer.Option("--each", metavar="FILE", help="A play for each line, a JSON object of arguments; - for stdin."),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option("--batch", metavar="NAME", help="With --each: a line runs once under this name, however often."),
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

    With --each a file is checked as a whole before anything runs; of a pipe, which is taken as it comes, bad lines are
    told and left out. Do the same again with the same --batch, and only what is missing runs. Exit 1 unless all are
    DONE; --timeout is then how long no play may end.
    """
    with reporting(as_json=as_json) as output:
        if each_file is not None:
            _check_each(flow, each_file, args_file, file)
        elif batch is not None:
            raise ValidationFailed("A batch's name goes with --each.", path="--batch")
        definition, args = _read(flow, args_file)
        files = [_file(pair) for pair in file or []]
        name = each.batch_name(batch)
        with opened(company=company, user=user) as session:
            if each_file is not None:
                _run_each(output, session, definition, each_file, name, detach=detach, timeout=timeout)
            else:
                _run_one(output, session, definition, args, files, detach=detach, timeout=timeout)


def _run_one(
    output: Output,
    session: Session,
    flow: Flow,
    args: dict[str, Any],
    files: list[tuple[str, Path]],
    *,
    detach: bool,
    timeout: float,
) -> None:
    from flow8_runtime.door import Door

    with closing(Door(session.platform)) as door:
        play_id = door.submit(
            flow,
            args,
            company_id=session.company_id,
            user_id=session.user_id,
            play_id=_placed(session.platform, files),
        )
        if detach:
            _detached(output, play_id)
            return
        with worker_for(output, session.platform, flow) as own:
            alive = own.require if own else nothing
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


def _check_each(flow: str, each_file: str, args_file: str | None, file: list[str] | None) -> None:
    if flow == each_file == "-":
        raise ValidationFailed("Only one of flow and inputs can come from stdin.", path="--each")
    if args_file is not None:
        raise ValidationFailed("Give one play's arguments, or those of each.", path="--input")
    if file:
        raise ValidationFailed("A file goes into the workspace of one play.", path="--file")


def _run_each(
    output: Output, session: Session, flow: Flow, source: str, batch: str, *, detach: bool, timeout: float
) -> None:
    with lines.source(source, path="--each") as stream:
        total = each.checked(stream)
        with each.progress(output, total, waits=not detach) as watched:
            run = each.Each(output, session, flow, batch, watched=watched)
            with closing(run), _to_be_repeated(output, run):
                if detach:
                    run.hand_in(stream, lambda plays: _print_ids(output, plays))
                else:
                    with worker_for(output, session.platform, flow) as own:
                        run.hand_in(stream, nothing)
                        run.wait(timeout=timeout, alive=own.require if own else nothing)
    if not detach:
        each.show(output, run.tally)
    elif run.tally.refused_lines:
        raise typer.Exit(FAILED)


@contextmanager
def _to_be_repeated(output: Output, run: each.Each) -> Iterator[None]:
    """Whatever ends a batch early, its name is told, by which the rest of it can be run."""
    try:
        yield
    except BaseException:
        output.say(f"Run the same with --batch {run.tally.batch}: no line runs twice.", mark="note")
        raise


def _print_ids(output: Output, plays: Sequence[tuple[int, ObjectId]]) -> None:
    if output.as_json:
        for line, play_id in plays:
            output.line({"line": line, "play_id": str(play_id)})
    else:
        output.plain([str(play_id) for _, play_id in plays])


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
