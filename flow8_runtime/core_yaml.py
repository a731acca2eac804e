"""YAML, read by the core schema of its version 1.2: null, true, false, decimal numbers and text.

`no`, `12:30:00`, `2026-04-05` and `0x1F` are text; there are no merge keys and no other tags.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from flow8_core.errors import ValidationFailed

try:
    from yaml import CSafeLoader as _Loader  # ten times as fast
except ImportError:  # pragma: no cover  # a PyYAML that was built without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]


class _CoreLoader(_Loader):
    """YAML's core schema: null, true, false, integers, decimals and text; no dates, no merging, no other tags."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's own attribute

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) != len(keys):
            line = node.start_mark.line + 1
            raise ValidationFailed(f"A key stands twice in the mapping of line {line}.", path="$")
        return super().construct_mapping(node, deep=deep)


_CORE = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
)
for _tag, _pattern, _first in _CORE:
    _CoreLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), [c if c != "\0" else "" for c in _first]
    )


def _construct_int(loader: _CoreLoader, node: yaml.ScalarNode) -> int:
    """Decimal: PyYAML's own would read 010 as eight."""
    return int(str(loader.construct_scalar(node)))


_CoreLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def read(text: str, *, depth: int) -> Any:
    """The value of a document that nests at most `depth` levels. Raises `ValidationFailed`, naming the line."""
    try:
        _check_depth(text, depth)
        loader = _CoreLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValidationFailed(f"This is not YAML: {error.problem or error.context}{place}.", path="$") from None
    except yaml.YAMLError:
        raise ValidationFailed("This is not YAML: it holds a character that YAML does not allow.", path="$") from None
    except RecursionError:
        raise ValidationFailed("The document is nested too deep.", path="$") from None
    except ValueError:
        raise ValidationFailed("The document holds a number that is too long.", path="$") from None


def _check_depth(text: str, limit: int) -> None:
    """Depth, before anything recursive sees the text."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > limit:
                raise ValidationFailed(f"The document is nested deeper than {limit} levels.", path="$")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
