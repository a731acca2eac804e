"""Child processes that the kernel ends with us, even where we are killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

# The kernel signals the child when the thread that started it ends; a parent that was gone before the child could ask
# for that is noticed by its changed pid. An exec from here, unlike a preexec_fn, is safe in a process with threads.
_STUB = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, int(sys.argv[1])); "
    "os.getppid() == int(sys.argv[2]) or sys.exit(1); os.execv(sys.argv[3], sys.argv[3:])"
)


def dying_with_us(argv: Sequence[str], *, by: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command line under which a program gets the signal `by` once the thread that starts it has ended.

    `argv[0]` is a path. Start it from a thread that lasts, best the main one. Where the kernel is not Linux it comes
    back as it is: whoever starts the child has to end it.
    """
    if sys.platform != "linux":
        return list(argv)
    return [sys.executable, "-I", "-S", "-c", _STUB, str(int(by)), str(os.getpid()), *argv]
