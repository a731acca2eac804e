"""What a test of links works with: a store whose time it moves, a scripted token server, and all that belongs to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bson import ObjectId

from credentials import applications, audit, components, connect, links, outbox, users
from credentials.applications import Applications
from credentials.connect import Connect
from credentials.grants import COLLECTION, MAIN, GrantPath
from credentials.link import Granted, Link
from credentials.links import Links
from credentials.providers.catalogue import Providers
from credentials.providers.settings import OAuthApp, ServiceSettings
from credentials.refresh import Refresher
from credentials.refresh_claims import Claim, Claims
from credentials.refresh_settings import RefreshSettings
from credentials.resolver import Resolver
from credentials.token_reply import Reply, Tokens
from credentials.upkeep import Upkeep
from credentials.vault import Vault
from flow8_core.clock import Deadline, ManualClock, SystemClock
from flow8_core.egress import Egress
from flow8_core.errors import Flow8Error
from flow8_core.secret import Secret
from flow8_core.store import Store, open_store
from tests import stores
from tests.counterparts.token_server import TokenServer

CLIENT_ID, CLIENT_SECRET = "flow8-client", "client-secret-of-the-tests"


@dataclass
class Desk:
    """Services: `acme` (custom, `replay` as given), `slack`, `clio` and `microsoft`, all at the token server."""

    store: Store
    vault: Vault
    server: TokenServer
    providers: Providers
    egress: Egress
    clock: ManualClock | SharedClock
    settings: RefreshSettings = field(default_factory=RefreshSettings)
    pauses: list[float] = field(default_factory=list)
    company_id: ObjectId = field(default_factory=ObjectId)
    user_id: ObjectId = field(default_factory=ObjectId)

    @property
    def links(self) -> Links:
        return Links(self.store, self.vault, self.company_id, actor=self.user_id)

    @property
    def refresher(self) -> Refresher:
        return Refresher(
            self.store, self.vault, self.providers, self.egress, settings=self.settings, pause=self.pauses.append
        )

    @property
    def applications(self) -> Applications:
        return Applications(self.store, self.vault, self.settings)

    @property
    def upkeep(self) -> Upkeep:
        return Upkeep(self.store, self.vault, self.providers, self.applications)

    def look_after(self) -> list[ObjectId]:
        """One pass of the upkeep: the links that were due, each of them looked after."""
        found = list(self.upkeep.due())
        for due in found:
            try:
                link = Links(self.store, self.vault, due.company_id).get(due.link_id)
                self.upkeep.look(link, self.refresher, deadline=self.soon, wished=due.trial)
            except Flow8Error:
                continue  # told by its status
        self.upkeep.pause_and_resume()
        return [due.link_id for due in found]

    @property
    def resolver(self) -> Resolver:
        return Resolver(self.store, self.vault, self.providers, self.refresher)

    @property
    def connect(self) -> Connect:
        return Connect(self.store, self.vault, self.providers, self.egress, public_url="https://flow8.example")

    @property
    def soon(self) -> Deadline:
        return Deadline.after(15.0, SystemClock())

    def link(
        self,
        service: str = "acme",
        *,
        expires_in: float | None = 3600,
        refresh_token: str | None = "",
        user_refresh_token: str | None = None,
        account: str = "user-1",
        user_id: ObjectId | None = None,
    ) -> Link:
        """A link whose access token ends in so many seconds; its refresh token is one of the server's, or as given."""
        granted_token = self.server.grant() if refresh_token == "" else refresh_token
        user_tokens = None
        if user_refresh_token:
            user_tokens = Tokens(Secret("user-token-0"), Secret(user_refresh_token), 3600)
        return self.links.save(
            Granted(
                tokens=Tokens(Secret("access-token-0"), Secret(granted_token) if granted_token else None, 3600),
                user_tokens=user_tokens,
                issued_at=self.store.now(),
                scopes=("read", "write"),
                provider_user_id=account,
                expires_at=None if expires_in is None else self.store.now() + timedelta(seconds=expires_in),
            ),
            provider=self.providers.get(service),
            user_id=user_id or self.user_id,
            source="test",
        )

    def now(self, link: Link) -> Link:
        """The link as the store has it."""
        return self.links.get(link.id)

    def document(self, link: Link) -> dict[str, Any]:
        found = self.store.get(COLLECTION, link.id)
        assert found is not None
        return found

    def set(self, link: Link, **fields: Any) -> Link:
        """Change a link's document behind everybody's back; `__` in a name stands for a dot."""
        changes = {name.replace("__", "."): value for name, value in fields.items()}
        assert self.store.update(COLLECTION, {"_id": link.id}, {"$set": changes}) is not None
        return self.now(link)

    def give_up(self, link: Link, reason: str = "invalid_grant") -> Link:
        """Mark a link as whoever finds that nothing renews its grant does."""
        return give_up(self.store, self.vault, self.now(link), reason)

    def actions(self) -> list[str]:
        """The audit log's actions, the oldest first."""
        return [
            event["action_type"] for event in reversed(audit.Audit(self.store, self.vault, self.company_id).query())
        ]

    def refresh_token(self, link: Link, path: GrantPath = MAIN) -> str:
        return self.now(link).open("refresh_token", path).reveal()

    def access_token(self, link: Link, path: GrantPath = MAIN) -> str:
        return self.now(link).open("access_token", path).reveal()


