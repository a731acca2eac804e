"""New SQLite stores by copying one: to declare a room's collections takes longer than most tests do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from flow8_core.store import Store, open_store


def lay(path: Path, declare: Callable[[Store], None]) -> str:
    """The URL of the SQLite store at `path`; where there is none, a new one in which `declare` has nothing to do."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(_declared(declare))
    return f"sqlite:///{path}"


@cache
def _declared(declare: Callable[[Store], None]) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        with closing(open_store(f"sqlite:///{path}")) as store:
            declare(store)
        return path.read_bytes()
