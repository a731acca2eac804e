"""`Secret`: a string that cannot leave by accident."""

from __future__ import annotations

import hmac
from typing import Any, NoReturn

from flow8_core import redaction

MASK = "[secret]"


class Secret:
    """Holds one secret text. Shows as `[secret]`, and refuses JSON, pickle and copying; `reveal()` gives the text.

    Whoever makes one makes it known to the log redaction at once, so that a library that logs the text is covered.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text
        redaction.register(text)

    def reveal(self) -> str:
        """The text itself. Call it where it is handed to a vendor's client, and nowhere else."""
        redaction.register(self._text)  # the registry forgets after hours; a secret in use is known again
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __len__(self) -> int:
        return len(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    __hash__ = None  # type: ignore[assignment]  # a secret in a set or as a key is a leak waiting to happen

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return MASK

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")
