"""A company's links: users' OAuth2 grants, sealed.

A document has the fields of flow8's DBLink (`user_id company_id integration_type access_token refresh_token
token_expiry scopes provider_user_id provider_user_email provider_metadata created_at updated_at`), so that what queries
those works. `provider_account` (workspace, tenant) completes the upstream account's key; `grant_id` changes with each
connect. What concerns a grant's life is in `grants`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bson import ObjectId

from credentials import forecast, grants, link_accounts, upkeep_times
from credentials.applications import REFUSED
from credentials.audit import Audit, Origin
from credentials.grants import COLLECTION, MAIN, USER, USER_TOKEN
from credentials.link import Granted, Link, Status
from credentials.link_notes import LATEST, TOLD
from credentials.providers.provider import Provider
from credentials.vault import Vault
from flow8_core.errors import Conflict, Flow8Error, NotFound, StoreUnavailable
from flow8_core.store import Document, DuplicateKey, Index, Store

__all__ = ["COLLECTION", "INDEXES", "Granted", "Link", "Links", "Status"]

INDEXES = (
    Index((("company_id", 1), ("user_id", 1), ("integration_type", 1), ("provider_user_id", 1))),
    Index((("company_id", 1), ("integration_type", 1), ("shared", 1))),
    Index((("company_id", 1), ("created_at", -1))),
    Index((("status", 1), ("refresh_at", 1))),
    Index((("token_expiry", 1),)),
    Index(((LATEST, 1),)),  # what somebody must be told
    Index((("status", 1), (TOLD, 1))),  # and which of it is no longer so
    Index(((USER.field(TOLD), 1),)),
    *forecast.INDEXES,
    # who else lives by the same upstream grant, in whatever company
    Index((("integration_type", 1), ("provider_user_id", 1))),
    Index((("integration_type", 1), ("provider_account", 1))),
    Index((("status", 1), (upkeep_times.FIELD, 1))),
    Index((("integration_type", 1), ("status", 1))),
    Index((("integration_type", 1), ("refused_as", 1), ("refused_at", 1))),
    Index((("integration_type", 1), ("issued_at", 1))),
)

# what a list reads: no envelope
_ANSWERED = (
    *("company_id", "user_id", "integration_type", "status", "status_reason", "scopes", "shared", "last_health"),
    *("token_expiry", "refresh_at", "generation", "created_at", "updated_at"),
    *("provider_user_id", "provider_account", "provider_user_email", "provider_metadata"),
)
_ATTEMPTS = 3
_ENOUGH = 100  # links of one service that one user may have, or one company share


class Links:
    """The links of one company. `actor` is who acts, for the audit log."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        company_id: ObjectId,
        *,
        actor: ObjectId | None = None,
        origin: Origin = Origin(),  # noqa: B008  frozen
    ) -> None:
        self._store = store
        self._vault = vault
        self._company_id = company_id
        self._actor = actor
        self._origin = origin

    def find(self, link_id: ObjectId | str) -> Link | None:
        """The link with this id; None where the company has none, whoever else may have it."""
        if not isinstance(link_id, ObjectId):
            if not (isinstance(link_id, str) and ObjectId.is_valid(link_id)):
                return None
            link_id = ObjectId(link_id)
        found = self._store.find(COLLECTION, {"_id": link_id, "company_id": self._company_id}, limit=1)
        return Link(found[0], self._vault) if found else None

    def get(self, link_id: ObjectId | str) -> Link:
        """As `find`. Raises `NotFound`."""
        link = self.find(link_id)
        if link is None:
            raise NotFound("There is no such link; `flow8 link list` shows those that there are.")
        return link

    def list(
        self,
        *,
        service: str | None = None,
        user_id: ObjectId | None = None,
        status: Status | None = None,
        limit: int = 0,
    ) -> Sequence[Link]:
        """Links for showing, the newest first: without their envelopes, so that nothing can be decrypted from them."""
        wanted: dict[str, Any] = {"company_id": self._company_id}
        given = {"integration_type": service, "user_id": user_id, "status": status}
        wanted |= {name: {"$eq": value} for name, value in given.items() if value is not None}
        rows = self._store.find(COLLECTION, wanted, sort=[("created_at", -1)], limit=limit, fields=_ANSWERED)
        return [Link(row, self._vault) for row in rows]

    def for_user(self, service: str, user_id: ObjectId) -> Sequence[Link]:
        """A user's own links of a service, whole, the oldest first, those that were revoked left out."""
        return self._whole({"company_id": self._company_id, "user_id": user_id, "integration_type": service})

    def shared(self, service: str) -> Sequence[Link]:
        """The links of a service that everybody in the company may use, as `for_user`."""
        return self._whole({"company_id": self._company_id, "integration_type": service, "shared": True})

    def share(self, link_id: ObjectId | str, *, shared: bool = True) -> Link:
        """Let everybody's flows in the company use a link, or its owner's alone again. Raises `NotFound`."""
        link = self.get(link_id)
        changes = {"shared": shared, "updated_at": self._store.now()}
        before = {"shared": bool(link.document.get("shared"))}
        return self._audited(
            "integration_shared", link.id, before, {"shared": shared}, lambda: self._updated(link, {"$set": changes})
        )

    def note_health(
        self, link_id: ObjectId, *, status: str, token_valid: bool | None, latency_ms: int | None, code: str | None
    ) -> None:
        """Remember how the last test of a link went; nothing where the link is gone."""
        health = {"status": status, "token_valid": token_valid, "latency_ms": latency_ms, "code": code}
        wanted = {"_id": link_id, "company_id": self._company_id}
        self._store.update(COLLECTION, wanted, {"$set": {"last_health": {**health, "at": self._store.now()}}})

    def save(
        self, granted: Granted, *, provider: Provider, user_id: ObjectId, link_id: ObjectId | None = None, source: str
    ) -> Link:
        """Store what a user granted: into the link of the same upstream account, which keeps its id, or a new one.

        With `link_id` into that link and no other. Raises `NotFound` where it is gone, and `Conflict` where it is
        another account's: its flows must not act as somebody else from one day to the next.
        """
        for _ in range(_ATTEMPTS):
            existing = self.get(link_id) if link_id is not None else self._of_account(granted, provider, user_id)
            if existing is not None and not link_accounts.same(existing, granted):
                raise Conflict(
                    f"This is another {provider.title} account than the one that the link belongs to; "
                    "sign in as that account, or connect a new link.",
                    service=provider.service,
                    link_id=str(existing.id),
                )
            try:
                return self._save(granted, existing, provider=provider, user_id=user_id, source=source)
            except DuplicateKey:
                continue  # somebody connected the same account at this moment
        raise StoreUnavailable("The link was changed by others again and again; try again.")

    def _save(
        self, granted: Granted, existing: Link | None, *, provider: Provider, user_id: ObjectId, source: str
    ) -> Link:
        link_id = (
            existing.id if existing else link_accounts.new_id(self._company_id, user_id, provider.service, granted)
        )
        fields = self._fields(granted, existing, link_id, provider=provider)
        before = _state(existing.document) if existing else {}
        after = {**_state(fields), "integration_type": provider.service, "source": source}

        def write() -> Link:
            if existing is None:
                return self._inserted(link_id, fields, provider.service, user_id)
            cleared = [path.field(name) for path in (MAIN, USER) for name in ("refresh", "not_before")]
            counted = {MAIN.field("generation"): 1}
            if granted.user_tokens is not None:
                counted[USER.field("generation")] = 1
                cleared += [USER.field("status"), USER.field("status_reason")]
            else:
                cleared = [*cleared[:2], "user_token"]
            unset = dict.fromkeys([*cleared, *REFUSED], "")
            return self._updated(existing, {"$set": fields, "$inc": counted, "$unset": unset})

        return self._audited("integration_linked", link_id, before, after, write)

    def _fields(
        self, granted: Granted, existing: Link | None, link_id: ObjectId, *, provider: Provider
    ) -> dict[str, Any]:
        known = existing.document if existing else {}
        fields: dict[str, Any] = {
            "provider_user_id": granted.provider_user_id,
            "provider_account": granted.provider_account or known.get("provider_account") or "",
            "provider_user_email": granted.email or known.get("provider_user_email"),
            "provider_metadata": {**(known.get("provider_metadata") or {}), **granted.metadata},
            "status": "active",
            "status_reason": None,
            "updated_at": self._store.now(),
            "grant_id": ObjectId(),
        }
        for path, tokens in ((MAIN, granted.tokens), (USER, granted.user_tokens)):
            if tokens is not None:
                fields |= grants.written(
                    path,
                    tokens,
                    provider=provider,
                    issued_at=granted.issued_at,
                    link_id=link_id,
                    company_id=self._company_id,
                    vault=self._vault,
                    had_refresh_token=existing is not None and existing.grant(path).refreshable,
                )
        fields |= grants.begun(provider, granted.tokens, granted.issued_at)
        if granted.expires_at is not None:
            fields["token_expiry"] = granted.expires_at
            fields["refresh_at"] = grants.refresh_at(granted.expires_at, fields["lifetime_s"], provider.refresh_lead_s)
        after = upkeep_times.changed({**known, "_id": link_id, USER_TOKEN: None}, MAIN, fields)
        if granted.user_tokens is not None:
            after = upkeep_times.changed({**known, **after}, USER, fields)
        look_at = upkeep_times.of_document(after, provider, now=fields["updated_at"])
        scopes = {"scopes": list(granted.scopes), "scopes_asked": list(granted.asked)}
        return fields | scopes | {upkeep_times.FIELD: look_at}

    def _inserted(self, link_id: ObjectId, fields: Mapping[str, Any], service: str, user_id: ObjectId) -> Link:
        document: Document = {
            "_id": link_id,
            "company_id": self._company_id,
            "user_id": user_id,
            "integration_type": service,
            "shared": False,
            "generation": 1,
            "created_at": fields["updated_at"],
        }
        below = {name[len(USER.prefix) :]: value for name, value in fields.items() if name.startswith(USER.prefix)}
        document |= {name: value for name, value in fields.items() if not name.startswith(USER.prefix)}
        if below:
            document["user_token"] = {**below, "generation": 1}
        self._store.insert(COLLECTION, document)
        return Link(document, self._vault)

    def _updated(self, link: Link, update: Mapping[str, Any]) -> Link:
        document = self._store.update(COLLECTION, {"_id": link.id, "company_id": self._company_id}, update)
        return Link(document, self._vault) if document is not None else self.get(link.id)

    def _of_account(self, granted: Granted, provider: Provider, user_id: ObjectId) -> Link | None:
        wanted = {
            "company_id": self._company_id,
            "user_id": user_id,
            "integration_type": provider.service,
            "provider_user_id": granted.provider_user_id,
        }
        rows = self._store.find(COLLECTION, wanted, limit=_ENOUGH)
        return link_accounts.matching([Link(row, self._vault) for row in rows], granted)

    def _whole(self, wanted: Mapping[str, Any]) -> Sequence[Link]:
        # sorted and sifted here: these are few, and with nothing but an index's own fields the query is the fastest
        rows = self._store.find(COLLECTION, wanted, limit=_ENOUGH)
        links = [Link(row, self._vault) for row in rows if row.get("status") != "revoked"]
        return sorted(links, key=link_accounts.age) if len(links) > 1 else links

    def _audited(
        self,
        action: str,
        link_id: ObjectId,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        act: Callable[[], Link],
    ) -> Link:
        """Record, then act: what cannot be recorded does not happen. A failure is recorded as a second event."""
        audit = Audit(self._store, self._vault, self._company_id, origin=self._origin)

        def record(after: Mapping[str, Any], error: Flow8Error | None = None) -> None:
            audit.record(
                action,
                resource_type="integration",
                resource_id=str(link_id),
                before=before,
                after=after,
                user_id=self._actor,
                error=error,
            )

        record(after)
        try:
            return act()
        except Flow8Error as error:
            record({}, error)
            raise


def _state(fields: Mapping[str, Any]) -> dict[str, Any]:
    names = ("integration_type", "provider_user_id", "scopes", "status", "token_expiry", "generation")
    return {name: fields[name] for name in names if name in fields}
