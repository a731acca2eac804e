"""The credential of a step that is about to run.

A link: the one that the step names, else the acting user's own, else one that the company shares. A component: see
`Components.resolve`. Everything is refused before the vendor is called, and what belongs to others looks like what is
not there. On the usual path this is one read and one decryption, so that path stays short.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from bson import ObjectId
from bson.errors import InvalidId

from credentials import components, grants, link_errors
from credentials.components import Component, Components
from credentials.grants import COLLECTION, USER, USER_TOKEN
from credentials.links import Link, Links
from credentials.providers.catalogue import Providers
from credentials.providers.provider import Provider
from credentials.read_ahead import ReadAhead, Wanted
from credentials.refresh import Refresher
from credentials.vault import Vault
from flow8_core.clock import Deadline
from flow8_core.egress import Hosts
from flow8_core.errors import AccessDenied, Conflict
from flow8_core.secret import Secret
from flow8_core.store import Store


class LinkAccess(NamedTuple):
    """A link, ready for one call."""

    access_token: Secret
    link: Link
    provider: Provider

    def __repr__(self) -> str:
        return f"LinkAccess({self.credential})"

    @property
    def link_id(self) -> str:
        return str(self.link.id)

    @property
    def service(self) -> str:
        return self.link.service

    @property
    def scopes(self) -> frozenset[str]:
        return self.link.scopes

    @property
    def base_url(self) -> str:
        return self.provider.base_url

    @property
    def hosts(self) -> Hosts:
        """The only places that its tokens may go to."""
        return self.provider.api_hosts

    @property
    def user_token(self) -> Secret | None:
        """The user's own token beside the bot's (Slack), opened now; None where there is none that works."""
        grant = self.link.grant(USER)
        if not grant.exists or grant.fields.get("status") == "needs_reconnect":
            return None
        return self.link.open("access_token", USER)

    @property
    def account(self) -> str:
        """The connected account, as people know it."""
        return self.link.account

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the vendor told about the account when it was connected."""
        return self.link.metadata

    @property
    def generation(self) -> int:
        """Which of the link's successive tokens this is."""
        return self.link.generation

    @property
    def credential(self) -> str:
        """Its name in throttles and step runs."""
        return f"link:{self.link_id}"


class NotReady(Exception):
    """The link has to be refreshed first, and whoever asks does not wait for a vendor."""


class Resolver:
    """Finds, checks, refreshes and decrypts. Threads may share one."""

    def __init__(self, store: Store, vault: Vault, providers: Providers, refresher: Refresher) -> None:
        self._store = store
        self._vault = vault
        self._providers = providers
        self._refresher = refresher
        self._ahead = ReadAhead(store)

    def link(
        self,
        *,
        company_id: ObjectId,
        user_id: ObjectId,
        service: str | None,
        link_id: str | None,
        scopes: frozenset[str],
        deadline: Deadline,
        patient: bool = True,
    ) -> LinkAccess:
        """The link for a step that needs `scopes` of `service` (None: of the named link's, whichever that is).

        Raises `AccessDenied` where there is none, `Conflict` naming both where two could be meant, `InsufficientScope`
        naming what lacks, and what `Refresher.fresh` raises; instead of refreshing, `NotReady` where not `patient`.
        """
        link = self.choose(company_id=company_id, user_id=user_id, service=service, link_id=link_id)
        if not scopes.issubset(link.document.get("scopes") or ()):
            self._refuse_missing(scopes, link)
        if not self._ready(link.document):
            if not patient:
                raise NotReady
            link = self._refresher.fresh(link, deadline=deadline)
        return self._access(link)

    def choose(self, *, company_id: ObjectId, user_id: ObjectId, service: str | None, link_id: str | None) -> Link:
        """Which link a step would get, without opening or refreshing it; perhaps one that is not active. Raises
        `AccessDenied` and `Conflict` as `link` does."""
        if link_id is not None:
            return self._named(company_id, user_id, service, link_id)
        return self._default(company_id, user_id, service)

    def renew(self, access: LinkAccess, *, deadline: Deadline) -> LinkAccess:
        """The link again, with another access token than the one that the vendor has just refused. Raises what
        `Refresher.fresh` raises."""
        return self._access(self._refresher.fresh(access.link, deadline=deadline, force=True))

    def component(
        self, *, company_id: ObjectId, kind: str, component_id: str | None = None, provider: str | None = None
    ) -> Component:
        """The component for a step, as `Components.resolve`."""
        row = self._ahead.find(components.COLLECTION, company_id, component_id)
        found = Components(self._store, self._vault, company_id)
        return found.resolve(kind, id=component_id, provider=provider, row=row)

    def ahead(self, wanted: Iterable[Wanted]) -> AbstractContextManager[None]:
        """`with` it around resolving for several steps, which want these: as `ReadAhead.of`."""
        return self._ahead.of(wanted)

    def _access(self, link: Link) -> LinkAccess:
        return LinkAccess(link.open("access_token"), link, self._providers.get(link.service))

    def _refuse_missing(self, scopes: frozenset[str], link: Link) -> None:
        missing = self._providers.get(link.service).scopes.missing(scopes, link.scopes)
        if missing:
            raise link_errors.lacks_scopes(link, missing)

    def _ready(self, document: Mapping[str, Any]) -> bool:
        """Whether a link can be used as it was read."""
        if (document.get("status") or "active") != "active":
            return False
        moment = grants.due_from(document)
        if USER_TOKEN in document:
            moment = grants.earlier(moment, grants.due_from(USER.of(document)))
        return moment is None or moment > self._store.now()  # the clock is asked where it matters alone

    def _named(self, company_id: ObjectId, user_id: ObjectId, service: str | None, link_id: str) -> Link:
        if not isinstance(link_id, str):
            raise link_errors.gone(service)
        try:
            wanted = {"_id": ObjectId(link_id), "company_id": company_id}
        except InvalidId:
            raise link_errors.gone(service) from None
        document = self._ahead.find(COLLECTION, company_id, link_id)
        if document is None:
            document = next(iter(self._store.find(COLLECTION, wanted, limit=1)), None)
        if document is None or (document["user_id"] != user_id and document.get("shared") is not True):
            raise link_errors.gone(service)
        if service is not None and document["integration_type"] != service:
            raise AccessDenied(
                f"The link that the step names is of {document['integration_type']}, and the step needs {service}.",
                service=service,
            )
        return Link(document, self._vault)

    def _default(self, company_id: ObjectId, user_id: ObjectId, service: str | None) -> Link:
        if service is None:
            raise AccessDenied("The step works with a link of any service; name one in its link_id.")
        links = Links(self._store, self._vault, company_id)
        own = links.for_user(service, user_id)
        link = _only(own, service)
        if link is not None:
            return link
        shared = links.shared(service)
        link = _only(shared, service)
        if link is not None:
            return link
        # none works: say of the one that could what it takes to mend it
        broken = next(iter([*own, *shared]), None)
        if broken is None:
            raise link_errors.none_connected(service)
        return broken


def _only(links: Sequence[Link], service: str) -> Link | None:
    """The one active link; None where there is none."""
    active = [link for link in links if link.status == "active"]
    if len(active) > 1:
        named = " and ".join(f"{link.id} ({link.account})" for link in active[:2])
        raise Conflict(
            f"Several {service} links could be meant: {named}. Name one in the step's link_id.",
            path="link_id",
            service=service,
        )
    return active[0] if active else None
