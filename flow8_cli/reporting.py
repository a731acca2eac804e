"""How a command ends: what is said of an error, and the exit code that goes with it.

0: done. 1: the play or the check failed, or something did not work. 2: bad usage or input. 130: Ctrl-C.
"""

from __future__ import annotations

import errno
import logging
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from typer.exceptions import TyperException

from flow8_cli.output import Output
from flow8_core.errors import Flow8Error, InternalError, ValidationFailed

FAILED, BAD_INPUT, STOPPED = 1, 2, 130

ROOT = Path(__file__).parents[1]
OURS = ("flow8_core", "credentials", "flow8_modules", "flow8_runtime", "flow8_api", "flow8_cli", "worker.py")


@contextmanager
def reporting(*, as_json: bool) -> Iterator[Output]:
    """The output of a command. Whatever is raised inside is reported, and ends the command with its exit code."""
    output = Output(as_json=as_json)
    try:
        yield output
    except (typer.Exit, typer.Abort, TyperException):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise  # whoever read our answer has seen enough; Typer ends quietly
        raise typer.Exit(report(output, error)) from None


def end_in_order() -> None:
    """Let SIGTERM do what Ctrl-C does: what was started is stopped before the command ends."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def report(output: Output, error: Exception) -> int:
    """Say what went wrong, as a JSON document or in words on stderr; the exit code."""
    known = error if isinstance(error, Flow8Error) else fault_of_ours(error)
    problems = known.problems if isinstance(known, ValidationFailed) else ()
    if output.as_json:
        listed = [{"path": path, "message": message} for path, message in problems]
        output.document({"error": known.to_dict() | ({"problems": listed} if listed else {})})
    elif len(problems) > 1:
        output.say(f"{len(problems)} faults", mark=known.code, style="red")
        for path, message in problems:
            output.say(f"  {path}: {message}")
    else:
        place = f"{known.path}: " if known.path and known.path != "$" else ""
        output.say(place + known.message.removeprefix(place), mark=known.code, style="red")
    return BAD_INPUT if isinstance(known, ValidationFailed) else FAILED


def report_usage(output: Output, error: TyperException) -> int:
    """As `report`, of a command line that Typer does not understand."""
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is on the screen already
        return BAD_INPUT
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if "extra argument" in message:  # which may be a secret that stands in the wrong place: it is not repeated
        message = "There are more arguments than this command takes."
    if context is not None and not output.as_json:
        output.say(context.get_usage())
        output.say(f"`{context.command_path} --help` says more.")
    return report(output, ValidationFailed(message, path="command line"))


def fault_of_ours(error: Exception) -> InternalError:
    """What may be said of an error that nobody foresaw: its kind and our place in the code. Its text may hold anything,
    so it is left to the log, which redacts, and which shows it at the level DEBUG."""
    logging.getLogger("flow8").debug("a fault of ours", exc_info=error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return InternalError(f"The Python package {package} is missing: pip install 'flow8-modules[all]'.")
    where = "".join(f" in {place}" for place in _our_places(error)[-1:])
    return InternalError(
        f"A fault of flow8 itself: {type(error).__name__}{where}. FLOW8_LOG_LEVEL=DEBUG shows more; please report it."
    )


def _our_places(error: Exception) -> list[str]:
    """Where the error passed through our code, as file and line, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT)]
    places = [(Path(frame.filename).relative_to(ROOT), frame.lineno) for frame in inside]
    return [f"{path}, line {line}" for path, line in places if path.parts[0] in OURS]
