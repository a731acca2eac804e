"""What a test of rotations works with: rings of two keys, and a store full of everything that is sealed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from typing import Any

from bson import ObjectId
from nacl.exceptions import CryptoError

from credentials import audit, check_values, components, grants, links, oauth_states, outbox, sealed
from credentials.audit import Audit
from credentials.components import Components
from credentials.grants import MAIN, USER
from credentials.keyring import Keyring
from credentials.oauth_states import Intent, States
from credentials.retirement import Retirement
from credentials.rotation import Rotation
from credentials.vault import Place, Vault
from flow8_core import crashpoints
from flow8_core.errors import StoreUnavailable
from flow8_core.secret import Secret
from flow8_core.store import Insert, Store, open_store
from tests.credentials.test_keyring import NEW, OLD, ring
from tests.forkserver import CONTEXT

API_KEY = "sk-live-0123456789abcdef0123456789abcdef"
BEARER = {"hosts": ["api.example.com"], "auth": {"type": "bearer", "value": API_KEY}}


def before() -> Keyring:
    """The ring of every process before the new key writes."""
    return ring(OLD, following=NEW)


def after() -> Keyring:
    """The ring of every process once it does."""
    return ring(NEW, previous=OLD)


AWAY = os.EX_TEMPFAIL  # how a process ends whose store did not answer

# How these keys are named. They are not derived to read it off: every test process imports this.
OLD_KID, NEW_KID = "2cfe31717a713ee7", "c085e5f25d383e6b"


@dataclass
class Contents:
    """Every secret that was put into a store, by its place."""

    secrets: dict[Place, str] = field(default_factory=dict)
    states: list[Secret] = field(default_factory=list)
    company_id: ObjectId = field(default_factory=ObjectId)


def declare(store: Store) -> None:
    """The collections that hold something sealed, the keys' and the audit log's."""
    for module in (links, components, oauth_states, audit, check_values):
        store.declare(module.COLLECTION, module.INDEXES, durable=True)


def insert_links(store: Store, vault: Vault, contents: Contents, count: int) -> list[ObjectId]:
    """Links with two grants, and a reply that nobody has read yet in each third one."""
    ids = [ObjectId() for _ in range(count)]
    inserts = []
    for number, link_id in enumerate(ids):
        row: dict[str, Any] = {
            "_id": link_id,
            "company_id": contents.company_id,
            "user_id": contents.company_id,
            "generation": 1,
            "integration_type": "acme",
            "status": "active",
            "user_token": {},
            "refresh": {},
            "provider_user_id": str(number),
        }
        fields = [(MAIN, "access_token"), (MAIN, "refresh_token"), (USER, "access_token")]
        fields += [(MAIN, "refresh.reply")] if number % 3 == 0 else []
        for path, name in fields:
            place = grants.place(path, name, link_id=link_id, company_id=contents.company_id)
            contents.secrets[place] = f"{place.field} of link {number}"
            *above, last = place.field.split(".")
            inner = row
            for part in above:
                inner = inner[part]
            inner[last] = vault.seal(place, contents.secrets[place])
        inserts.append(Insert(links.COLLECTION, row))
    store.batch(inserts)
    return ids


def furnish(store: Store, keyring: Keyring, *, link_count: int = 6, component_count: int = 3) -> Contents:
    """Links, components, a revocation in the outbox, states of connects and an audit log, sealed with a primary key."""
    contents, vault = Contents(), Vault(keyring)
    insert_links(store, vault, contents, link_count)
    for number in range(component_count):
        body = {"name": f"component-{number}", "kind": "request", "config": BEARER}
        added = Components(store, vault, contents.company_id).add(body)
        place = Place("component_configs", ObjectId(added["id"]), contents.company_id, "config.auth.value")
        contents.secrets[place] = API_KEY
    if component_count:
        place = Place(outbox.COLLECTION, ObjectId(), contents.company_id, "sealed.refresh_token")
        contents.secrets[place] = "token to be revoked"
        sealed_token = {"refresh_token": vault.seal(place, contents.secrets[place])}
        store.insert(outbox.COLLECTION, {"_id": place.id, "company_id": place.company_id, "sealed": sealed_token})
    for _ in range(2 if component_count else 0):
        contents.states.append(States.new())
        States(store, vault).keep(contents.states[-1], intent(contents), Secret("verifier-0123456789"))
    return contents


def intent(contents: Contents) -> Intent:
    """What a connect is for."""
    return Intent(
        company_id=contents.company_id,
        user_id=contents.company_id,
        service="acme",
        scopes=["read"],
        redirect_uri="https://flow8.example/auth/callback/acme",
        link_id=None,
        nonce=None,
        browser_hash=None,
    )  # type: ignore[arg-type]  # fields in groups


def wrong(store: Store, keyring: Keyring, contents: Contents) -> list[Place]:
    """The places whose secret cannot be read with a ring, or is another one."""
    vault, found = Vault(keyring), []
    documents = {
        each.collection: {row["_id"]: row for row in store.find(each.collection, {})} for each in sealed.SEALED
    }
    for place, secret in contents.secrets.items():
        try:
            value: Any = documents[place.collection][place.id]
            for part in place.field.split("."):
                value = value[part]
            # not `open`: each `Secret` of a thousand would be one more for the log redaction to look for
            if vault._opened(place, value).decode() != secret:
                found.append(place)
        except (KeyError, TypeError, ValueError, CryptoError):
            found.append(place)
    return found


def kids(store: Store) -> set[str | None]:
    """The keys that are named anywhere: by envelopes, by states, at the ends of audit logs."""
    rows = [row for each in sealed.SEALED for row in store.find(each.collection, {})]
    named: set[str | None] = {envelope.get("kid") for row in rows for _, envelope in sealed.envelopes(row)}
    named |= {row["bound"]["kid"] for row in rows if "bound" in row}
    return named | {kid for _, kid in audit.heads(store)}


def rotate(store: Store, keyring: Keyring | None = None) -> Any:
    """Re-seal with the new key."""
    return Rotation(store, keyring or before(), to=NEW_KID).run()


def retire(store: Store, keyring: Keyring | None = None, **options: Any) -> Any:
    """Retire the old key, with nothing to wait for unless said."""
    options = {"pause": lambda _: None, **options}
    abandon = options.pop("abandon", False)
    return Retirement(store, keyring or after(), **options).run(OLD_KID, abandon=abandon)


def rotator(url: str, crash_at: str, *, steps: Iterable[str] = ("rotate", "retire")) -> ForkServerProcess:
    """A process that rotates and retires, and dies or stops on the way."""
    process = CONTEXT.Process(target=_turn, args=(url, crash_at, tuple(steps)))
    process.start()
    return process


def _turn(url: str, crash_at: str, steps: tuple[str, ...]) -> None:
    keyring = after()
    try:
        with closing(open_store(url)) as store:
            crashpoints.arm(crash_at)
            for step in steps:
                {"rotate": rotate, "retire": retire}[step](store, keyring)
    except StoreUnavailable:
        sys.exit(AWAY)


def events(store: Store, company_id: ObjectId) -> list[tuple[str, str]]:
    """An audit log's entries about keys, the oldest first: (action, key)."""
    found = reversed(Audit(store, Vault(after()), company_id).query())
    return [(row["action_type"], row["resource_id"]) for row in found if row["resource_type"] == "encryption_key"]
