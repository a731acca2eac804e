"""Hooks around `os.fork`: what a process has open must not be used, nor closed, by a child."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

Method = Callable[[], None]


def around_fork(
    *, before: Method | None = None, in_parent: Method | None = None, in_child: Method | None = None
) -> None:
    """Call these bound methods around each fork of this process, as long as their object lives."""
    os.register_at_fork(before=_weakly(before), after_in_parent=_weakly(in_parent), after_in_child=_weakly(in_child))


def _weakly(method: Method | None) -> Method:
    if method is None:
        return lambda: None
    reference = weakref.WeakMethod(method)
    return lambda: call() if (call := reference()) else None
