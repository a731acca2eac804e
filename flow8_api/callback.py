"""`/auth/callback` and `/auth/callback/{service}`: where a vendor sends the browser back to.

GET alone consumes a state. A HEAD, a prefetch and anything else must not: a mail scanner or a browser that looks ahead
would use up the one-time code before its owner arrives. Whoever is connected is sent on to a page without code and
state in its address, which may be loaded again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from credentials.callback import is_visit
from credentials.links import Link
from flow8_api import browser
from flow8_api.page import page
from flow8_core.errors import Flow8Error, InternalError
from flow8_runtime import connecting
from flow8_runtime.connecting import Connected
from flow8_runtime.platform import Platform

router = APIRouter()
log = logging.getLogger("flow8.callback")

Heard = Callable[[Link | Flow8Error], None]

LESS = (
    "Not all permissions were granted that flow8 had asked for. Steps that need one of them will say so; connect again "
    "and agree to everything to mend it."
)
MORE = "What waited for this account goes on now."
STATUS = {"access_denied": 403, "provider_unavailable": 502, "store_unavailable": 503, "internal_error": 500}


@router.api_route("/auth/callback", methods=["GET", "HEAD"])
@router.api_route("/auth/callback/{service}", methods=["GET", "HEAD"])
def callback(request: Request, service: str | None = None) -> Response:
    """Consume the state, exchange the code once, store the link, and say so."""
    if not is_visit(request.method, request.headers):
        return Response(status_code=204 if request.method == "HEAD" else 503)  # 503: a browser forgets what it got
    result = _complete(request, service)
    heard: Heard = request.app.state.heard
    heard(result.link if isinstance(result, Connected) else result)
    if not isinstance(result, Connected):
        return page("Not connected", result.message, well=False, status=STATUS.get(result.code, 400))
    less, more = bool(result.missing), result.released > 0
    if not request.app.state.lasting:
        return _end(request, result.link.service, less=less, more=more)
    query = "&".join(name for name, told in (("less=1", less), ("more=1", more)) if told)
    return RedirectResponse(f"/auth/connected/{result.link.service}?{query}".rstrip("?"), status_code=303)


@router.get("/auth/connected/{service}")
def connected(request: Request, service: str) -> Response:
    """The end of a connection: says nothing that is not in the address, and changes nothing."""
    given = request.query_params
    return _end(request, service, less=given.get("less") == "1", more=given.get("more") == "1")


def _end(request: Request, service: str, *, less: bool, more: bool) -> Response:
    """`less` was granted than asked for; `more` happens now, for plays had waited."""
    platform: Platform = request.app.state.platform
    if service not in platform.providers.names():
        return page("Nothing here", "This page belongs to no service that flow8 knows.", well=False, status=404)
    title = platform.providers.get(service).title
    notes = [text for text, told in ((MORE, more), (LESS, less)) if told]
    return page(f"{title} is connected", "You can close this window and go back to flow8.", well=True, notes=notes)


def _complete(request: Request, service: str | None) -> Connected | Flow8Error:
    platform: Platform = request.app.state.platform
    try:
        return connecting.complete(
            platform, request.query_params.multi_items(), service=service, browser=browser.of(request)
        )
    except Flow8Error as error:
        return error
    except Exception:
        log.exception("the callback failed")
        return InternalError("A fault of flow8 itself; its log says more. Connect again, and report it if it stays so.")
