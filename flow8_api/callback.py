"""`/auth/callback` and `/auth/callback/{service}`: where a vendor sends the browser back to.

GET alone consumes a state. A HEAD, a prefetch and anything else must not: a mail scanner or a browser that looks ahead
would use up the one-time code before its owner arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from credentials.callback import is_visit
from credentials.links import Link
from flow8_core.errors import Flow8Error
from flow8_runtime.platform import Platform

router = APIRouter()

Heard = Callable[[Link | Flow8Error], None]

# Never cached, never framed, and no Referer: the address holds a code and a state.
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
}

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 17px/1.5 system-ui, sans-serif; margin: 0; min-height: 100vh; display: grid; place-items: center;
       background: #f5f6f8; color: #1c2430 }}
main {{ background: #fff; border-radius: 14px; padding: 2.5rem 3rem; max-width: 30rem;
       box-shadow: 0 8px 30px #1c243014 }}
h1 {{ font-size: 1.4rem; margin: 0 0 .5rem }} p {{ margin: .3rem 0; color: #4a5565 }}
.mark {{ font-size: 2rem; color: {colour} }}
@media (prefers-color-scheme: dark) {{ body {{ background: #12161c; color: #e8ecf2 }}
       main {{ background: #1b212a }} p {{ color: #a3adbb }} }}
</style></head>
<body><main><div class="mark" aria-hidden="true">{mark}</div><h1>{title}</h1><p>{text}</p></main></body></html>"""


@router.api_route("/auth/callback", methods=["GET", "HEAD"])
@router.api_route("/auth/callback/{service}", methods=["GET", "HEAD"])
def callback(request: Request, service: str | None = None) -> Response:
    """Consume the state, exchange the code once, store the link, and say so."""
    if not is_visit(request.method, request.headers):
        return Response(status_code=204, headers=HEADERS)
    platform: Platform = request.app.state.platform
    heard: Heard = request.app.state.heard
    try:
        link = platform.connect.complete(request.query_params.multi_items(), service=service)
        heard(link)
    except Flow8Error as error:
        heard(error)
        return _page("Not connected", error.message, mark="!", colour="#c2410c", status=_status(error))
    return _page(
        f"{link.service.capitalize()} is connected",
        "You can close this window and go back to flow8.",
        mark="✓",
        colour="#15803d",
    )


def _page(title: str, text: str, *, mark: str, colour: str, status: int = 200) -> HTMLResponse:
    # Nothing of the query is ever shown: messages are ours, and escaped all the same.
    html = PAGE.format(title=escape(title), text=escape(text), mark=mark, colour=colour)
    return HTMLResponse(html, status_code=status, headers=HEADERS)


def _status(error: Flow8Error) -> int:
    return {"store_unavailable": 503, "provider_unavailable": 502, "access_denied": 403}.get(error.code, 400)
