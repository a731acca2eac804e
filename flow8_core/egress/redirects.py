"""Which request follows from a redirecting answer."""

from __future__ import annotations

from flow8_core.egress.answer import Answer
from flow8_core.egress.request import Request
from flow8_core.errors import EgressDenied

MAX_REDIRECTS = 5

_STATUSES = frozenset((301, 302, 303, 307, 308))
_METHODS = frozenset(("GET", "HEAD"))


def next_request(request: Request, answer: Answer) -> Request | None:
    """What to ask next, or None where `answer` is the one to give back: no redirect, nowhere to go, or a method that is
    not repeated without being told (everything but GET and HEAD; theirs with a body neither).

    Raises `EgressDenied` from https to http, and where Location is no URL that may be called.
    """
    location = answer.headers.get("location")
    if answer.status not in _STATUSES or not location:
        return None
    if request.method not in _METHODS or request.body.length != 0:
        return None
    url = request.url.join(location)
    if request.url.scheme == "https" and url.scheme == "http":
        raise EgressDenied(f"{request.url.authority} redirects from https to http, which is not followed.")
    return request.redirected(url)
