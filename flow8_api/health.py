"""`/health`: the process answers."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()


@router.get("/health")
def health() -> dict[str, str]:
    """Liveness; says whose answer it is, so that `link connect` knows our API on its port."""
    return {"status": "ok", "service": "flow8-modules"}
