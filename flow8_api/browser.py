"""Binds a connection to the browser that began it: a cookie that no script reads and no other site sends.

Whoever lures somebody else to the end of their own connection would get that person's account (RFC 9700 section 4.7).
A state that begins in a browser therefore holds the hash of this cookie, and the callback must bring it. `flow8 link
connect` has no browser session, and its states hold none: whoever has the address may follow it, once.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

from bson import ObjectId
from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from credentials.oauth_states import LIFETIME_S
from flow8_runtime.platform import Platform

NAME = "flow8-connect"
_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")


def begin(
    request: Request,
    service: str,
    *,
    company_id: ObjectId,
    user_id: ObjectId | None,
    scopes: Iterable[str] = (),
    link_id: str | None = None,
) -> Response:
    """Send the browser to the vendor, for a user whose session the caller has checked. Raises what `Connect.begin`
    raises."""
    platform: Platform = request.app.state.platform
    browser = of(request) or secrets.token_urlsafe(32)
    begun = platform.connect.begin(
        service, company_id=company_id, user_id=user_id, scopes=scopes, link_id=link_id, browser=browser
    )
    answer = RedirectResponse(begun.authorize_url, status_code=303)
    answer.set_cookie(
        _name(platform), browser, max_age=LIFETIME_S, path="/", httponly=True, samesite="lax", secure=_secure(platform)
    )
    return answer


def of(request: Request) -> str | None:
    """What this browser was given; one value serves all the connections that it begins."""
    value = request.cookies.get(_name(request.app.state.platform), "")
    return value if _VALUE.fullmatch(value) else None


def _name(platform: Platform) -> str:
    """`__Host-`: set by this very host, over TLS, for all of its paths; a subdomain cannot plant another."""
    return f"__Host-{NAME}" if _secure(platform) else NAME


def _secure(platform: Platform) -> bool:
    return urlsplit(platform.settings.public_url).scheme == "https"
