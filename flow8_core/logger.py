"""A logger that takes keys and values, over the standard library's: so redaction on the handlers covers it as well."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flow8_core.log_lines import FIELDS


@dataclass(frozen=True, slots=True)
class Logger:
    """`log.info("link refreshed", link_id=...)`. Positional arguments are put into the message, as the library does.

    `exc_info` and `stack_info` mean what they mean there; everything else that is named is a field of the line.
    """

    inner: logging.Logger
    bound: Mapping[str, Any] = field(default_factory=dict)

    def bind(self, **fields: Any) -> Logger:
        """A logger whose lines all hold these fields."""
        return Logger(self.inner, {**self.bound, **fields})

    def debug(self, message: str, /, *args: Any, **fields: Any) -> None:
        """What only somebody who looks for a fault wants to see."""
        self._log(logging.DEBUG, message, args, fields)

    def info(self, message: str, /, *args: Any, **fields: Any) -> None:
        """What happened."""
        self._log(logging.INFO, message, args, fields)

    def warning(self, message: str, /, *args: Any, **fields: Any) -> None:
        """What somebody should look at, one day."""
        self._log(logging.WARNING, message, args, fields)

    def error(self, message: str, /, *args: Any, **fields: Any) -> None:
        """What did not work."""
        self._log(logging.ERROR, message, args, fields)

    def exception(self, message: str, /, *args: Any, **fields: Any) -> None:
        """As `error`, with the error that is being handled."""
        self._log(logging.ERROR, message, args, {"exc_info": True, **fields})

    def _log(self, level: int, message: str, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        if self.inner.isEnabledFor(level):
            exc_info, stack_info = fields.pop("exc_info", None), bool(fields.pop("stack_info", False))
            extra = {FIELDS: {**self.bound, **fields}}
            self.inner.log(level, message, *args, exc_info=exc_info, stack_info=stack_info, stacklevel=3, extra=extra)
