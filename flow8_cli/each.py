"""`flow8 run FLOW --each FILE`: a play for each line of inputs, handed in by the thousand and waited for together.

What must not be held in memory, for there may be millions, lies in a file without a name: the plays' ids.
"""

from __future__ import annotations

import secrets
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import typer

from flow8_cli import lines
from flow8_cli.lines import Line
from flow8_cli.output import Output
from flow8_cli.reporting import FAILED
from flow8_cli.session import Session
from flow8_core.errors import ValidationFailed

if TYPE_CHECKING:
    from bson import ObjectId

    from flow8_runtime.definition import Flow

AT_ONCE = 500
FAULTS_TOLD = 100
BATCH_LONGEST = 128
FIRST_LOOK_S, LAST_LOOK_S = 0.02, 0.5

_SPOOLED = struct.Struct(">Q12s")  # a line's number, a play's id


@dataclass
class Tally:
    """What became of a batch so far."""

    batch: str
    lines: int = 0
    new: int = 0
    done: int = 0
    failed: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)  # the first of them
    refused_lines: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)  # the first of them
    began: float = field(default_factory=time.monotonic)

    @property
    def running(self) -> int:
        """Plays that are not over."""
        return self.lines - self.refused_lines - self.done - self.failed

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "batch": self.batch,
            "lines": self.lines,
            "new": self.new,
            "done": self.done,
            "failed": self.failed,
            "running": self.running,
            "refused": self.refused_lines,
            "seconds": round(time.monotonic() - self.began, 3),
            "problems": self.refused,
            "failures": self.failures,
        }


def batch_name(given: str | None) -> str:
    """The batch's name, made up where none is given. Raises `ValidationFailed`."""
    if given is None:
        return secrets.token_hex(6)
    if not 1 <= len(given) <= BATCH_LONGEST or not given.isprintable():
        raise ValidationFailed(f"A batch's name has 1 to {BATCH_LONGEST} printable characters.", path="--batch")
    return given


def checked(stream: BinaryIO) -> int | None:
    """How many lines a file has, all of which are sound; None for a pipe, which can be read but once. Raises
    `ValidationFailed` with the faults of all lines."""
    if not stream.seekable():
        return None
    begins, count = stream.tell(), 0
    faults: list[tuple[str, str]] = []
    for chunk in lines.chunks(stream, most=AT_ONCE):
        count += len(chunk)
        faults += [fault for line in chunk for fault in _faults(line)]
        if len(faults) >= FAULTS_TOLD:
            break
    if faults:
        raise ValidationFailed.from_problems(faults[:FAULTS_TOLD])
    stream.seek(begins)
    return count


