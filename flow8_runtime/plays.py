"""Reads and writes play documents: every change is a pure function, applied by compare-and-set on `rev`."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bson import ObjectId

from flow8_core.errors import InternalError, StoreUnavailable
from flow8_core.store import Delete, Insert, Store, Update
from flow8_runtime.definition import Flow
from flow8_runtime.documents import PLAYS, Play
from flow8_runtime.states import Stale

TRIES = 50  # each is lost only to another one's success

Apply = Callable[[Play], Play]

log = logging.getLogger("flow8.ledger")


@dataclass(slots=True)
class Change:
    """A change to one play. `play` is the newest version at hand, perhaps old; `apply` is called anew on each version
    that is tried, and raises `Stale` where it does not fit. With `once`, somebody else's write in between ends it."""

    play: Play
    apply: Apply
    once: bool = False
    fresh: bool = False  # `play` was read by this commit itself
    new: Play | None = None  # what `apply` gave, until it is written


class Plays:
    """The plays of all companies, for the parts of the runtime that serve them all."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, play_id: ObjectId) -> Play | None:
        """The play as it stands."""
        return self._store.get(PLAYS, play_id)

    def change(self, play: Play, apply: Apply) -> Play | None:
        """Apply one change; the new play, or None where it does not fit (any more)."""
        return self.commit([Change(play, apply)])[0]

    def prepare(self, change: Change) -> None:
        """Work a change out without writing it, for a caller whose other changes depend on what comes of it."""
        change.new = self._work_out(change)

    def commit(self, changes: Sequence[Change], first: Sequence[Insert | Update | Delete] = ()) -> list[Play | None]:
        """Apply changes to different plays in one batch, after the operations that go `first`.

        For each change the new play, or None where it does not fit. A play that somebody else has written in between is
        read again and the change tried again. Raises `StoreUnavailable`.
        """
        results: list[Play | None] = [None] * len(changes)
        left = list(enumerate(changes))
        for _ in range(TRIES):
            attempted = [(index, change, new) for index, change in left if (new := self._try(change)) is not None]
            ops = [*first, *(_write(change.play, new) for _, change, new in attempted)]
            if not ops:
                return results
            applied = self._store.batch(ops)[len(first) :]
            first = ()
            left = []
            for (index, change, new), done in zip(attempted, applied, strict=True):
                if done:
                    results[index] = new
                elif not change.once and self._reread(change):
                    left.append((index, change))
            if not left:
                return results
        raise StoreUnavailable("A play is written by too many at once; the change could not be applied.")

    def _try(self, change: Change) -> Play | None:
        new, change.new = change.new or self._work_out(change), None
        if new is not None:
            new["write_id"] = secrets.token_hex(8)
        return new

    def _work_out(self, change: Change) -> Play | None:
        """The changed play. A change that does not fit an old version is tried on the newest before it is given up."""
        while True:
            try:
                return change.apply(change.play)
            except Stale:
                if change.fresh or change.once or not self._reread(change):
                    return None

    def _reread(self, change: Change) -> bool:
        play = self.read(change.play["_id"])
        if play is None:
            return False
        change.play, change.fresh = play, True
        return True


def _write(old: Play, new: Play) -> Update:
    return Update(PLAYS, {"_id": old["_id"], "rev": old["rev"]}, new)


def each(changes: Sequence[Apply]) -> Apply:
    """One change made of several: those that do not fit are left out, and `Stale` is raised where none does."""

    def apply(play: Play) -> Play:
        new = play
        for change in changes:
            with suppress(Stale):
                new = change(new)
        if new is play:
            raise Stale
        return new

    return apply


def readable(play: Play, flow: Callable[[str], Flow]) -> bool:
    """Whether the play's definition can be read here. One that is gone, or of a newer version, must not stop the work
    of everybody else: its play is passed over, and the log names it."""
    try:
        flow(play["definition"])
    except InternalError as error:
        log.warning("play %s is passed over: %s", play["_id"], error.message)
        return False
    return True
