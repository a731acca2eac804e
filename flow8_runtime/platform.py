"""Wires store, vault, egress and repositories together: once a process, after the fork, and lazily.

A door makes one `Platform` and takes everything from it; nothing here is a module-level global.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from bson import ObjectId

from credentials import (
    applications,
    audit,
    check_values,
    components,
    connect,
    events,
    key_rows,
    links,
    outbox,
    revocation,
    users,
)
from credentials.alerts import Alerts
from credentials.applications import Applications
from credentials.audit import Audit
from credentials.components import Components
from credentials.connect import Connect
from credentials.events import Announcer, EventCourier
from credentials.forecast import Expiring
from credentials.keyring import Keyring
from credentials.links import Links
from credentials.outbox import Courier, Outbox
from credentials.providers.catalogue import Providers
from credentials.refresh import Refresher
from credentials.resolver import Resolver
from credentials.revocation import RevocationCourier
from credentials.spool import Spool, Spools
from credentials.unlink import Unlink
from credentials.upkeep import Upkeep
from credentials.users import Users
from credentials.vault import Vault
from flow8_core.clock import Clock, SystemClock
from flow8_core.egress import Egress
from flow8_core.store import Index, Store, open_store
from flow8_modules.catalogue import Catalogue
from flow8_modules.clients import Clients
from flow8_runtime import documents, owners, throttles
from flow8_runtime.foundation import Foundation
from flow8_runtime.ledger import Ledger
from flow8_runtime.owners import Owners

if TYPE_CHECKING:
    from flow8_runtime.bell import Bell

log = logging.getLogger("flow8.platform")

COLLECTIONS: tuple[tuple[str, tuple[Index, ...], bool], ...] = (
    # name, indexes, durable: a write that power loss may not take back
    (links.COLLECTION, links.INDEXES, True),
    (components.COLLECTION, components.INDEXES, True),
    (connect.COLLECTION, connect.INDEXES, True),
    (applications.COLLECTION, applications.INDEXES, True),
    (users.COLLECTION, users.INDEXES, True),
    (outbox.COLLECTION, outbox.INDEXES, True),
    (audit.COLLECTION, audit.INDEXES, True),
    (check_values.COLLECTION, check_values.INDEXES, True),
    (documents.FLOWS, documents.FLOW_INDEXES, False),
    (documents.PLAYS, documents.PLAY_INDEXES, False),
    (documents.STEP_RUNS, documents.STEP_RUN_INDEXES, False),
    (throttles.COLLECTION, throttles.INDEXES, False),
    (owners.COLLECTION, owners.INDEXES, False),
)


class Platform:
    """One process's parts, each made when first asked for. Make it after the fork; `close` it at the end."""

    def __init__(self, foundation: Foundation, *, clock: Clock | None = None) -> None:
        self.foundation = foundation
        self.settings = foundation.settings
        self.clock: Clock = clock or SystemClock()
        self._closers: list[Callable[[], None]] = []

    @cached_property
    def store(self) -> Store:
        if self.settings.embedded:
            self.settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = open_store(self.settings.store, clock=self.clock)
        self._closers.append(store.close)
        for name, indexes, durable in COLLECTIONS:
            store.declare(name, indexes, durable=durable)
        return store

    @cached_property
    def keyring(self) -> Keyring:
        """The keys, once they are known to be those that the store was sealed with."""
        self.foundation = self.foundation.with_keys()
        keys = self.foundation.keyring
        assert keys is not None  # noqa: S101  # with_keys() has just derived it
        keys.verify(self.store, unable=self.unable_to_read)
        return keys

    @cached_property
    def vault(self) -> Vault:
        return Vault(self.keyring, key_rows.Writer(self.store, self.keyring))

    def key_holders(self) -> Mapping[str, tuple[str, tuple[str, ...]]]:
        """The living worker processes, each with the kid of its primary key and those of all that it has."""
        return {
            owner: (keys.primary, keys.reads) for owner, keys in Owners(self.store, self.settings.home).keys().items()
        }

    @property
    def spools(self) -> Spools:
        """What lies in the spools of this host and of those whose workers live."""
        folder, owners = self.settings.refresh.spool, Owners(self.store, self.settings.home)
        return Spools(Spool(folder), lambda: owners.spooled(here=folder is None))

    def unable_to_read(self, kid: str) -> list[str]:
        """The living worker processes that do not have a key."""
        return [owner for owner, (_, reads) in self.key_holders().items() if kid not in reads]

    @cached_property
    def egress(self) -> Egress:
        egress = Egress(self.settings.egress, clock=self.clock)
        self._closers.append(egress.close)
        return egress

    @cached_property
    def providers(self) -> Providers:
        return Providers(self.settings.oauth2, self.settings.services)

    @cached_property
    def refresher(self) -> Refresher:
        return Refresher(
            self.store, self.vault, self.providers, self.egress, settings=self.settings.refresh, clock=self.clock
        )

    @cached_property
    def upkeep(self) -> Upkeep:
        return Upkeep(self.store, self.vault, self.providers, self.applications)

    @cached_property
    def applications(self) -> Applications:
        return Applications(self.store, self.vault, self.settings.refresh)

    @cached_property
    def resolver(self) -> Resolver:
        return Resolver(self.store, self.vault, self.providers, self.refresher)

    @cached_property
    def connect(self) -> Connect:
        return Connect(self.store, self.vault, self.providers, self.egress, public_url=self.settings.public_url)

    @cached_property
    def outbox(self) -> Outbox:
        couriers: dict[str, Courier] = {
            events.KIND: EventCourier(self.store, self.vault, self.egress, self.settings.events),
            revocation.KIND: RevocationCourier(self.store, self.vault, self.providers, self.egress),
        }
        return Outbox(self.store, couriers, clock=self.clock)

    @cached_property
    def announcer(self) -> Announcer:
        return Announcer(self.store, self.vault, self.settings.events)

    @cached_property
    def alerts(self) -> Alerts:
        return Alerts(self.store, self.providers, self.applications, self.settings.events)

    @cached_property
    def catalogue(self) -> Catalogue:
        return Catalogue(self.settings.modules)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.store, lease_s=self.settings.worker.lease_s)

    @cached_property
    def bell(self) -> Bell:
        """Wakes workers; for what is no worker itself."""
        from flow8_runtime.bell import Bell  # with Redis' client, which most commands need not load

        bell = Bell(self.settings)
        self._closers.append(bell.close)
        return bell

    @cached_property
    def clients(self) -> Clients:
        return Clients()

    def links(self, company_id: ObjectId) -> Links:
        """The links of one company."""
        return Links(self.store, self.vault, company_id)

    def expiring(self, company_id: ObjectId) -> Expiring:
        """What will end of one company's links."""
        return Expiring(self.store, self.vault, company_id)

    def unlink(self, company_id: ObjectId, *, user_id: ObjectId | None = None) -> Unlink:
        """Revokes links of one company, audited as done by `user_id`."""
        return Unlink(self.store, self.vault, self.providers, company_id, actor=user_id)

    def components(self, company_id: ObjectId, *, user_id: ObjectId | None = None) -> Components:
        """The components of one company; changes are audited as made by `user_id`."""
        return Components(self.store, self.vault, company_id, user_id=user_id)

    def audit(self, company_id: ObjectId) -> Audit:
        """The audit log of one company."""
        return Audit(self.store, self.vault, company_id)

    def identity(self, company: str | None = None, user: str | None = None) -> tuple[ObjectId, ObjectId]:
        """Who acts: (company id, user id), as given, else from the settings, else embedded mode's one local user.

        Raises `ValidationFailed` where one is missing in a shared deployment, or is no id.
        """
        company, user = company or self.settings.company, user or self.settings.user
        if self.settings.embedded and not (company and user):
            local = Users(self.store).local()
            company, user = company or str(local.company_id), user or str(local.user_id)
        actor = users.named(company, user)
        return actor.company_id, actor.user_id

    def close(self) -> None:
        """Close what was opened, last first."""
        while self._closers:
            self._closers.pop()()
