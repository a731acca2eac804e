"""One-time states: what is remembered of a connection between the way out and the way back.

A state is 256 random bits, of which only the hash is kept, for ten minutes. A MAC holds the record together, so that
whoever can write to the store cannot have an account linked to somebody else. One atomic delete consumes it before
anything is compared: a callback counts once, whoever sends it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from credentials.vault import Place, Vault
from flow8_core.errors import AccessDenied
from flow8_core.secret import Secret
from flow8_core.store import Document, Index, Store

COLLECTION = "oauth_states"
INDEXES = (Index((("state_hash", 1),), unique=True), Index((("expires_at", 1),), expire_after_s=0))

LIFETIME_S = 600
_MAC_PURPOSE = "oauth-state"


@dataclass(frozen=True, kw_only=True)
class Intent:
    """What a connection is for. `user_id` None: for whoever signs in; `link_id` where it reconnects; `nonce` as the ID
    token must repeat it; `browser_hash` of what only the browser's session knows."""

    company_id: ObjectId
    user_id: ObjectId | None
    service: str
    redirect_uri: str
    scopes: list[str]
    link_id: ObjectId | None
    nonce: str | None
    browser_hash: str | None


@dataclass(frozen=True)
class State:
    """A state that was consumed."""

    intent: Intent
    verifier: Secret | None


class States:
    """The states of all companies: who comes back is known by the state alone."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    @staticmethod
    def new() -> Secret:
        """A state to send out."""
        return Secret(secrets.token_urlsafe(32))

    def keep(self, state: Secret, intent: Intent, verifier: Secret | None) -> None:
        """Remember what a state stands for."""
        now, kid = self._store.now(), self._vault.kid
        document: Document = {
            "_id": ObjectId(),
            "state_hash": hashed(state.reveal()),
            "created_at": now,
            "expires_at": now + timedelta(seconds=LIFETIME_S),
            **{field.name: getattr(intent, field.name) for field in fields(Intent)},
        }
        if verifier is not None:
            document["verifier"] = self._vault.seal(_place(document), verifier)
        self._store.insert(COLLECTION, document | {"bound": {"kid": kid, "mac": _mac(self._vault, document, kid)}})

    def waits(self, state: str) -> bool:
        """Whether a state is still there to be consumed."""
        wanted = {"state_hash": hashed(state), "expires_at": {"$gt": self._store.now()}}
        return bool(self._store.count(COLLECTION, wanted))

    def consume(self, state: str, *, service: str | None, browser: str | None) -> State:
        """What a state stands for, once. Raises `AccessDenied` where it is unknown, used, over, changed, or comes back
        at another service's address or in another browser, and `EnvelopeRejected` where the verifier does not open."""
        document = self._store.delete(COLLECTION, {"state_hash": hashed(state)})
        if document is None or document["expires_at"] <= self._store.now():
            raise AccessDenied("This attempt to connect is completed, or older than 10 minutes; connect again.")
        if not self._untouched(document):
            raise AccessDenied("The record of this attempt to connect was changed; connect again.")
        intent = Intent(**{field.name: document[field.name] for field in fields(Intent)})
        if service is not None and service != intent.service:
            raise AccessDenied("The answer came back at another service's address; connect again.")
        if intent.browser_hash is not None and not _same(browser, intent.browser_hash):
            raise AccessDenied("Another browser or session began this; connect again, and finish in the same browser.")
        sealed = document.get("verifier")
        return State(intent, self._vault.open(_place(document), sealed) if sealed else None)

    def _untouched(self, document: Document) -> bool:
        return _untouched(self._vault, document)


def rebound(vault: Vault, document: Document) -> dict[str, str] | None:
    """What holds a state's record together, made with the key that seals now; None where it is, or where the record was
    changed and no callback will be let in with it."""
    bound = document.get("bound")
    if not isinstance(bound, dict) or bound.get("kid") == vault.kid or not _untouched(vault, document):
        return None
    kid = vault.kid
    return {"kid": kid, "mac": _mac(vault, document, kid)}


def _untouched(vault: Vault, document: Document) -> bool:
    bound = document.get("bound")
    if not isinstance(bound, dict) or not vault.knows(str(bound.get("kid"))):
        return False
    return hmac.compare_digest(_mac(vault, document, bound["kid"]), str(bound.get("mac")))


def _mac(vault: Vault, document: Document, kid: str) -> str:
    covered = {name: _plain(value) for name, value in document.items() if name not in ("bound", "verifier")}
    data = json.dumps(covered, sort_keys=True, separators=(",", ":")).encode()
    return vault.mac(_MAC_PURPOSE, data, kid=kid).hex()


def hashed(text: str) -> str:
    """The hash under which a state or a browser's value is kept."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32, person=b"flow8-state").hexdigest()


def _same(browser: str | None, browser_hash: str) -> bool:
    return browser is not None and hmac.compare_digest(hashed(browser), browser_hash)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value if isinstance(value, list) else repr(value)


def _place(document: Document) -> Place:
    return Place(COLLECTION, document["_id"], document["company_id"], "verifier")
