"""Which flows will break when links are revoked: what a person wants to know before, and nothing is done by asking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from credentials.link import Link as AnyLink
from flow8_core.errors import Flow8Error
from flow8_modules.needs import Link, Need, OneOf
from flow8_runtime.definition import Step
from flow8_runtime.latest_flows import latest_flows
from flow8_runtime.platform import Platform
from flow8_runtime.step_needs import step_needs


@dataclass(frozen=True)
class Broken:
    """A flow's latest version and its steps that will get `access_denied`."""

    name: str
    steps: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """As answers show it."""
        return {"name": self.name, "steps": list(self.steps)}


class Breakage:
    """Looks at all flows of one company that were ever started."""

    def __init__(self, platform: Platform, company_id: ObjectId) -> None:
        self._platform = platform
        self._company_id = company_id

    def flows(self, links: Sequence[AnyLink]) -> list[Broken]:
        """The flows that break without these links, by name.

        A step breaks that names one of them; and one that names none, where an owner of theirs would have no other
        link of the service that it could take: it breaks when that user runs it. Of a flow's versions the latest
        counts.
        """
        gone = {str(link.id) for link in links}
        orphaned = {link.service for link in links if self._none_left(link, gone)}
        found = []
        for name, flow in latest_flows(self._platform.store, self._company_id):
            steps = tuple(step.name for step in flow.steps if self._breaks(step, gone, orphaned))
            if steps:
                found.append(Broken(name, steps))
        return sorted(found, key=lambda broken: broken.name)

    def _none_left(self, lost: AnyLink, gone: set[str]) -> bool:
        """Whether those who use a link without naming it have no other one."""
        for link in self._platform.links(self._company_id).list(service=lost.service):
            stays = str(link.id) not in gone and link.status != "revoked"
            if stays and (link.document.get("shared") or link.user_id == lost.user_id):
                return False
        return True

    def _breaks(self, step: Step, gone: set[str], orphaned: set[str]) -> bool:
        if step.link_id is not None:
            return step.link_id in gone
        try:
            needs = step_needs(self._platform.catalogue.get(step.module_ref), step.input_mapping)
        except Flow8Error:
            return False  # a module that is there no more breaks the step anyway
        return any(_lost(need, step, orphaned) for need in needs)


def _lost(need: Need, step: Step, orphaned: set[str]) -> bool:
    """Whether a step without a named link loses what it needs. One of several that it could take is no loss while a
    component may serve."""
    if isinstance(need, OneOf):
        if need.optional or any(not isinstance(one, Link) for one in need.alternatives):
            return False
        return all(_lost(one, step, orphaned) for one in need.alternatives)
    return isinstance(need, Link) and not need.optional and need.service in orphaned
