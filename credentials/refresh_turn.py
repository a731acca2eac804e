"""One caller's turn at one grant, and the entry in the audit log of what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from credentials.applications import Standing
from credentials.audit import Audit
from credentials.grants import USER, GrantPath
from credentials.link import Link
from credentials.providers.provider import Provider
from credentials.vault import Vault
from flow8_core.clock import Deadline
from flow8_core.errors import Flow8Error
from flow8_core.store import Store

ADOPT_PAUSES_S = (0.05, 0.15, 0.3)  # together half a second: nothing waits longer in a worker


@dataclass(frozen=True)
class Turn:
    """One caller's look at one grant. `usable`: its access token will do where the refresh fails. `standing` is that of
    the application with which it refreshes."""

    link: Link
    path: GrantPath
    provider: Provider
    deadline: Deadline
    usable: bool
    standing: Standing = field(default_factory=Standing)


class Chronicle:
    """Writes into the links' audit logs what their refreshes came to."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    def record(self, action: str, link: Link, path: GrantPath, *, error: Flow8Error | None = None) -> None:
        """One entry: the link as it is now, and why where something failed. Raises `StoreUnavailable`."""
        after: dict[str, Any] = {"service": link.service, "status": link.status, "status_reason": link.status_reason}
        after |= {"generation": link.grant(path).generation, "token_expiry": link.grant(path).expiry}
        if path == USER:
            after["kind"] = "user_token"
        Audit(self._store, self._vault, link.company_id).record(
            action, resource_type="integration", resource_id=str(link.id), after=after, error=error
        )
