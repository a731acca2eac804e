"""What a module needs to be connected before it can run: declared, never taken as an argument."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Link:
    """A user's OAuth2 grant at `service`, with at least `scopes`. `service=None` takes a link of any provider, and only
    where the step names it by `link_id`. An `optional` one is left out where there is none."""

    service: str | None
    scopes: AbstractSet[str] = frozenset()
    optional: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "scopes", frozenset(self.scopes))  # authors write {"chat:write"}

    def describe(self) -> dict[str, Any]:
        """The need as the catalogue shows it."""
        return {"link": self.service or "any", "scopes": sorted(self.scopes), "optional": self.optional}


@dataclass(frozen=True)
class Component:
    """A company's configuration of `kind` (storage, request, email, ...), where given of one `provider` (s3)."""

    kind: str
    provider: str | None = None
    optional: bool = False

    def describe(self) -> dict[str, Any]:
        """The need as the catalogue shows it."""
        return {"component": self.kind, "provider": self.provider, "optional": self.optional}


@dataclass(frozen=True, init=False)
class OneOf:
    """Alternatives: the one that the step names; where it names none, the first that resolves, unless `optional`."""

    alternatives: tuple[Link | Component, ...]
    optional: bool = False

    def __init__(self, *alternatives: Link | Component, optional: bool = False) -> None:
        object.__setattr__(self, "alternatives", alternatives)
        object.__setattr__(self, "optional", optional)

    def describe(self) -> dict[str, Any]:
        """The need as the catalogue shows it."""
        return {"one_of": [need.describe() for need in self.alternatives], "optional": self.optional}


Need = Link | Component | OneOf


def as_needs(declared: Need | tuple[Need, ...] | None) -> tuple[Need, ...]:
    """A declaration as the tuple of everything that must be there."""
    if declared is None:
        return ()
    return declared if isinstance(declared, tuple) else (declared,)
