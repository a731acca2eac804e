"""What steps need, as far as their definition tells: before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from flow8_core.errors import ValidationFailed
from flow8_modules.catalogue import AnyModule, Catalogue
from flow8_modules.needs import Component, Link, Need, OneOf, as_needs
from flow8_runtime.definition import Step


def step_needs(module: AnyModule, mapping: Mapping[str, Any]) -> tuple[Need, ...]:
    """What the call needs. Where that depends on inputs which are not known yet, or are at fault: what it would with
    the expressions' text in their place, else what the module's example does."""
    if not callable(module.needs):
        return as_needs(module.needs)
    for inputs in (mapping, module.example()["args"]):
        with suppress(ValidationFailed):
            return module.needs_of(module.parse(inputs))
    return ()


def singly(needs: Iterable[Need]) -> Iterator[Link | Component]:
    """All that may be needed, alternatives one by one."""
    for need in needs:
        yield from need.alternatives if isinstance(need, OneOf) else (need,)


def scopes_of(steps: Iterable[Step], catalogue: Catalogue) -> dict[str, frozenset[str]]:
    """What these steps' links must be allowed to do: scopes by service. Raises what `Catalogue.get` raises for a module
    that is not there."""
    wanted: dict[str, frozenset[str]] = {}
    for step in steps:
        for link in singly(step_needs(catalogue.get(step.module_ref), step.input_mapping)):
            if isinstance(link, Link) and link.service:
                wanted[link.service] = wanted.get(link.service, frozenset()) | link.scopes
    return wanted
