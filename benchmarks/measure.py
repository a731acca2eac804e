"""Paired measurements: ours and what stands beside it take turns, so that a machine that slows down slows both."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

Run = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One line of a table: two figures, what they come to, and what that should be."""

    name: str
    ours: str
    theirs: str
    result: str
    aim: str
    met: bool


@dataclass(frozen=True)
class Size:
    """How much is run: rounds of each pair, steps in each burst, steps that the engine drains at a time, and how many
    lie in the ledger at most."""

    rounds: int
    steps: int
    drained: int
    ledger: int


def paired(rounds: int, ours: Run, theirs: Run, *, warm: int = 1) -> tuple[float, float]:
    """The medians of both, `rounds` of each in turn; `warm` rounds before them do not count."""
    for _ in range(warm):
        ours(), theirs()
    runs = [(ours(), theirs()) for _ in range(rounds)]
    return statistics.median(mine for mine, _ in runs), statistics.median(other for _, other in runs)


def alternating(rounds: int, *runs: Run, warm: int = 1) -> list[float]:
    """The medians of all of these, `rounds` of each in turn; `warm` rounds before them do not count."""
    figures = [[run() for run in runs] for _ in range(warm + rounds)][warm:]
    return [statistics.median(column) for column in zip(*figures, strict=True)]


def faster(name: str, figures: tuple[str, str], ratio: float, *, aim: float) -> Row:
    """A row that says how many times faster ours is."""
    return Row(name, *figures, f"{ratio:.1f}x", f"at least {aim:g}x", ratio >= aim)


def below(name: str, seconds: tuple[float, float], *, aim: float) -> Row:
    """A row whose own figure matters, in seconds; the other one is there to compare."""
    ours, theirs = seconds
    return Row(name, millis(ours), millis(theirs), f"{theirs / ours:.1f}x", f"under {aim * 1000:g} ms", ours < aim)


def millis(seconds: float) -> str:
    """Seconds as milliseconds, for people."""
    return f"{seconds * 1000:.2f} ms"
