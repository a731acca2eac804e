"""docs/demo.svg: the terminal after a real `flow8 demo`. No part of --check, since ids, ports and times differ.

python docs/picture.py [FILE]      runs the demo (half a minute at most) and draws the picture anew
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PICTURE = Path(__file__).parent / "demo.svg"
ROWS, COLUMNS = 60, 100
TIMEOUT_S = 180.0

# Cursor up, begin of line, cursor left alone or shown: what a live table uses to be drawn over and over.
_CONTROL = re.compile(r"\x1b\[(\d*)([AGHJK])|\x1b\[\?\d+[hl]|\r")
_FETCHED = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def main(arguments: list[str]) -> int:
    """Draw the picture; 0 where the demo ended well, else what it printed is shown and nothing is drawn."""
    target = Path(arguments[0]) if arguments else PICTURE
    raw, code = recorded([sys.executable, "-m", "flow8_cli.main", "demo"])
    if code:
        sys.stderr.write(raw)
        return code
    target.write_text(drawn(settled(raw), title="flow8 demo"), encoding="utf-8")
    return 0


def recorded(argv: list[str]) -> tuple[str, int]:
    """What a program writes to a terminal of its own, and its exit code. No setting of ours reaches it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    unset = ("FLOW8_", "ENC_KEY_", "ENV_KEY_")
    forced = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(unset) and name != "NO_COLOR"}
    env = inherited | forced
    child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=subprocess.STDOUT, env=env)  # noqa: S603  # our own command
    os.close(theirs)
    written = io.BytesIO()
    try:
        while block := os.read(ours, 65536):
            written.write(block)
    except OSError:  # how Linux says that nobody holds the other end any more
        pass
    finally:
        os.close(ours)
    return written.getvalue().decode("utf-8", "replace"), child.wait(TIMEOUT_S)


def settled(raw: str) -> list[str]:
    """The lines as they stand at the end, colours in them: a live table is there once, in its last state."""
    lines = [""]
    row = 0
    for piece in re.split(r"(\n|\x1b\[\d*[AGHJK]|\x1b\[\?\d+[hl]|\r)", raw):
        control = _CONTROL.fullmatch(piece)
        if piece == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif control and control[2] == "A":
            row = max(0, row - int(control[1] or 1))
        elif control and control[2] == "K":
            lines[row] = ""
        elif not control:
            lines[row] += piece
    return lines


def drawn(lines: list[str], *, title: str) -> str:
    """The picture. It fetches nothing: where Rich names fonts on the web, the viewer's own stand in."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True, highlight=False)
    svg = console.export_svg(title=title, theme=MONOKAI, unique_id="demo")
    return _FETCHED.sub("", svg)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
