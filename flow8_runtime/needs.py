"""Resolves what a module needs into credentials: just before the call, and nothing before that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bson import ObjectId

from credentials.components import Component as ComponentConfig
from credentials.resolver import LinkAccess, Resolver
from flow8_core.clock import Deadline
from flow8_core.errors import AccessDenied
from flow8_modules.needs import Component, Link, Need, OneOf


@dataclass
class Credentials:
    """What a step's needs came to: at most one link, and components by kind.

    `defaults` are the kinds that are there as the company's default, not because the step names them.
    """

    link: LinkAccess | None = None
    components: dict[str, ComponentConfig] = field(default_factory=dict)
    defaults: set[str] = field(default_factory=set)

    @property
    def name(self) -> str | None:
        """The credential as throttles and fairness know it: "link:<id>" or "component:<id>"."""
        if self.link is not None:
            return self.link.credential
        for component in self.components.values():
            return f"component:{component.id}"
        return None

    @property
    def config(self) -> Mapping[str, Any] | None:
        """The configuration of the component, where there is one."""
        for component in self.components.values():
            return component.config
        return None


class Request(NamedTuple):
    """Whose credentials, and which of them the step names. Who is not `patient` gets no link that has to be refreshed
    first, but `NotReady`."""

    company_id: ObjectId
    user_id: ObjectId
    link_id: str | None
    component_ids: Mapping[str, str]
    deadline: Deadline
    patient: bool = True


def resolve_needs(needs: tuple[Need, ...], request: Request, resolver: Resolver) -> Credentials:
    """Credentials for all needs. Raises the resolver's errors: `AccessDenied` says what to connect or add, a link that
    needs reconnecting is `InvalidGrant` with its `link_id`."""
    found = Credentials()
    for need in needs:
        _resolve(need, request, resolver, found)
    return found


def _resolve(need: Need, request: Request, resolver: Resolver, found: Credentials) -> None:
    if isinstance(need, OneOf):
        _resolve_one_of(need, request, resolver, found)
    elif _named(need, request):
        _take(need, request, resolver, found)
    elif need.optional:
        _try(need, request, resolver, found)
    else:
        _take(need, request, resolver, found)


def _resolve_one_of(need: OneOf, request: Request, resolver: Resolver, found: Credentials) -> None:
    """The alternative that the step names; where it names none, the first that resolves."""
    for alternative in need.alternatives:
        if _named(alternative, request):
            _take(alternative, request, resolver, found)
            return
    if any(_try(alternative, request, resolver, found) for alternative in need.alternatives):
        return
    if not need.optional:
        kinds = " or ".join(words(alternative) for alternative in need.alternatives)
        raise AccessDenied(f"This step needs {kinds}; connect or add one, or name one in the step.")


def _named(need: Link | Component, request: Request) -> bool:
    return request.link_id is not None if isinstance(need, Link) else need.kind in request.component_ids


def _try(need: Link | Component, request: Request, resolver: Resolver, found: Credentials) -> bool:
    """Take it where it is there. A link of any service is used only where the step names it."""
    if isinstance(need, Link) and need.service is None:
        return False
    try:
        _take(need, request, resolver, found)
    except AccessDenied:
        return False
    return True


def _take(need: Link | Component, request: Request, resolver: Resolver, found: Credentials) -> None:
    if isinstance(need, Link):
        found.link = resolver.link(
            company_id=request.company_id,
            user_id=request.user_id,
            service=need.service,
            link_id=request.link_id,
            scopes=frozenset(need.scopes),
            deadline=request.deadline,
            patient=request.patient,
        )
        return
    component_id = request.component_ids.get(need.kind)
    found.components[need.kind] = resolver.component(
        company_id=request.company_id, kind=need.kind, component_id=component_id, provider=need.provider
    )
    if component_id is None:
        found.defaults.add(need.kind)


def words(need: Link | Component) -> str:
    """A need as messages name it."""
    return f"a link to {need.service or 'a service'}" if isinstance(need, Link) else f"a component of kind {need.kind}"