class Each:
    """One batch on its way. `watched` gets how many lines were handed in, and how many plays are over."""

    def __init__(
        self, output: Output, session: Session, flow: Flow, batch: str, *, watched: Callable[[int, int], None]
    ) -> None:
        self.tally = Tally(batch)
        self._output = output
        self._session = session
        self._flow = flow
        self._watched = watched
        self._spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`

    def close(self) -> None:
        """Forget the ids."""
        self._spool.close()

    def hand_in(self, stream: BinaryIO, told: Callable[[Sequence[tuple[int, ObjectId]]], None]) -> None:
        """Write a play for each sound line; `told` gets the line numbers and ids, part by part."""
        for chunk in lines.chunks(stream, most=AT_ONCE):
            sound = [line for line in chunk if not line.problems]
            for line in chunk:
                self._refuse(line)
            ids = [self._id(line) for line in sound]
            self.tally.lines += len(chunk)
            if ids:
                self.tally.new += sum(self._submit(sound, ids))
            numbered = [(line.number, play_id) for line, play_id in zip(sound, ids, strict=True)]
            self._spool.write(b"".join(_SPOOLED.pack(number, play_id.binary) for number, play_id in numbered))
            told(numbered)
            self._watched(self.tally.lines, 0)

    def wait(self, *, timeout: float, alive: Callable[[], None]) -> None:
        """Wait until all are over, or none was for `timeout` seconds. `alive` raises where waiting makes no sense."""
        self._spool.seek(0)
        last = time.monotonic()
        for pending in self._spooled():
            pause = FIRST_LOOK_S
            while pending:
                over = self._session.platform.ledger.over(list(pending), company_id=self._session.company_id)
                for play in over:
                    self._end(play, pending.pop(play["_id"]))
                if over:
                    last, pause = time.monotonic(), FIRST_LOOK_S
                    self._watched(self.tally.lines, self.tally.done + self.tally.failed)
                elif time.monotonic() - last >= timeout:
                    return
                alive()
                if pending:
                    time.sleep(pause)
                    pause = min(LAST_LOOK_S, pause * 1.5)

    def _submit(self, sound: list[Line], ids: list[ObjectId]) -> Sequence[bool]:
        session = self._session
        new = session.platform.ledger.submit_many(
            self._flow,
            [line.value for line in sound],
            company_id=session.company_id,
            user_id=session.user_id,
            play_ids=ids,
        )
        session.platform.bell.ring({step.queue for step in self._flow.steps})
        return new

    def _id(self, line: Line) -> ObjectId:
        from flow8_runtime.submitting import batch_play_id

        return batch_play_id(self._session.company_id, self.tally.batch, self._flow.name, line.number, line.value)

    def _refuse(self, line: Line) -> None:
        if line.problems:
            self.tally.refused_lines += 1
            for path, message in _faults(line):
                self._output.say(f"{path}: {message}", mark="refused", style="red")
                if len(self.tally.refused) < FAULTS_TOLD:
                    self.tally.refused.append({"line": line.number, "path": path, "message": message})

    def _end(self, play: dict[str, Any], line: int) -> None:
        if play["status"] == "DONE":
            self.tally.done += 1
            return
        self.tally.failed += 1
        if len(self.tally.failures) < FAULTS_TOLD:
            name, error = next(
                ((name, state["error"]) for name, state in play["steps"].items() if state.get("error")), (None, None)
            )
            self.tally.failures.append({"line": line, "play_id": str(play["_id"]), "step": name, "error": error})

    def _spooled(self) -> Iterator[dict[ObjectId, int]]:
        from bson import ObjectId

        while block := self._spool.read(_SPOOLED.size * AT_ONCE):
            yield {ObjectId(raw): number for number, raw in _SPOOLED.iter_unpack(block)}


def show(output: Output, tally: Tally) -> None:
    """The summary of a batch that was waited for; ends the command with 1 where not all are done."""
    document = tally.document()
    if output.as_json:
        output.document(document)
    else:
        counts = {name: value for name, value in document.items() if not isinstance(value, list)}
        output.table(list(counts), [list(counts.values())])
        if tally.failures:
            rows = [[each["line"], each["play_id"], each["step"], _note(each["error"])] for each in tally.failures]
            output.table(["line", "play", "step", "note"], rows, title=f"the first {len(rows)} that failed")
    if tally.running:
        output.say(f"{tally.running} plays are not over; workers go on with them.", mark="note")
    if tally.failed or tally.running or tally.refused_lines:
        raise typer.Exit(FAILED)


@contextmanager
def progress(output: Output, total: int | None, *, waits: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr for what is handed in, and one for what is over; nothing where stderr is no terminal."""
    console = output.remarks
    if not console.is_terminal:
        yield lambda _handed, _over: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        handing, ending = bars.add_task("handed in", total=total), None
        if waits:
            ending = bars.add_task("over", total=total)

        def watched(handed: int, over: int) -> None:
            bars.update(handing, completed=handed)
            if ending is not None and over:
                bars.update(ending, completed=over, total=handed)

        yield watched


def _faults(line: Line) -> list[tuple[str, str]]:
    return [(f"line {line.number}" + (f", {path}" if path else ""), message) for path, message in line.problems]


def _note(error: dict[str, Any] | None) -> str:
    return f"{error['code']}: {error['message']}" if error else ""
