"""Knows the secrets that this process has seen, and takes them out of text.

Two layers, each enough for its part: *values* that were registered (`Secret` does so by itself), in the forms in which
libraries write them (raw, URL-quoted, JSON-escaped, base64 at any alignment), and *rules* for what looks like a secret
whether or not it is known. Registering is cheap, for it happens at every step; the forms are worked out when a record
is really written.

Lessons from Airflow's masker: an empty or short value masks everything (hence `MIN_LENGTH`), a registry without bound
grows for ever, and a fault in the masker must not show the original (that is `flow8_core.logging`'s part).
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

from flow8_core.redaction_rules import MASK, RULES

MIN_LENGTH = 6  # shorter values would mask ordinary words
PART = 20  # a secret that was cut off after this many characters is still recognised
LIMIT = 2048  # secrets per generation
LIMIT_CHARS = 1 << 20  # characters per generation: Microsoft's tokens have 2 KiB, and forms take four times that
MAX_AGE_S = 6 * 3600.0


class Registry:
    """Secret values, in two generations: one that is registered again moves to the young one. What was not seen for
    `max_age_s` / 2 to `max_age_s` seconds, or lies under too many newer ones, is forgotten."""

    def __init__(
        self,
        *,
        limit: int = LIMIT,
        limit_chars: int = LIMIT_CHARS,
        max_age_s: float = MAX_AGE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._limit_chars = limit_chars
        self._half_age = max_age_s / 2
        self._monotonic = monotonic
        self._lock = threading.RLock()  # a signal handler may log while this very thread registers
        self._kept: set[str] = set()
        self._old: set[str] = set()
        self._young: set[str] = set()
        self._young_chars = 0
        self._young_since = monotonic()
        self._pending: list[str] = []
        self._index = _Index()

    def register(self, text: str, *, keep: bool = False) -> None:
        """Remember a secret; `keep` for one that lives as long as the process, such as a key from the environment."""
        if text in self._young or len(text) < MIN_LENGTH or text in self._kept:
            return
        with self._lock:
            if keep:
                self._kept.add(text)
            else:
                if len(self._young) >= self._limit or self._young_chars >= self._limit_chars:
                    self._next_generation()
                self._young.add(text)
                self._young_chars += len(text)
            if text not in self._old:
                self._pending.append(text)

    def scrub(self, text: str) -> str:
        """The text with every known secret, in any of its forms, replaced by `[secret]`."""
        with self._lock:
            if self._monotonic() - self._young_since > self._half_age:
                self._next_generation()
            for secret in self._pending:
                self._index.add(forms(secret))
            self._pending.clear()
            return _masked(text, self._index.spans(text))

    def after_fork(self) -> None:
        """In a child: another thread of the parent may have held the lock at the fork."""
        self._lock = threading.RLock()

    def _next_generation(self) -> None:
        self._old, self._young = self._young, set()
        self._young_chars = 0
        self._young_since = self._monotonic()
        self._index = _Index()
        self._pending = [*self._kept, *self._old]


class _Index:
    """Finds forms in a text at one dictionary look-up a character, however many forms there are."""

    def __init__(self) -> None:
        self._short: dict[str, set[str]] = {}  # first MIN_LENGTH characters -> forms of up to PART characters
        self._long: dict[str, list[str]] = {}  # first PART characters -> longer forms, sorted

    def add(self, found: set[str]) -> None:
        for form in found:
            bucket = self._short.setdefault(form[:MIN_LENGTH], set())
            if len(form) <= PART:
                bucket.add(form)
                continue
            row = self._long.setdefault(form[:PART], [])
            at = bisect_left(row, form)
            if row[at : at + 1] != [form]:
                row.insert(at, form)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where secrets lie, as (start, end), by start."""
        heads = self._short
        starts = [i for i in range(len(text) - MIN_LENGTH + 1) if text[i : i + MIN_LENGTH] in heads]
        return [(start, end) for start in starts if (end := self._end(text, start)) > start]

    def _end(self, text: str, start: int) -> int:
        short = [form for form in self._short[text[start : start + MIN_LENGTH]] if text.startswith(form, start)]
        ends = [start + len(form) for form in short]
        row = self._long.get(text[start : start + PART], [])
        if row:  # tokens share long beginnings; the one with most in common stands next to where the text would stand
            rest = text[start : start + max(map(len, row))]
            at = bisect_left(row, rest)
            ends += [start + _common(form, rest) for form in row[max(0, at - 1) : at + 1]]
        return max(ends, default=start)


def forms(text: str) -> set[str]:
    """The ways in which a library may write this secret. A text of several lines counts line by line as well."""
    found = set(_escaped(text))
    data = text.encode("utf-8", "surrogatepass")
    for offset in range(3):
        found.update(_base64(data, offset))
    for line in text.splitlines():
        if PART <= len(line) < len(text):
            found.update(_escaped(line))
    return {form for form in found if len(form) >= MIN_LENGTH and form not in MASK}


def _escaped(text: str) -> Iterator[str]:
    yield text
    if text.isalnum() and text.isascii():
        return
    plain = text.encode("utf-8", "surrogatepass")
    for quoted in (quote(plain, safe=""), quote(plain), quote(plain, safe="~"), quote_plus(plain)):
        yield quoted
        yield re.sub(r"%..", lambda found: found.group().lower(), quoted)
    once = json.dumps(text)[1:-1]
    yield from (once, json.dumps(text, ensure_ascii=False)[1:-1], once.replace("/", "\\/"), repr(text)[1:-1])
    yield json.dumps(once)[1:-1]


def _base64(data: bytes, offset: int) -> Iterator[str]:
    """The characters that `data` alone determines where it begins `offset` bytes into a group of three."""
    first, end = -(-offset * 8 // 6), (offset + len(data)) * 8 // 6
    encoded = base64.b64encode(bytes(offset) + data).decode()[first:end]
    yield encoded
    yield encoded.translate(str.maketrans("+/", "-_"))


def _common(one: str, other: str) -> int:
    """How many characters the two have in common from their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _masked(text: str, spans: list[tuple[int, int]]) -> str:
    """Overlapping spans are one, or the tail of a second secret would stay."""
    pieces: list[str] = []
    done = 0
    for start, end in spans:
        if start >= done:
            pieces += [text[done:start], MASK]
        done = max(done, end)
    return "".join([*pieces, text[done:]])


_registry = Registry()
os.register_at_fork(after_in_child=_registry.after_fork)


def register(text: str, *, keep: bool = False) -> None:
    """Remember a secret text, so that `scrub` removes it; `keep` for one that lives as long as the process."""
    _registry.register(text, keep=keep)


def scrub(text: str) -> str:
    """The text without any secret that is known or looks like one. Linear in the length of the text."""
    text = _registry.scrub(text)
    lowered = text.lower()
    for rule in RULES:
        if any(hint in lowered for hint in rule.hints):
            text = rule.pattern.sub(rule.replacement, text)
    return text
