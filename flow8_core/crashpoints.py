"""Named places where a process may be made to die, stop or fail: no-ops unless asked.

`FLOW8_CRASH_AT=name[:n]:kill|stop|raise` acts at the n-th visit (1 by default) of the named point: `kill` is SIGKILL of
this process, `stop` SIGSTOP, `raise` a `CrashPointReached`. A comma separates several. Tests walk over `registered()`.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass, field
from typing import Literal, cast

from flow8_core.errors import ValidationFailed

VARIABLE = "FLOW8_CRASH_AT"
Action = Literal["kill", "stop", "raise"]

_registered: dict[str, str] = {}


class CrashPointReached(RuntimeError):
    """Raised at a crash point that was armed with `raise`."""


@dataclass
class _Armed:
    action: Action
    visit: int
    seen: int = field(default=0)


def register(name: str, meaning: str) -> str:
    """Declare a crash point at import time; `meaning` says what is true at that moment. Returns the name."""
    _registered[name] = meaning
    return name


def registered() -> dict[str, str]:
    """All declared points and their meanings."""
    return dict(_registered)


def parse(text: str) -> dict[str, _Armed]:
    """Read the variable's form. Raises `ValidationFailed` on a form that it does not have."""
    armed: dict[str, _Armed] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, *rest = part.split(":")
        visit = rest.pop(0) if len(rest) == 2 else "1"
        if len(rest) != 1 or rest[0] not in ("kill", "stop", "raise") or not visit.isdigit() or int(visit) < 1:
            raise ValidationFailed(f"{VARIABLE} reads name[:n]:kill|stop|raise", path=VARIABLE)
        armed[name] = _Armed(cast(Action, rest[0]), int(visit))
    return armed


_armed: dict[str, _Armed] = parse(os.environ.get(VARIABLE, ""))


def arm(text: str) -> None:
    """Arm points in this process, for tests that run in-process; an empty text disarms all."""
    _armed.clear()
    _armed.update(parse(text))


def visit(name: str) -> None:
    """Pass a crash point."""
    if not _armed:
        return
    armed = _armed.get(name)
    if armed is None:
        return
    armed.seen += 1
    if armed.seen != armed.visit:
        return
    if armed.action == "raise":
        raise CrashPointReached(name)
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    # to this thread: sent to the process, another one might take it while this one goes on for a moment
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
