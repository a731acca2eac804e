"""JSON from outside, read strictly: what `json.loads` lets through breaks things later.

Refused: NaN, Infinity and numbers too large for a float (they cannot be written again), a key twice (readers differ on
which one counts), nesting deeper than `MAX_DEPTH`, lone surrogates (they cannot be stored), anything that is not UTF-8.
A byte order mark is passed over, as RFC 8259 section 8.1 allows.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_DEPTH = 64

_BYTE_ORDER_MARK = "\ufeff"
_NESTING = frozenset((dict, list))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(data: bytes) -> Any:
    """The value in `data`. Raises `ValueError`, whose text quotes nothing of the data."""
    try:
        value = _DECODER.decode(data.decode().removeprefix(_BYTE_ORDER_MARK))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError:
        raise ValueError("it is not JSON") from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        raise ValueError("it is nested too deeply")
    if _SURROGATE.search(data):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half a character") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("it has a key twice")
    return members


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("it has a number that is too large")
    return number


def _constant(_name: str) -> float:
    raise ValueError("it holds NaN or Infinity")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)


def _deeper(value: Any, levels: int) -> bool:
    """Whether arrays and objects are nested in more than `levels` levels."""
    level = [value] if type(value) in _NESTING else []
    for _ in range(levels):
        if not level:
            return False
        children = (child for node in level for child in (node.values() if type(node) is dict else node))
        level = [child for child in children if type(child) in _NESTING]
    return bool(level)
