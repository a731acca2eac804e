"""Block Kit's limits, checked before the call (https://docs.slack.dev/reference/block-kit/blocks)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from flow8_modules import Fault, read_json

MAX_BLOCKS = 50
MAX_MARKDOWN = 12_000  # all markdown blocks of a message together
MAX_FALLBACK = 300

_EVERYBODY = re.compile(r"<!(channel|here|everyone)(\||>)", re.IGNORECASE)

# Where a text stands in a block of a type, and how many characters it may have.
TEXT_LIMITS: dict[str, dict[str, int]] = {
    "section": {"text": 3_000},
    "header": {"text": 150},
    "image": {"title": 2_000, "alt_text": 2_000, "image_url": 3_000},
    "markdown": {"text": MAX_MARKDOWN},
    "video": {"title": 200, "alt_text": 2_000},
}
# Where a list stands in a block of a type, and how many items it may have.
LIST_LIMITS: dict[str, dict[str, int]] = {
    "section": {"fields": 10},
    "context": {"elements": 10},
    "actions": {"elements": 25},
}
MAX_FIELD = 2_000
MAX_BLOCK_ID = 255


def as_blocks(value: Any) -> Any:
    """A JSON text as the list that it holds; anything else as it is. Raises `Fault` for a text that is no list."""
    if value is None:
        return []
    if not isinstance(value, str):
        return value
    read = read_json(value) if value.strip() else []
    if not isinstance(read, list):
        raise Fault("should be a list of blocks, or a JSON text of one")
    return read


def check_blocks(blocks: list[dict[str, Any]]) -> None:
    """Raises `Fault` for the first limit that the blocks exceed."""
    if len(blocks) > MAX_BLOCKS:
        raise Fault(f"should have at most {MAX_BLOCKS} blocks")
    for number, block in enumerate(blocks):
        kind = block.get("type")
        if not isinstance(kind, str):
            raise Fault(f"block {number} has no type")
        for trouble in _troubles(kind, block):
            raise Fault(f"block {number} ({kind if kind in TEXT_LIMITS else 'block'}): {trouble}")
    if sum(_length(block.get("text")) for block in blocks if block.get("type") == "markdown") > MAX_MARKDOWN:
        raise Fault(f"markdown blocks should have at most {MAX_MARKDOWN:,} characters together")


def _troubles(kind: str, block: dict[str, Any]) -> Iterator[str]:
    if _length(block.get("block_id")) > MAX_BLOCK_ID:
        yield f"block_id should have at most {MAX_BLOCK_ID} characters"
    for place, limit in TEXT_LIMITS.get(kind, {}).items():
        if _length(block.get(place)) > limit:
            yield f"{place} should have at most {limit:,} characters"
    for place, limit in LIST_LIMITS.get(kind, {}).items():
        items = block.get(place, [])
        if not isinstance(items, list):
            yield f"{place} should be a list"
        elif len(items) > limit:
            yield f"{place} should have at most {limit} items"
        elif place == "fields" and any(_length(item) > MAX_FIELD for item in items):
            yield f"each field should have at most {MAX_FIELD:,} characters"
    if kind == "section" and not block.get("text") and not block.get("fields"):
        yield "a section should have text or fields"


def _length(text: Any) -> int:
    """Characters of a plain text, or of a text object."""
    if isinstance(text, dict):
        text = text.get("text")
    return len(text) if isinstance(text, str) else 0


def notifies_everybody(message: str, blocks: list[dict[str, Any]]) -> bool:
    """Whether the message holds <!channel>, <!here> or <!everyone>, as text or as a rich text element."""
    if _EVERYBODY.search(message):
        return True
    return any(
        (isinstance(value, str) and _EVERYBODY.search(value) is not None)
        or (isinstance(value, dict) and value.get("type") == "broadcast")
        for value in _values(blocks)
    )


def fallback_text(blocks: list[dict[str, Any]]) -> str:
    """What a notification shows of a message that has only blocks: its first text."""
    for value in _values(blocks):
        if isinstance(value, dict):
            text = value.get("text") or value.get("alt_text")
            if isinstance(text, str) and text.strip():
                return text.strip()[:MAX_FALLBACK]
    return "New message"


def _values(value: Any) -> Iterator[Any]:
    """The value and everything in it, in reading order."""
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _values(each)
