"""`Link`: one user's OAuth2 grant at a service, as one read of its document found it; and what becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from bson import ObjectId

from credentials import grants
from credentials.grants import MAIN, Grant, GrantPath
from credentials.token_reply import Tokens
from credentials.vault import Vault
from flow8_core.secret import Secret

Status = Literal["active", "needs_reconnect", "app_blocked", "revoked"]
SealedName = Literal["access_token", "refresh_token", "refresh.reply"]


class Link(NamedTuple):
    """A link as one read found it. Secrets stay sealed until they are asked for, one at a time."""

    document: Mapping[str, Any]
    vault: Vault

    @property
    def id(self) -> ObjectId:
        return self.document["_id"]  # type: ignore[no-any-return]

    @property
    def company_id(self) -> ObjectId:
        return self.document["company_id"]  # type: ignore[no-any-return]

    @property
    def user_id(self) -> ObjectId:
        return self.document["user_id"]  # type: ignore[no-any-return]

    @property
    def service(self) -> str:
        return self.document["integration_type"]  # type: ignore[no-any-return]

    @property
    def status(self) -> Status:
        return self.document.get("status") or "active"

    @property
    def status_reason(self) -> str | None:
        return self.document.get("status_reason")

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(self.document.get("scopes") or ())

    @property
    def asked(self) -> tuple[str, ...]:
        """The scopes that the last connect asked for; more than the user may have granted."""
        return tuple(self.document.get("scopes_asked") or ())

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.document.get("provider_metadata") or {}

    @property
    def provider_user_id(self) -> str:
        return self.document.get("provider_user_id") or ""

    @property
    def account(self) -> str:
        """The connected account as people know it: its e-mail, else its name, else the vendor's id of it."""
        return self.document.get("provider_user_email") or self.metadata.get("name") or self.provider_user_id

    @property
    def generation(self) -> int:
        return self.grant().generation

    def grant(self, path: GrantPath = MAIN) -> Grant:
        """One of the link's grants; `exists` is false where it has none at that path."""
        return Grant(path, path.of(self.document))

    def open(self, name: SealedName, path: GrantPath = MAIN) -> Secret:
        """Decrypt one secret. Raises `EnvelopeRejected`."""
        sealed: Any = path.of(self.document)
        for part in name.split("."):
            sealed = sealed[part]
        return self.vault.open(grants.place(path, name, link_id=self.id, company_id=self.company_id), sealed)

    def describe(self) -> dict[str, Any]:
        """The link as answers show it, ready for JSON and without any secret."""
        return {
            "id": str(self.id),
            "service": self.service,
            "status": self.status,
            "status_reason": self.status_reason,
            "account": self.account,
            "scopes": list(self.document.get("scopes") or ()),
            "token_expiry": iso(self.document.get("token_expiry")),
            "refresh_at": iso(self.document.get("refresh_at")),
        }


@dataclass(frozen=True, kw_only=True)
class Granted:
    """What a connect or an import brings: tokens, and whose they are. `asked` are the scopes that were asked for where
    that is known; `expires_at` overrides what `tokens` say."""

    tokens: Tokens
    issued_at: datetime
    scopes: tuple[str, ...]
    asked: tuple[str, ...] = ()
    provider_user_id: str
    provider_account: str = ""
    email: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    user_tokens: Tokens | None = None
    expires_at: datetime | None = None


def iso(moment: datetime | None) -> str | None:
    """A moment as answers show it: UTC, with milliseconds and Z."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
