"""flow8's two spellings of a flow, made one. Nothing else in this code base knows that there are two.

The technical pages and the seed write `module_ref`, `input_mapping`, `name`, `retry: {max_retries, ...}`; the developer
pages write `appId`, `args`, `ref`, `retry: {count, delayMs, backoffMultiplier, jitter}`, camel case, and filters with
`leftValue`, `operator: eq`, `rightValue`. The first is canonical.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

FLOW = {"flowlets": "steps"}
STEP = {
    "ref": "name",
    "appId": "module_ref",
    "moduleRef": "module_ref",
    "args": "input_mapping",
    "inputMapping": "input_mapping",
    "componentConfigIds": "component_config_ids",
    "onError": "on_error",
    "onUnknown": "on_unknown",
    "deferAfterMs": "defer_after_ms",
}
RETRY = {
    "count": "max_retries",
    "maxRetries": "max_retries",
    "delayMs": "initial_delay_ms",
    "initialDelayMs": "initial_delay_ms",
    "maxDelayMs": "max_delay_ms",
    "backoffMultiplier": "backoff_multiplier",
    "jitter": "jitter_fraction",
    "jitterFraction": "jitter_fraction",
}
FILTER = {"leftValue": "expression", "rightValue": "value"}

JITTER_TRUE = 0.2  # flow8: "jitter true multiplies each delay by 0.8-1.2"


@dataclass(frozen=True)
class Spelled:
    """An object in canonical spelling, and how its author spelled each of its keys."""

    values: Mapping[str, Any]
    spelling: Mapping[str, str]
    twice: tuple[str, ...]  # keys that say again what another one has said

    def written(self, key: str) -> str:
        """The author's own word for a canonical key, for messages."""
        return self.spelling.get(key, key)


def respell(given: Mapping[str, Any], names: Mapping[str, str]) -> Spelled:
    """The object with its keys in canonical spelling."""
    values: dict[str, Any] = {}
    spelling: dict[str, str] = {}
    twice: list[str] = []
    for key, value in given.items():
        name = names.get(key, key)
        if name in values:
            twice.append(key)
        else:
            values[name] = value
            spelling[name] = key
    return Spelled(values, spelling, tuple(twice))


def with_fraction(retry: Spelled) -> Spelled:
    """A retry policy whose `jitter: true` is a fraction."""
    value = retry.values.get("jitter_fraction")
    if not isinstance(value, bool):
        return retry
    return replace(retry, values={**retry.values, "jitter_fraction": JITTER_TRUE if value else 0.0})


def without_equals(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A developer-page filter without its `operator: eq`, the only one there is."""
    if "leftValue" in given and given.get("operator") in ("eq", "=="):
        return {key: value for key, value in given.items() if key != "operator"}
    return given
