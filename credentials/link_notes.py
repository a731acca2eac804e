"""Notes of what a link's owner must be told, written in the very update that makes it so.

Whoever finds that a grant needs a reconnect merges `noted(...)` into its `$set`: no crash can come between the change
and the record of it. The sweep moves notes to the outbox, where they become signed events (`events`), and remembers in
the grant's `told` which event has gone out. A grant that is `told` and works again is one that has recovered: nobody
who mends it, by reconnect or by a late refresh, needs to say so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bson import ObjectId

from credentials.grants import MAIN, USER, GrantPath
from credentials.link import Link

NOTES = "untold"  # {id: note} in the link document
LATEST = "untold_id"  # the latest note's id: there while any is, changed by each new one
TOLD = "told"  # in each grant: the id of the event that said that it needs a reconnect
NO_ID = ObjectId("0" * 24)  # before all others: `{$gt: NO_ID}` is any id

NEEDS_RECONNECT = "needs_reconnect"


def noted(
    link: Link, status: str, *, reason: str | None = None, path: GrantPath = MAIN, now: datetime
) -> dict[str, Any]:
    """The `$set` that notes a change of a grant from what `link` shows to `status`; empty where nobody must act.

    An application that the provider refuses (`app_blocked`) is its operator's matter, and a link that was revoked here
    nobody's. The note's id follows from the change itself: two who make the same one at once leave one note.
    """
    before = path.of(link.document).get("status")
    if status != NEEDS_RECONNECT or before == NEEDS_RECONNECT:
        return {}
    at_once = link.document.get("updated_at")
    note_id = derived_id(link.id, path.prefix, link.grant(path).generation, link.document.get("grant_id"), at_once)
    return {f"{NOTES}.{note_id}": {"at": now, "reason": reason, "grant": _NAMES[path]}, LATEST: note_id}


def notes_of(document: Mapping[str, Any]) -> dict[ObjectId, Mapping[str, Any]]:
    """The notes in a link document, the earliest first."""
    notes = document.get(NOTES) or {}
    return {ObjectId(name): notes[name] for name in sorted(notes, key=lambda name: (notes[name]["at"], name))}


def path_of(name: str) -> GrantPath:
    """The grant that a note means."""
    return next(path for path, known in _NAMES.items() if known == name)


def name_of(path: GrantPath) -> str:
    """How notes and events name a grant."""
    return _NAMES[path]


def derived_id(*parts: object) -> ObjectId:
    """The id that these parts have, whoever asks and whenever."""
    text = "\x00".join(part.isoformat() if isinstance(part, datetime) else str(part) for part in parts)
    return ObjectId(hashlib.blake2b(text.encode(), digest_size=12, person=b"flow8-note").digest())


_NAMES = {MAIN: "main", USER: "user_token"}
