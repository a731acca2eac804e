"""The `egress` section of flow8.yaml."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from flow8_core.egress.url import parse_authority
from flow8_core.errors import EgressDenied

_NO_PORT = 0
MIB = 1 << 20


class EgressSettings(BaseModel):
    """What steps may reach, and how much of it.

    `allow`: private places, each exactly `host:port` (`[v6]:port`), matched against the URL's host and port or against
    the resolved address and port; only there may a credential travel over plain http. `ca_file`: PEM roots added to
    the public ones. `connect_timeout_s`: name resolution, TCP and TLS together, in seconds. `max_bytes`: of a response
    body after decompression, where the caller names no other limit. `pool_size`: idle connections kept per origin.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow: tuple[str, ...] = ()
    ca_file: Path | None = None
    connect_timeout_s: float = Field(default=5.0, gt=0, le=60)
    max_bytes: int = Field(default=10 * MIB, gt=0)
    pool_size: int = Field(default=64, ge=0, le=1024)

    @field_validator("allow")
    @classmethod
    def _check_allow(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            parse_place(entry)
        return entries


def parse_place(text: str) -> tuple[str, int]:
    """Canonical host and port of an allow-list entry. Raises `ValueError` unless it is exactly `host:port`."""
    try:
        host, port = parse_authority(text, default_port=_NO_PORT)
    except EgressDenied:
        host, port = "", _NO_PORT
    if port == _NO_PORT:
        raise ValueError(f"{text!r} must read host:port, such as 127.0.0.1:9000 or minio.internal:9000")
    return host, port
