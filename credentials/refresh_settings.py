"""The section `refresh` of the settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class RefreshSettings(BaseModel):
    """How links are kept alive. Times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spool: Path | None = Field(None, description="Folder on a local disk where each reply is sealed before the store.")
    breaker_links: int = Field(
        10, ge=2, le=100_000, description="So many links of a service refused in the window: none is marked as dead."
    )
    breaker_window_s: float = Field(600.0, ge=1, le=86_400, description="The window.")
