"""Looks at a flow before it runs: every fault at once, each with its path, and no vendor is called.

The definition and its expressions, module refs, inputs against their schemas, links and components there and usable,
scopes enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from credentials import link_errors
from flow8_core.errors import Flow8Error, ValidationFailed
from flow8_modules.catalogue import AnyModule
from flow8_modules.needs import Component, Link, Need, OneOf
from flow8_runtime import notation
from flow8_runtime.definition import Step
from flow8_runtime.latest_flows import latest_flows
from flow8_runtime.needs import words
from flow8_runtime.platform import Platform
from flow8_runtime.reading import FlowReader, Placed
from flow8_runtime.step_needs import scopes_of, singly, step_needs

ROOT = "input_mapping"
_STEP = re.compile(r"steps\[(\d+)\]")
_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]{0,63}")


@dataclass(frozen=True)
class Problem:
    """One fault: where (JSON path in the flow), what kind (an error code), and what to do."""

    path: str
    code: str
    message: str

    def to_dict(self) -> dict[str, str]:
        """As answers show it."""
        return {"path": self.path, "code": self.code, "message": self.message}


class Preflight:
    """Checks flows for one company and the user that would run them."""

    def __init__(self, platform: Platform, *, company_id: ObjectId, user_id: ObjectId) -> None:
        self._platform = platform
        self._company_id = company_id
        self._user_id = user_id

    def check_text(self, text: bytes | str, *, form: notation.Form | None = None) -> list[Problem]:
        """As `check`, of a flow's JSON or YAML text."""
        try:
            return self.check(notation.read(text, form=form))
        except ValidationFailed as error:
            return [Problem(path, error.code, message) for path, message in error.problems]

    def check(self, document: Any) -> list[Problem]:
        """All problems of a definition; an empty list says that nothing is known that would stop it."""
        draft = FlowReader().draft(document)
        found = [Problem(path, ValidationFailed.code, message) for path, message in draft.problems]
        said = tuple(problem.path for problem in found)
        for placed in draft.steps:
            found += [problem for problem in self._step(placed) if not _is_within(problem.path, said)]
        return sorted(found, key=_step_index)

    def scopes(self, document: Any) -> dict[str, frozenset[str]]:
        """What the definition's links must be allowed to do: scopes by service, for `connect.begin`."""
        return scopes_of(FlowReader().flow(document).steps, self._platform.catalogue)

    def company_scopes(self, service: str) -> frozenset[str]:
        """What all of the company's flows need of a service, as they were last started. One whose modules are there no
        more needs nothing."""
        wanted: frozenset[str] = frozenset()
        for _, flow in latest_flows(self._platform.store, self._company_id):
            with suppress(Flow8Error):
                wanted |= scopes_of(flow.steps, self._platform.catalogue).get(service, frozenset())
        return wanted

    def _step(self, placed: Placed) -> Iterator[Problem]:
        try:
            module = self._platform.catalogue.get(placed.step.module_ref)
        except Flow8Error as error:
            yield Problem(placed.at("module_ref"), error.code, error.message)
            return
        yield from _input_problems(module, placed)
        needs = step_needs(module, placed.step.input_mapping)
        for need in needs:
            yield from self._need(need, placed)
        yield from _idle_credentials(needs, placed)

    def _need(self, need: Need, placed: Placed) -> Iterator[Problem]:
        if isinstance(need, OneOf):
            yield from self._one_of(need, placed)
        elif not need.optional or _names(placed.step, need):
            yield from self._link(need, placed) if isinstance(need, Link) else self._component(need, placed)

    def _one_of(self, need: OneOf, placed: Placed) -> Iterator[Problem]:
        """As `flow8_runtime.needs` chooses: the alternative that the step names, else the first that is there."""
        named = [alternative for alternative in need.alternatives if _names(placed.step, alternative)]
        if named:
            yield from self._need(named[0], placed)
        elif not need.optional and all(any(self._need(each, placed)) for each in need.alternatives):
            choice = " or ".join(words(alternative) for alternative in need.alternatives)
            message = f"This step needs {choice}; connect or add one, or name one in the step."
            yield Problem(placed.path, "access_denied", message)

    def _link(self, need: Link, placed: Placed) -> Iterator[Problem]:
        where, link_id = f"{placed.at('input_mapping')}.link_id", placed.step.link_id
        if _is_expression(link_id):
            return
        try:
            link = self._platform.resolver.choose(
                company_id=self._company_id, user_id=self._user_id, service=need.service, link_id=link_id
            )
            provider = self._platform.providers.get(link.service)
            provider.registered()
        except Flow8Error as error:
            yield Problem(where, error.code, error.message)
            return
        if trouble := link_errors.unusable(link):
            yield Problem(where, trouble.code, trouble.message)
        if missing := provider.scopes.missing(need.scopes, link.scopes):
            lack = link_errors.lacks_scopes(link, missing)
            yield Problem(where, lack.code, lack.message)

    def _component(self, need: Component, placed: Placed) -> Iterator[Problem]:
        named = placed.step.component_config_ids.get(need.kind)
        if _is_expression(named):
            return
        try:
            self._platform.resolver.component(
                company_id=self._company_id, kind=need.kind, component_id=named, provider=need.provider
            )
        except Flow8Error as error:
            yield Problem(f"{placed.at('component_config_ids')}.{need.kind}", error.code, error.message)