def providers_at(url: str, **acme: Any) -> Providers:
    """All services at one server. `acme` changes the custom one's description."""
    app = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    described = {"authorize_url": f"{url}/authorize", "token_url": f"{url}/token", "revoke_url": f"{url}/revoke"}
    described |= {"userinfo_url": f"{url}/userinfo", "api_hosts": [url.removeprefix("https://")], "scopes": ["read"]}
    oauth2 = {
        "acme": OAuthApp.model_validate(
            {name: value for name, value in (app | described | acme).items() if value is not None}
        ),
        "slack": OAuthApp.model_validate(app | {"scopes": ["chat:write"], "user_scopes": ["search:read"]}),
        "clio": OAuthApp.model_validate(app | {"scopes": ["contacts.read"]}),
        "microsoft": OAuthApp.model_validate(app | {"scopes": ["openid", "email", "Mail.Send"]}),
    }
    here = {"authorize_url": f"{url}/authorize", "token_url": f"{url}/token", "base_url": f"{url}/api/"}
    services = {
        "slack": ServiceSettings.model_validate(here | {"revoke_url": f"{url}/revoke"}),
        "clio": ServiceSettings.model_validate(here | {"revoke_url": f"{url}/revoke"}),
        "microsoft": ServiceSettings.model_validate({"authority": url, "base_url": f"{url}/v1.0/"}),
    }
    return Providers(oauth2, services)


def give_up(store: Store, vault: Vault, link: Link, reason: str = "invalid_grant") -> Link:
    """The link, marked as needing a reconnect."""
    given_up = Claims(store, vault).expire(link, MAIN, reason)
    assert given_up is not None
    return given_up


def declare(store: Store) -> None:
    """All collections of this room."""
    for module in (links, connect, users, audit, components, applications, outbox):
        store.declare(module.COLLECTION, module.INDEXES, durable=True)


class SharedClock:
    """The machine's clock, put forward by as many seconds as a file says: for processes that share a time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._system = SystemClock()

    def now(self) -> datetime:
        ahead = float(self.file.read_text()) if self.file.exists() else 0.0
        return self._system.now() + timedelta(seconds=ahead)

    def monotonic(self) -> float:
        return self._system.monotonic()

    def advance(self, seconds: float) -> None:
        ahead = float(self.file.read_text()) if self.file.exists() else 0.0
        fresh = self.file.with_suffix(".new")
        fresh.write_text(str(ahead + seconds))
        fresh.rename(self.file)


@contextmanager
def open_desk(
    folder: Path,
    vault: Vault,
    server: TokenServer,
    egress: Egress,
    *,
    shared_clock: bool = False,
    store_url: str | None = None,
    **acme: Any,
) -> Iterator[Desk]:
    """A desk with a store of its own, SQLite in `folder` unless named (MongoDB's time cannot be moved); `acme` as for
    `providers_at`."""
    clock = SharedClock(folder / "ahead") if shared_clock else ManualClock()
    with closing(open_store(store_url or stores.lay(folder / "desk.db", declare), clock=clock)) as store:
        declare(store)
        yield Desk(store, vault, server, providers_at(server.url, **acme), egress, clock)


def kept(desk: Desk, claims: Claims, claim: Claim, reply: Reply) -> bool:
    """Put a raw reply into a claim, as a refresh does before it reads it."""
    now = desk.store.now()
    return claims.keep_sealed(claim, claims.sealed_reply(claim, reply, sent_at=now), sent_at=now)
