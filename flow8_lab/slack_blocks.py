"""Block Kit's limits, as far as chat.postMessage checks them.

Sources: docs.slack.dev, "Blocks"; the sum of all texts is from bolt-js issue 2509 (Slack documents no figure).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MOST_BLOCKS = 50
MOST_TEXT = 13_200

# type -> {text property: longest}; what is not here passes unread.
TEXTS: Mapping[str, Mapping[str, int]] = {
    "section": {"text": 3_000},
    "header": {"text": 150},
    "markdown": {"text": 12_000},
    "image": {"title": 2_000},
}
MOST_ELEMENTS: Mapping[str, int] = {"actions": 25, "context": 10}
_TYPES = "actions context context_actions divider file header image input markdown rich_text section table video"
TYPES = frozenset(_TYPES.split())


def problems(blocks: Any) -> list[str]:
    """What Slack says under `response_metadata.messages` when it answers `invalid_blocks`; empty if nothing."""
    if len(blocks) > MOST_BLOCKS:
        return [f"[ERROR] no more than {MOST_BLOCKS} items allowed [json-pointer:/blocks]"]
    return [problem for index, block in enumerate(blocks) for problem in _block_problems(f"/blocks/{index}", block)]


def too_long(blocks: Any) -> bool:
    """Whether all texts together are more than Slack takes (`msg_blocks_too_long`)."""
    return sum(_lengths(blocks)) > MOST_TEXT


def _block_problems(where: str, block: Any) -> Iterator[str]:
    if not isinstance(block, dict) or block.get("type") not in TYPES:
        yield f"[ERROR] unsupported type [json-pointer:{where}/type]"
        return
    kind = block["type"]
    if len(str(block.get("block_id", ""))) > 255:
        yield f"[ERROR] must be less than 256 characters [json-pointer:{where}/block_id]"
    if kind == "section" and not block.get("text") and not block.get("fields"):
        yield f"[ERROR] missing required field: text or fields [json-pointer:{where}]"
    if kind in {"header", "markdown"} and not block.get("text"):
        yield f"[ERROR] missing required field: text [json-pointer:{where}]"
    if kind == "image":
        yield from _image_problems(where, block)
    for name, longest in TEXTS.get(kind, {}).items():
        if name in block:
            yield from _text_problems(f"{where}/{name}", block[name], longest, plain=kind == "markdown")
    yield from _list_problems(where, block, kind)


def _list_problems(where: str, block: Mapping[str, Any], kind: str) -> Iterator[str]:
    fields = block.get("fields", []) if kind == "section" else []
    if not isinstance(fields, list) or len(fields) > 10:
        yield f"[ERROR] no more than 10 items allowed [json-pointer:{where}/fields]"
    else:
        for index, text in enumerate(fields):
            yield from _text_problems(f"{where}/fields/{index}", text, 2_000, plain=False)
    if kind in MOST_ELEMENTS:
        elements = block.get("elements")
        if not isinstance(elements, list) or not 1 <= len(elements) <= MOST_ELEMENTS[kind]:
            yield f"[ERROR] 1 to {MOST_ELEMENTS[kind]} items allowed [json-pointer:{where}/elements]"


def _image_problems(where: str, block: Mapping[str, Any]) -> Iterator[str]:
    if not block.get("image_url") and not block.get("slack_file"):
        yield f"[ERROR] missing required field: image_url [json-pointer:{where}]"
    if len(str(block.get("image_url", ""))) > 3_000:
        yield f"[ERROR] must be less than 3001 characters [json-pointer:{where}/image_url]"
    if not 1 <= len(str(block.get("alt_text", ""))) <= 2_000:
        yield f"[ERROR] must be 1 to 2000 characters [json-pointer:{where}/alt_text]"


def _text_problems(where: str, text: Any, longest: int, *, plain: bool) -> Iterator[str]:
    """A text object, or with `plain` a bare string."""
    if plain:
        words = text
    elif not isinstance(text, dict) or text.get("type") not in {"plain_text", "mrkdwn"}:
        yield f"[ERROR] unsupported type [json-pointer:{where}/type]"
        return
    else:
        words = text.get("text")
    if not isinstance(words, str) or not words:
        yield f"[ERROR] must be more than 0 characters [json-pointer:{where}/text]"
    elif len(words) > longest:
        yield f"[ERROR] must be less than {longest + 1} characters [json-pointer:{where}/text]"


def _lengths(value: Any) -> Iterator[int]:
    if isinstance(value, list):
        for item in value:
            yield from _lengths(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "text" and isinstance(item, str):
                yield len(item)
            else:
                yield from _lengths(item)
