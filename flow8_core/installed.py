"""What installed packages offer us by their entry points."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib import metadata
from importlib.metadata import EntryPoint


def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, as they were when they were first asked for with this `sys.path`: looking for them
    reads a file of every installed package, and who installs one starts its processes anew."""
    return _found(group, tuple(sys.path))


@lru_cache(maxsize=8)
def _found(group: str, _: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(metadata.entry_points(group=group))
