"""A desk whose links' owners are told: announcer, couriers and outbox, and processes that send and may be killed."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from bson import ObjectId
from pydantic import SecretStr

from credentials import events, revocation
from credentials.alerts import Alerts
from credentials.applications import Applications
from credentials.events import Announcer, EventCourier
from credentials.outbox import COLLECTION, Drained, Outbox
from credentials.providers.catalogue import Providers
from credentials.refresh_settings import RefreshSettings
from credentials.revocation import RevocationCourier
from credentials.unlink import Unlink
from credentials.vault import Vault
from credentials.webhooks import EventSettings
from flow8_core import crashpoints
from flow8_core.clock import Deadline, SystemClock
from flow8_core.egress import Egress, EgressSettings
from flow8_core.store import Document, Store, open_store
from tests.counterparts.receiver import SECRET, Receiver
from tests.credentials.desk import Desk, SharedClock, providers_at
from tests.forkserver import CONTEXT


@dataclass
class Post:
    """What leaves a desk."""

    store: Store
    vault: Vault
    providers: Providers
    egress: Egress
    settings: EventSettings

    @property
    def announcer(self) -> Announcer:
        return Announcer(self.store, self.vault, self.settings)

    @property
    def alerts(self) -> Alerts:
        applications = Applications(self.store, self.vault, RefreshSettings())
        return Alerts(self.store, self.providers, applications, self.settings)

    @property
    def outbox(self) -> Outbox:
        couriers = {
            events.KIND: EventCourier(self.store, self.vault, self.egress, self.settings),
            revocation.KIND: RevocationCourier(self.store, self.vault, self.providers, self.egress),
        }
        return Outbox(self.store, couriers, rng=random.Random(8))

    def round(self) -> Drained:
        """As the sweep does it, with time enough for everything."""
        self.alerts.announce()
        self.announcer.announce(Deadline.after(20.0, SystemClock()))
        return self.outbox.drain(budget_s=20.0)

    def items(self) -> list[Document]:
        return self.store.find(COLLECTION, {}, sort=[("created_at", 1)])

    def unlink(self, desk: Desk) -> Unlink:
        return Unlink(self.store, self.vault, self.providers, desk.company_id, actor=desk.user_id)


def post_of(desk: Desk, receiver: Receiver | None, egress: Egress, **settings: object) -> Post:
    """The post of a desk; without a receiver nobody is told."""
    receiver_at = {} if receiver is None else {"url": receiver.url, "secret": SecretStr(SECRET)}
    if receiver is not None:
        receiver.now = lambda: desk.store.now().timestamp()
    return Post(
        desk.store, desk.vault, desk.providers, egress, EventSettings.model_validate({**receiver_at, **settings})
    )


@dataclass(frozen=True)
class Round:
    """What a process is to do: unlink `link_id` where one is named, then a round of the post."""

    folder: Path
    company_id: str
    url: str
    ca_file: Path
    crash_at: str
    endpoint: str | None = None
    link_id: str | None = None
    round: bool = True


def send(one: Round) -> ForkServerProcess:
    """A process that does it."""
    process = CONTEXT.Process(target=_run, args=(one,))
    process.start()
    return process


def _run(one: Round) -> None:
    from tests.credentials.derived import RING

    vault = Vault(RING)
    clock = SharedClock(one.folder / "ahead")
    places = tuple(url.removeprefix("https://").partition("/")[0] for url in (one.url, one.endpoint) if url)
    given = {"url": one.endpoint, "secret": SecretStr(SECRET)} if one.endpoint else {}
    egress_settings = EgressSettings(allow=places, ca_file=one.ca_file)
    with (
        closing(open_store(f"sqlite:///{one.folder / 'desk.db'}", clock=clock)) as store,
        Egress(egress_settings) as egress,
    ):
        post = Post(store, vault, providers_at(one.url), egress, EventSettings.model_validate(given))
        crashpoints.arm(one.crash_at)
        if one.link_id is not None:
            Unlink(store, vault, post.providers, ObjectId(one.company_id)).link(one.link_id)
        if one.round:
            post.round()
