"""Who acts: a user of a company.

In embedded mode there is one local user in one local company, made on first use. On a shared database both must be
named. With `auto_create_users`, whoever connects a Microsoft account is a user, known by tenant and object id: an
e-mail address is anybody's who runs a tenant ("nOAuth"), and finds nobody here.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass

from bson import ObjectId

from credentials.audit import Audit
from flow8_core.errors import ValidationFailed, VendorBadResponse
from flow8_core.store import DuplicateKey, Index, Store

COLLECTION = "users"
INDEXES = (Index((("companies", 1),)), Index((("tid", 1), ("oid", 1))))

# fixed ids, so that processes that start at once make the same user and need no index to agree
LOCAL_USER = ObjectId(b"flow8 local ")
LOCAL_COMPANY = ObjectId(b"flow8 home 1")


@dataclass(frozen=True)
class Actor:
    """A user and the company that they act in."""

    company_id: ObjectId
    user_id: ObjectId


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody whose ID token was verified: tenant and object id are who they are; e-mail and name are to be shown."""

    tid: str
    oid: str
    email: str | None
    name: str | None


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

    def of(self, person: Person, *, company_id: ObjectId, audit: Audit) -> ObjectId:
        """The user that this person is, made where there is none, and of this company from now on.

        Raises `VendorBadResponse` where it is not known who they are, and `StoreUnavailable` where it cannot be
        recorded.
        """
        if not (person.tid and person.oid):
            raise VendorBadResponse("Microsoft did not say who signed in (no tid or oid); ask for the scope `profile`.")
        shown = {"email": person.email, "name": person.name}
        found = self._store.find(COLLECTION, {"tid": person.tid, "oid": person.oid}, limit=1)
        user = found[0] if found else {}
        user_id: ObjectId = user.get("_id") or _id_of(person)
        if company_id in (user.get("companies") or ()) and shown.items() <= user.items():
            return user_id
        audit.record(
            "user_updated" if user else "user_created",
            resource_type="user",
            resource_id=str(user_id),
            after={**shown, "source": "microsoft", "companies": [company_id]},
            user_id=user_id,
        )
        if not user:
            self._make(user_id, person)
        changes = {"$set": {**shown, "updated_at": self._store.now()}, "$addToSet": {"companies": company_id}}
        self._store.update(COLLECTION, {"_id": user_id, "tid": person.tid, "oid": person.oid}, changes)
        return user_id

    def _make(self, user_id: ObjectId, person: Person) -> None:
        now = self._store.now()
        document = {"_id": user_id, "tid": person.tid, "oid": person.oid, "companies": [], "created_at": now}
        with contextlib.suppress(DuplicateKey):  # the same person, at the same moment, elsewhere
            self._store.insert(COLLECTION, document)


def _id_of(person: Person) -> ObjectId:
    """It follows from who they are: whoever makes this user, and whenever, makes the same."""
    name = f"{person.tid}:{person.oid}".encode()
    return ObjectId(hashlib.blake2b(name, digest_size=12, person=b"flow8-user").digest())
