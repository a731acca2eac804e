"""Who acts: a user of a company.

In embedded mode there is one local user in one local company, made on first use. On a shared database both must be
named.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from bson import ObjectId

from flow8_core.errors import ValidationFailed
from flow8_core.store import DuplicateKey, Index, Store

COLLECTION = "users"
INDEXES = (Index((("companies", 1),)),)

# fixed ids, so that processes that start at once make the same user and need no index to agree
LOCAL_USER = ObjectId(b"flow8 local ")
LOCAL_COMPANY = ObjectId(b"flow8 home 1")


@dataclass(frozen=True)
class Actor:
    """A user and the company that they act in."""

    company_id: ObjectId
    user_id: ObjectId


def named(company: str | None, user: str | None) -> Actor:
    """The actor that two ids name.

    Raises `ValidationFailed` where one is missing or is no id. Whether they exist is the engine's to know.
    """
    ids = (("company", company), ("user", user))
    problems = [
        (name, f"must be an id of 24 hexadecimal digits; say who acts with --{name} or FLOW8_{name.upper()}")
        for name, given in ids
        if not (given and ObjectId.is_valid(given))
    ]
    if problems:
        raise ValidationFailed.from_problems(problems)
    return Actor(ObjectId(company), ObjectId(user))


class Users:
    """The users collection."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def local(self) -> Actor:
        """The one user of embedded mode, made on first use."""
        if self._store.get(COLLECTION, LOCAL_USER) is None:
            now = self._store.now()
            document = {
                "_id": LOCAL_USER,
                "name": "local",
                "email": None,
                "companies": [LOCAL_COMPANY],
                "created_at": now,
                "updated_at": now,
            }
            with contextlib.suppress(DuplicateKey):  # another process was first, with the same ids
                self._store.insert(COLLECTION, document)
        return Actor(LOCAL_COMPANY, LOCAL_USER)
