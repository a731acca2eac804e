"""The HTTP door: for now the OAuth2 callback and liveness."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from flow8_api import callback, health
from flow8_runtime.platform import Platform

# On every answer: never kept, never framed, no script, and no Referer, for addresses hold codes and states.
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
}


def make_app(platform: Platform, *, heard: callback.Heard = lambda _: None, lasting: bool = True) -> FastAPI:
    """The application on an open platform; `heard` is told what each callback came to. Where it is not `lasting`, it
    is served for one callback only: a browser that was sent on to another page would find nobody there.

    No generated API pages: they would load scripts from elsewhere.
    """
    app = FastAPI(title="flow8-modules", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.platform = platform
    app.state.heard = heard
    app.state.lasting = lasting
    app.include_router(callback.router)
    app.include_router(health.router)
    app.middleware("http")(_with_headers)
    return app


async def _with_headers(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await answer(request)
    response.headers.update(HEADERS)
    return response
