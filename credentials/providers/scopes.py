"""How one service writes, shortens and compares its scopes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_SEPARATORS = re.compile(r"[\s,]+")


@dataclass(frozen=True, kw_only=True)
class ScopeRules:
    """A service's habits.

    `separator` joins scopes in requests; replies are split at commas and white space alike. `aliases` maps short names
    that flows use to the real ones, which begin with `home` where they are bare. A scope that begins with one of
    `prefixes` is kept without it. `reserved` scopes concern sign-in alone: they may be missing from the granted ones
    and are never required. Where the API's host is one of `qualified_at` (sovereign clouds), requests write the scopes
    with that origin in front.

    `implies` says which others a scope holds as well, `implied_endings` the same by how they end. Where permissions
    belong to the application, not to the grant (`fixed`), none are asked for, and what nobody has said is not missing.
    """

    separator: str = " "
    aliases: Mapping[str, str] = field(default_factory=dict)
    home: str = ""
    prefixes: tuple[str, ...] = ()
    ignore_case: bool = False
    reserved: frozenset[str] = frozenset()
    qualified_at: frozenset[str] = frozenset()
    implies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    implied_endings: Mapping[str, str] = field(default_factory=dict)
    fixed: bool = False

    def normal(self, scope: str) -> str:
        """The one spelling under which a scope is kept and compared."""
        scope = self.aliases.get(scope, scope)
        for prefix in self.prefixes:
            if scope.startswith(prefix):
                return scope[len(prefix) :]
        return scope if ":" in scope or scope in self.reserved else self.home + scope

    def listed(self, value: Any) -> tuple[str, ...] | None:
        """A reply's `scope` (text or list) as normal scopes, in order, each once; None where it says nothing."""
        if isinstance(value, str):
            parts = [part for part in _SEPARATORS.split(value) if part]
        elif isinstance(value, list):
            parts = [part for part in value if isinstance(part, str) and part]
        else:
            return None
        return tuple(dict.fromkeys(map(self.normal, parts))) or None

    def union(self, *groups: Iterable[str]) -> tuple[str, ...]:
        """All scopes of all groups, normal, in order, each once."""
        return tuple(dict.fromkeys(self.normal(scope) for group in groups for scope in group))

    def written(self, scopes: Iterable[str], base_url: str) -> list[str]:
        """The scopes as a request to the service behind `base_url` writes them; none where they are `fixed`."""
        if self.fixed:
            return []
        origin = urlsplit(base_url)
        if origin.hostname not in self.qualified_at:
            return list(scopes)
        return [s if "://" in s or s in self.reserved else f"https://{origin.netloc}/{s}" for s in scopes]

    def missing(self, needed: Iterable[str], granted: Iterable[str]) -> tuple[str, ...]:
        """Which of the needed scopes are not granted, sorted."""
        granted = tuple(granted)
        if self.fixed and not granted:
            return ()
        have = {self._key(scope) for scope in (*self._with_implied(granted), *self.reserved)}
        return tuple(sorted(scope for scope in map(self.normal, needed) if self._key(scope) not in have))

    def _with_implied(self, granted: Iterable[str]) -> Iterator[str]:
        """The scopes, and those that they hold as well."""
        for scope in map(self.normal, granted):
            yield scope
            yield from self.implies.get(scope, ())
            for ending, implied in self.implied_endings.items():
                if scope.endswith(ending):
                    yield scope.removesuffix(ending) + implied

    def _key(self, scope: str) -> str:
        normal = self.normal(scope)
        return normal.casefold() if self.ignore_case else normal
