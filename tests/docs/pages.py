"""What the pages of the documentation hold: fenced blocks, tables under headings, links, and what stands in code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(r"^```(?P<language>[a-z]+)(?: (?P<name>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
_CODE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the name that stands beside it, its text."""

    page: str
    language: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.name or self.language}"


def blocks(language: str) -> list[Block]:
    """All blocks of a language."""
    return [
        Block(str(page.relative_to(ROOT)), language, match["name"] or "", match["text"])
        for page in PAGES
        for match in _BLOCK.finditer(page.read_text())
        if match["language"] == language
    ]


def block(language: str, name: str, *, page: str | None = None) -> str:
    """The text of the one block of this name."""
    (found,) = (each for each in blocks(language) if each.name == name and page in (None, each.page))
    return found.text


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _BLOCK.sub("", page.read_text())


def links(page: Path) -> list[tuple[Path, str]]:
    """Where the page's relative links lead: file, and anchor or nothing."""
    return [
        ((page.parent / match["path"]).resolve() if match["path"] else page, match["anchor"] or "")
        for match in _LINK.finditer(prose(page))
    ]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = _HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(program: str) -> Iterator[tuple[str, str]]:
    """Each (page, command line) of a program, in code and in consoles."""
    for page in PAGES:
        code = [" ".join(text.split()) for text in _CODE.findall(prose(page))]
        consoles = [each.text for each in blocks("console") if each.page == str(page.relative_to(ROOT))]
        lines = [line.removeprefix("$ ") for text in consoles for line in text.splitlines() if line.startswith("$ ")]
        for line in [*code, *lines]:
            if line.split()[:1] == [program]:
                yield page.name, re.split(r"\s(?:#|>>|\|)", line)[0].strip()


def tables(page: Path) -> dict[str, list[list[str]]]:
    """The rows of the first table below each heading, without their header."""
    found: dict[str, list[list[str]]] = {}
    for section in re.split(r"^(?=#{1,6} )", prose(page), flags=re.MULTILINE):
        heading = section.partition("\n")[0].lstrip("# ").replace("`", "")
        lines = [line for line in section.splitlines() if line.startswith("|")]
        if lines:
            found[heading] = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return found
