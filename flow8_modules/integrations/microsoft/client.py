"""Microsoft Graph as JSON over our egress, and what its errors mean.

Graph's errors: https://learn.microsoft.com/graph/errors. The status comes first, then `error.code` (whose case varies),
the innermost `innerError.code` above the outer one; never the message.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flow8_core.egress import Response
from flow8_modules import Context, Rule, errors, retry_after

SERVICE = "microsoft"
GRAPH = "https://graph.microsoft.com/"

_EXPIRED = Rule(errors.TokenExpired, "Microsoft says that the access token is over.")
_CHALLENGED = Rule(errors.InvalidGrant, "Microsoft wants the user to sign in again: reconnect Microsoft.")
_DENIED = Rule(errors.AccessDenied, "The Microsoft account may not do this: ask its administrator.")
_MISSING = Rule(errors.NotFound, "Microsoft finds no such item or mailbox: check the step's inputs.")
_CONFLICT = Rule(errors.Conflict, "Somebody else has changed or made this at Microsoft already.")
_RESET = Rule(errors.Conflict, "Microsoft has forgotten where we were: start again without the saved position.")
_TOO_LARGE = Rule(errors.ProviderRejected, "The request is too large for Microsoft: send less.")
_LIMITED = Rule(errors.RateLimited, "Microsoft asks to slow down; the step runs again by itself.")
_FULL = Rule(errors.QuotaExceeded, "The Microsoft account's storage is full: make room.")
_BUSY = Rule(errors.ProviderUnavailable, "Microsoft is not available at the moment; the step runs again by itself.")
_DOWN = Rule(errors.ProviderUnavailable, "Microsoft failed, and may have done it all the same.", ambiguous=True)
_REFUSED = Rule(errors.ProviderRejected, "Microsoft refuses the request as it stands: check the step's inputs.")

# By status and, where codes tell more than the status, by code in lower case.
ERRORS: Mapping[tuple[int, str], Rule] = {
    (403, "errorsendasdenied"): _DENIED,
    (403, "notallowed"): _DENIED,
    (403, "accessrestricted"): _DENIED,
    (400, "syncstatenotfound"): _RESET,
    (400, "syncstateinvalid"): _RESET,
    (404, "syncstatenotfound"): _RESET,
    (503, "servicenotavailable"): _BUSY,
    (503, "errorserverbusy"): _BUSY,
}
STATUSES: Mapping[int, Rule] = {
    401: _EXPIRED,
    403: _DENIED,
    404: _MISSING,
    409: _CONFLICT,
    410: _RESET,
    412: _CONFLICT,
    413: _TOO_LARGE,
    429: _LIMITED,
    507: _FULL,
}


def graph(
    ctx: Context, method: str, path: str, *, scope: str, json: Any = None, prefer: tuple[str, ...] = ()
) -> dict[str, Any]:
    """One call of Graph with the step's link; `path` is relative to its base URL ("me/events").

    `scope` is the permission that the operation needs: it decides what a 403 means. Returns the JSON object of the
    answer, {} where it has none. Raises what `Egress.send` raises, and the errors of the tables above.
    """
    link = ctx.link
    headers = {"Accept": "application/json", "client-request-id": secrets.token_hex(16)}
    if prefer:
        headers["Prefer"] = ", ".join(prefer)
    answer = ctx.http.send(method, link.base_url.rstrip("/") + "/" + path, headers=headers, json=json, link=link)
    if not 200 <= answer.status < 300:
        raise error_of(answer, scope=scope, granted=link.scopes, now=ctx.deadline.clock.now())
    if not answer.body:
        return {}
    body = answer.json()
    if not isinstance(body, dict):
        raise nonsense(ambiguous=method != "GET")
    return body


def nonsense(*, ambiguous: bool) -> errors.VendorBadResponse:
    """The error for an answer that lacks what it must hold."""
    return errors.VendorBadResponse("Microsoft's answer makes no sense.", service=SERVICE, ambiguous=ambiguous)


def error_of(answer: Response, *, scope: str, granted: frozenset[str], now: datetime) -> errors.Flow8Error:
    """What an answer that is not 2xx means, for a call that needs `scope` and was `granted` those of the link."""
    status = answer.status
    code = _code(answer)
    waiting = retry_after(answer.headers.get("Retry-After"), now=now)
    rule = ERRORS.get((status, code.lower())) or STATUSES.get(status) or (_DOWN if status >= 500 else _REFUSED)
    if status == 401 and "insufficient_claims" in answer.headers.get("WWW-Authenticate", ""):
        rule = _CHALLENGED
    if rule is _DENIED and (status, code.lower()) not in ERRORS and not has_scope(granted, scope):
        rule = Rule(
            errors.InsufficientScope, f"The Microsoft connection lacks {scope}: reconnect Microsoft and grant it."
        )
    return rule.raised(service=SERVICE, provider_code=code or str(status), retry_after=waiting)


def has_scope(granted: frozenset[str], scope: str) -> bool:
    """Whether `scope` was granted: names come with or without Graph's own address, in any case."""
    return _bare(scope) in {_bare(each) for each in granted}


def _bare(scope: str) -> str:
    return scope.rpartition("/")[2].lower()


def _code(answer: Response) -> str:
    """The innermost error code of a Graph body, or "" where it has none."""
    try:
        body = answer.json()
    except errors.VendorBadResponse:
        return ""
    error = body.get("error") if isinstance(body, dict) else None
    code = ""
    for _ in range(8):
        if not isinstance(error, dict):
            break
        if isinstance(found := error.get("code"), str):
            code = found
        error = error.get("innerError") or error.get("innererror")
    return code[:80] if code.isascii() and code.isprintable() else ""
