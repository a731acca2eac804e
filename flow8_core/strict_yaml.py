"""YAML that people write: plain data only, no duplicate keys, and errors that name a line but never show its text."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from flow8_core.errors import ValidationFailed


def parse(text: str, *, name: str) -> Any:
    """The document in `text` as dicts, lists, texts, numbers, booleans, dates and None; None where it is empty.

    `name` stands for the document in messages. Raises `ValidationFailed` with "name:line:column" as its path. PyYAML's
    own messages quote the line, which may hold a secret; they are not passed on.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader
    except _DuplicateKey as error:
        raise ValidationFailed("this key stands twice in the same mapping", path=_at(name, error)) from None
    except yaml.MarkedYAMLError as error:
        raise ValidationFailed("this is not YAML that can be read", path=_at(name, error)) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ValidationFailed("this is not YAML that can be read", path=name) from None


class _DuplicateKey(yaml.MarkedYAMLError):
    pass


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader silently keeps the last of two equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _value in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge" or not isinstance(key_node, yaml.ScalarNode):
                continue
            key = self.construct_object(key_node)
            if key in seen:
                raise _DuplicateKey(problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _at(name: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
