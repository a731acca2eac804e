"""`Headers`: what an answer says of itself."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping
from typing import Any


class Headers(Mapping[str, str]):
    """Names ignore case in look-ups and are listed as the server wrote them; those that came more than once are joined
    by ", " (RFC 9110 section 5.3)."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        self._fields: dict[str, tuple[str, str]] = {}
        for name, value in fields:
            key = name.lower()
            before = self._fields.get(key)
            self._fields[key] = (name, value) if before is None else (before[0], f"{before[1]}, {value}")

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()][1]

    def get(self, name: str, default: Any = None) -> Any:
        found = self._fields.get(name.lower())  # told without an exception: most headers that are asked for are absent
        return default if found is None else found[1]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._fields

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._fields.values())

    def __len__(self) -> int:
        return len(self._fields)

    def items(self) -> ItemsView[str, str]:
        return dict(self._fields.values()).items()

    def without(self, name: str) -> Headers:
        """All but one."""
        return Headers(field for key, field in self._fields.items() if key != name.lower())
