"""What `flow8 doctor` and `/health/ready` find."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what, how it stands, and what to do where it is not well."""

    check: str
    level: Level
    message: str

    def to_dict(self) -> dict[str, str]:
        """As answers show it."""
        return {"check": self.check, "level": self.level, "message": self.message}


Findings = Iterator[Finding]
