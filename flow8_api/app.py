"""The HTTP door: for now the OAuth2 callback and liveness."""

from __future__ import annotations

from fastapi import FastAPI

from flow8_api import callback, health
from flow8_runtime.platform import Platform


def make_app(platform: Platform, *, heard: callback.Heard = lambda _: None) -> FastAPI:
    """The application on an open platform; `heard` is told what each callback came to.

    No generated API pages: they would load scripts from elsewhere.
    """
    app = FastAPI(title="flow8-modules", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.platform = platform
    app.state.heard = heard
    app.include_router(callback.router)
    app.include_router(health.router)
    return app
