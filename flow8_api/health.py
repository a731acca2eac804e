"""`/health`: the process answers."""

from __future__ import annotations

from fastapi import APIRouter, Request

from flow8_runtime import deployment

router = APIRouter()


@router.get("/health")
def health(request: Request) -> dict[str, str]:
    """Liveness, and whose answer it is."""
    return deployment.describe(request.app.state.platform)
