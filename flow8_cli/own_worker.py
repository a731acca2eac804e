"""A worker that a command starts for its own time: it ends with the command, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flow8_cli.output import Output
from flow8_core.errors import InternalError
from flow8_runtime import children

if TYPE_CHECKING:
    from flow8_runtime.definition import Flow
    from flow8_runtime.platform import Platform

GRACE_S = 10.0


class OwnWorker:
    """A `flow8 worker` process. Its log is `log`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.log = log

    def require(self) -> None:
        """Raises `InternalError` where it has ended: what waits for it would wait in vain."""
        ended = self._process.poll()
        if ended is not None:
            raise InternalError(f"The worker that this command started has ended (exit {ended}); see {self.log}.")

    def stop(self) -> None:
        """Let what is in flight finish; end it after ten seconds, or at once where it is interrupted again."""
        self._process.terminate()
        try:
            self._process.wait(GRACE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._kill()

    def _kill(self) -> None:
        """With its pool processes, which are in the same process group."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@contextmanager
def own_worker(*, environ: Mapping[str, str], cwd: Path, log: Path, queues: Iterable[str]) -> Iterator[OwnWorker]:
    """A worker for these queues of steps, for as long as the block lasts. Call it in the main thread."""
    argv = [sys.executable, "-P", "-m", "flow8_cli.main", "worker"]
    argv += [option for queue in sorted(queues) for option in ("--queue", queue)]
    with log.open("ab") as sink:
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            children.dying_with_us(argv, by=signal.SIGTERM),
            env=dict(environ),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,  # Ctrl-C reaches the command alone, which ends its worker in good order
        )
    worker = OwnWorker(process, log)
    try:
        yield worker
    finally:
        worker.stop()


@contextmanager
def worker_for(output: Output, platform: Platform, flow: Flow) -> Iterator[OwnWorker | None]:
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


def nothing(*_: object) -> None:
    """Workers of others look after themselves."""
