"""The `flow8` command in a folder of its own: in this process, which is fast, or as a process, which is real."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from flow8_cli.main import main
from tests import environment, processes

COMMAND = (sys.executable, "-P", "-m", "flow8_cli.main")


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout: anything before or behind it is an error."""
        return json.loads(self.stdout)

    @property
    def said(self) -> str:
        """All that was printed."""
        return self.stdout + self.stderr


class _Stdin(io.TextIOWrapper):
    """A stdin that is no terminal."""

    def __init__(self, text: str) -> None:
        super().__init__(io.BytesIO(text.encode("utf-8", "surrogateescape")), encoding="utf-8")


@dataclass
class Home:
    """A folder with settings, and the environment that goes with it."""

    folder: Path
    environ: dict[str, str] = field(default_factory=environment.clean)

    def settings(self, **settings: Any) -> None:
        """Write flow8.yaml."""
        (self.folder / "flow8.yaml").write_text(yaml.safe_dump(settings))

    def write(self, name: str, content: Any) -> str:
        """A file in the folder: text as it is, anything else as JSON. Its name, for a command line."""
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return name

    def flow8(self, *arguments: str, text: str = "", out: io.StringIO | None = None) -> Done:
        """Run the command in this process; `out` is where its stdout can be watched."""
        out, err = out or io.StringIO(), io.StringIO()
        with (
            chdir(self.folder),
            patch.dict(os.environ, self.environ, clear=True),
            patch.object(sys, "argv", ["flow8", *arguments]),
            patch.object(sys, "stdin", _Stdin(text)),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                main()
            except SystemExit as ended:
                code = ended.code
        return Done(code if isinstance(code, int) else 1, out.getvalue(), err.getvalue())

    def begin(self, *arguments: str) -> Running:
        """Run the command in this process, beside the test."""
        return Running(self, arguments)

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """Start the command as a process with pipes, in a session of its own; it does not outlive the tests."""
        return subprocess.Popen(
            [*COMMAND, *arguments], cwd=self.folder, env=self.environ, text=True, start_new_session=True,
            preexec_fn=processes.die_with_parent,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
        )  # fmt: skip

    def run(self, *arguments: str, text: str = "", timeout: float = 60.0) -> Done:
        """Run the command as a process."""
        ended = subprocess.run(
            [*COMMAND, *arguments], cwd=self.folder, env=self.environ, input=text, capture_output=True, text=True,
            timeout=timeout,
        )  # fmt: skip
        return Done(ended.returncode, ended.stdout, ended.stderr)


class Running:
    """A command that runs in a thread of this process; the test may look at its first line and wait for its end."""

    def __init__(self, home: Home, arguments: tuple[str, ...]) -> None:
        self._out = io.StringIO()
        self._pool = ThreadPoolExecutor(1)
        self._ended = self._pool.submit(home.flow8, *arguments, out=self._out)

    def first_line(self) -> str:
        """The first line on stdout, as soon as it is whole; empty where the command ends without one."""
        processes.until(lambda: "\n" in self._out.getvalue() or self._ended.done(), "a first line")
        return self._out.getvalue().partition("\n")[0]

    def done(self) -> Done:
        """The command's end."""
        self._pool.shutdown(wait=False)
        return self._ended.result(timeout=30)


def left_behind(mark: str) -> list[str]:
    """The command lines of the processes that have `mark` in their environment: children inherit it."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return [line for line in found if line]
