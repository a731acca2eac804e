"""`/health`: the process answers."""

from __future__ import annotations

from fastapi import APIRouter, Request

from flow8_runtime.platform import Platform

router = APIRouter()


@router.get("/health")
def health(request: Request) -> dict[str, str]:
    """Liveness, and whose answer it is."""
    return describe(request.app.state.platform)


def describe(platform: Platform) -> dict[str, str]:
    """What `/health` says of a deployment. `deployment` is the same wherever the same keys are, and tells nothing of
    them: by it `flow8 link connect` knows the API that will get its callback."""
    return {
        "status": "ok",
        "service": "flow8-modules",
        "deployment": platform.vault.mac("deployment", b"").hex()[:16],
    }
