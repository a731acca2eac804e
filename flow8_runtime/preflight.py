"""Looks at a flow before it runs: every fault at once, each with its path, and no vendor is called.

Module refs, inputs against their schemas, links and components there, scopes enough.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from credentials.links import Link as StoredLink
from credentials.resolver import Resolver
from flow8_core.errors import Flow8Error, ValidationFailed
from flow8_modules.catalogue import AnyModule, Catalogue
from flow8_modules.needs import Component, Link, Need, OneOf, as_needs
from flow8_runtime.definition import Flow, Step

_EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)


@dataclass(frozen=True)
class Problem:
    """One fault: where (JSON path in the flow), what kind (an error code), and what to do."""

    path: str
    code: str
    message: str

    def to_dict(self) -> dict[str, str]:
        return {"path": self.path, "code": self.code, "message": self.message}


class Preflight:
    """Checks flows for one company and the user that would run them."""

    def __init__(self, catalogue: Catalogue, resolver: Resolver, *, company_id: ObjectId, user_id: ObjectId) -> None:
        self._catalogue = catalogue
        self._resolver = resolver
        self._company_id = company_id
        self._user_id = user_id

    def check(self, flow: Flow) -> list[Problem]:
        """All problems of a flow; an empty list says that nothing is known that would stop it."""
        return [problem for index, step in enumerate(flow.steps) for problem in self._step(step, f"steps[{index}]")]

    def scopes(self, flow: Flow) -> dict[str, frozenset[str]]:
        """What the flow's links must be allowed to do: scopes by service, for `connect.begin`."""
        wanted: dict[str, frozenset[str]] = {}
        for step in flow.steps:
            for need in _needs(self._catalogue.get(step.module_ref), None):
                if isinstance(need, Link) and need.service:
                    wanted[need.service] = wanted.get(need.service, frozenset()) | frozenset(need.scopes)
        return wanted

    def _step(self, step: Step, path: str) -> list[Problem]:
        try:
            module = self._catalogue.get(step.module_ref)
        except ValidationFailed as error:
            return [Problem(f"{path}.module_ref", error.code, error.message)]
        inputs, problems = _inputs(module, step, path)
        for need in _needs(module, inputs):
            problems += self._need(need, step, path)
        return problems

    def _need(self, need: Need, step: Step, path: str) -> list[Problem]:
        if isinstance(need, OneOf):
            found = [self._need(alternative, step, path) for alternative in _named(need, step) or need.alternatives]
            return [] if need.optional and not _named(need, step) else min(found, key=len, default=[])
        if need.optional and not _named(OneOf(need), step):
            return []
        return self._link(need, step, path) if isinstance(need, Link) else self._component(need, step, path)

    def _link(self, need: Link, step: Step, path: str) -> list[Problem]:
        where = f"{path}.input_mapping.link_id"
        if step.link_id and _EXPRESSION.search(step.link_id):
            return []
        try:
            link = self._resolver.choose(
                company_id=self._company_id, user_id=self._user_id, service=need.service, link_id=step.link_id
            )
        except Flow8Error as error:
            return [Problem(where, error.code, error.message)]
        return _link_problems(link, need, where)

    def _component(self, need: Component, step: Step, path: str) -> list[Problem]:
        component_id = step.component_config_ids.get(need.kind)
        if component_id and _EXPRESSION.search(component_id):
            return []
        try:
            self._resolver.component(
                company_id=self._company_id, kind=need.kind, component_id=component_id, provider=need.provider
            )
        except Flow8Error as error:
            return [Problem(f"{path}.component_config_ids.{need.kind}", error.code, error.message)]
        return []


def _needs(module: AnyModule, inputs: Any | None) -> tuple[Need, ...]:
    """What the call needs; where the input is not known yet, what can be said without it."""
    if inputs is not None:
        return module.needs_of(inputs)
    return () if callable(module.needs) else as_needs(module.needs)


def _named(need: OneOf, step: Step) -> list[Link | Component]:
    return [
        alternative
        for alternative in need.alternatives
        if (step.link_id if isinstance(alternative, Link) else alternative.kind in step.component_config_ids)
    ]


def _link_problems(link: StoredLink, need: Link, path: str) -> list[Problem]:
    if link.status != "active":
        reason = f" ({link.status_reason})" if link.status_reason else ""
        return [Problem(path, "invalid_grant", f"The link to {link.service} is {link.status}{reason}; reconnect it.")]
    missing = sorted(frozenset(need.scopes) - link.scopes)
    if missing:
        return [Problem(path, "insufficient_scope", f"Reconnect {link.service} and allow: {', '.join(missing)}.")]
    return []


def _inputs(module: AnyModule, step: Step, path: str) -> tuple[Any | None, list[Problem]]:
    """The parsed input where it holds no expressions, and what is wrong with what can be judged now."""
    open_paths = [f"input_mapping{place}" for place in _expression_places(step.input_mapping, "")]
    try:
        return module.parse(step.input_mapping), []
    except ValidationFailed as error:
        problems = [
            Problem(f"{path}.{place}", error.code, message)
            for place, message in error.problems
            if not any(_touches(place, open_path) for open_path in open_paths)
        ]
        return None, problems


def _expression_places(value: Any, path: str) -> list[str]:
    if isinstance(value, str):
        return [path] if _EXPRESSION.search(value) else []
    if isinstance(value, Mapping):
        return [place for key, item in value.items() for place in _expression_places(item, f"{path}.{key}")]
    if isinstance(value, list | tuple):
        return [place for index, item in enumerate(value) for place in _expression_places(item, f"{path}[{index}]")]
    return []


def _touches(place: str, open_path: str) -> bool:
    """A fault at, above or below a value that is only known at run time cannot be judged now."""
    return (
        place == open_path
        or place.startswith((open_path + ".", open_path + "["))
        or open_path.startswith((place + ".", place + "["))
    )