def _idle_credentials(needs: tuple[Need, ...], placed: Placed) -> Iterator[Problem]:
    """Credentials that the step names and the module never asks for: most likely a typing error, and the step would
    take another one."""
    wanted = list(singly(needs))
    kinds = sorted(each.kind for each in wanted if isinstance(each, Component))
    for kind in placed.step.component_config_ids:
        if kind not in kinds:
            takes = f"takes {' or '.join(kinds)}" if kinds else "takes no component"
            yield Problem(
                f"{placed.at('component_config_ids')}.{kind}",
                ValidationFailed.code,
                f"The module {takes}; leave it out.",
            )
    if placed.step.link_id is not None and not any(isinstance(each, Link) for each in wanted):
        where = f"{placed.at(ROOT)}.link_id"
        yield Problem(where, ValidationFailed.code, "The module takes no link; leave it out.")


def _step_index(problem: Problem) -> int:
    """What concerns the flow as a whole comes first."""
    found = _STEP.match(problem.path)
    return int(found[1]) if found else -1


def _names(step: Step, need: Link | Component) -> bool:
    return step.link_id is not None if isinstance(need, Link) else need.kind in step.component_config_ids


def _is_expression(text: str | None) -> bool:
    return text is not None and "{{" in text


def _input_problems(module: AnyModule, placed: Placed) -> Iterator[Problem]:
    """What is wrong with those inputs that can be judged now."""
    unknown = list(_expressions(placed.step.input_mapping, ROOT))
    try:
        module.parse(placed.step.input_mapping)
    except ValidationFailed as error:
        for place, message in error.problems:
            if not _hangs_on(place, unknown):
                yield Problem(placed.at(ROOT) + place.removeprefix(ROOT), error.code, message)


def _expressions(value: Any, path: str) -> Iterator[str]:
    """Where expressions stand; of what has no plain name, where it is in."""
    if isinstance(value, str):
        if _is_expression(value):
            yield path
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _expressions(item, f"{path}.{key}" if _PLAIN_NAME.fullmatch(key) else path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _expressions(item, f"{path}[{index}]")


def _hangs_on(place: str, unknown: Iterable[str]) -> bool:
    """Whether a fault is at, above or below a value that is only known at run time."""
    return any(_is_within(place, (each,)) or _is_within(each, (place,)) for each in unknown)


def _is_within(place: str, others: Iterable[str]) -> bool:
    return any(place == other or place.startswith((f"{other}.", f"{other}[")) for other in others)
