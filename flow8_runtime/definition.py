"""Flow definitions: what an author writes, checked as a whole, and what the runtime goes by.

`{name, steps: [{name, module_ref, order, input_mapping, component_config_ids, filters, timeout, retry, on_error,
on_unknown, defer_after_ms, queue, priority}], priority}`. Steps of equal `order` run in parallel as one group, groups
in ascending order. Without `order` in any step, the steps run in the order in which they stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from flow8_core.errors import NotFound
from flow8_runtime import notation
from flow8_runtime.filters import FilterGroup
from flow8_runtime.states import LEVELS

DEFAULT_TIMEOUT_S = 300.0
DEFAULT_QUEUE = "default"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failed attempt is repeated, and when. The default repeats nothing, as flow8's unset policy does.

    The n-th repetition waits `initial_delay_ms * backoff_multiplier ** (n - 1)`, at most `max_delay_ms`, give or take
    `jitter_fraction` of it.
    """

    max_retries: int = 0
    initial_delay_ms: int = 1000
    max_delay_ms: int = 60_000
    backoff_multiplier: float = 2.0
    jitter_fraction: float = 0.2


@dataclass(frozen=True, slots=True)
class Step:
    """One module call. `input_mapping` is without `link_id`; texts in both may be expressions."""

    name: str
    module_ref: str
    order: int
    input_mapping: Mapping[str, Any]
    link_id: str | None = None
    component_config_ids: Mapping[str, str] = field(default_factory=dict)
    filters: FilterGroup | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    retry: RetryPolicy = RetryPolicy()
    on_error: Literal["fail", "continue", "skip"] = "fail"
    on_unknown: Literal["fail", "retry"] = "fail"
    defer_after_ms: int = 0
    queue: str = DEFAULT_QUEUE
    priority: Literal["high", "normal", "low"] = "normal"

    @property
    def level(self) -> int:
        """The priority as a number; what has a lower one goes first."""
        return LEVELS[self.priority]

    @property
    def credential_hint(self) -> str | None:
        """The credential where the definition alone tells: "link:<id>" or "component:<id>"."""
        if self.link_id is not None:
            return None if "{{" in self.link_id else f"link:{self.link_id}"
        named = next(iter(self.component_config_ids.values()), None)
        return None if named is None or "{{" in named else f"component:{named}"


@dataclass(frozen=True)
class Flow:
    """A checked definition. Immutable; one may be shared by all threads of a process."""

    name: str
    steps: tuple[Step, ...]

    @classmethod
    def parse(cls, document: Any, *, previous: tuple[str, ...] = ()) -> Flow:
        """Check a definition, in either of flow8's spellings.

        `previous` names steps outside of this definition whose outputs its expressions may use. Raises
        `ValidationFailed` with all faults and their JSON paths at once.
        """
        from flow8_runtime.reading import FlowReader  # it builds these classes

        return FlowReader(previous).flow(document)

    @classmethod
    def load(cls, path: Path) -> Flow:
        """Read a file: JSON or YAML by its name, else by how its text begins. Raises `ValidationFailed`, `NotFound`."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise NotFound(f"The flow {path.name} cannot be read: {error.strerror}.", path=str(path)) from None
        return cls.parse(notation.read(data, form=notation.form_of(path.name)))

    @classmethod
    def stored(cls, text: str) -> Flow:
        """The flow of a canonical text that was checked, with its `previous`, before it was stored."""
        from flow8_runtime.reading import FlowReader

        return FlowReader(None).flow(notation.loads(text))

    def step(self, name: str) -> Step:
        """The step of this name. Raises `NotFound`."""
        try:
            return self.by_name[name]
        except KeyError:
            raise NotFound(f"The flow {self.name} has no step of this name.", path="step") from None

    @cached_property
    def by_name(self) -> Mapping[str, Step]:
        """The steps by their names."""
        return {step.name: step for step in self.steps}

    @cached_property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The names of the steps that run together, in the order in which the groups run."""
        groups: dict[int, list[str]] = {}
        for step in self.steps:
            groups.setdefault(step.order, []).append(step.name)
        return tuple(tuple(groups[order]) for order in sorted(groups))

    def document(self) -> dict[str, Any]:
        """The definition in canonical spelling, every default said: equal for flows that mean the same."""
        return {"name": self.name, "steps": [_step_document(step) for step in self.steps]}

    @cached_property
    def text(self) -> str:
        """The canonical JSON text of the definition."""
        return notation.canonical(self.document())

    def digest(self) -> str:
        """64 hexadecimal digits: SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def _step_document(step: Step) -> dict[str, Any]:
    mapping = dict(step.input_mapping)
    if step.link_id is not None:
        mapping["link_id"] = step.link_id
    document: dict[str, Any] = {
        "name": step.name,
        "module_ref": step.module_ref,
        "order": step.order,
        "input_mapping": mapping,
        "component_config_ids": dict(step.component_config_ids),
        "timeout": step.timeout_s,
        "retry": {
            "max_retries": step.retry.max_retries,
            "initial_delay_ms": step.retry.initial_delay_ms,
            "max_delay_ms": step.retry.max_delay_ms,
            "backoff_multiplier": step.retry.backoff_multiplier,
            "jitter_fraction": step.retry.jitter_fraction,
        },
        "on_error": step.on_error,
        "on_unknown": step.on_unknown,
        "defer_after_ms": step.defer_after_ms,
        "queue": step.queue,
        "priority": step.priority,
    }
    if step.filters is not None:
        filters = [{"expression": each.expression, "value": each.value} for each in step.filters.filters]
        document["filters"] = {"operator": step.filters.operator, "filters": filters}
    return document
