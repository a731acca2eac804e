"""What a search has seen: its states, how each was come by first, and from which of them an end can be reached."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass
class Graph:
    """States by their keys, numbered as they were found, from 0 for the first. A move is what must be possible sooner
    or later; other events are mishaps."""

    first: Hashable
    _numbers: dict[Hashable, int] = field(default_factory=dict)
    _came_from: list[tuple[int, str]] = field(default_factory=list)
    _before: list[list[int]] = field(default_factory=list)  # from which states a move leads to this one
    _ends: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.add(0, self.first, "", is_move=False)

    def add(self, number: int, key: Hashable, event: str, *, is_move: bool) -> int | None:
        """An event leads from a state to the one with this key. Its number, where it is new."""
        new = len(self._numbers)
        found = self._numbers.setdefault(key, new)
        if found == new:
            self._came_from.append((number, event))
            self._before.append([])
        if is_move:
            self._before[found].append(number)
        return found if found == new else None

    def ends(self, number: int) -> None:
        """This state is an end."""
        self._ends.append(number)

    def stuck(self) -> int | None:
        """The first state from which no moves lead to an end, if there is one."""
        reached = [False] * len(self._before)
        left = list(self._ends)
        while left:
            number = left.pop()
            if not reached[number]:
                reached[number] = True
                left += self._before[number]
        return next((number for number, is_reached in enumerate(reached) if not is_reached), None)

    def path(self, number: int) -> list[str]:
        """The events that led to a state by the shortest way."""
        events: list[str] = []
        while number:
            number, event = self._came_from[number]
            events.append(event)
        return events[::-1]
