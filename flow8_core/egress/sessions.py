"""requests on our egress, for requests-oauthlib. Imports requests, so it is imported where it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from flow8_core.clock import Deadline
from flow8_core.egress.hosts import Hosts
from flow8_core.errors import InternalError

if TYPE_CHECKING:
    from flow8_core.egress.egress import Egress

Timeout = float | tuple[float | None, float | None] | None


class EgressAdapter(BaseAdapter):
    """A requests transport that is an `Egress`; all its calls together end at `deadline`."""

    def __init__(self, egress: Egress, *, deadline: Deadline, hosts: Hosts | None, max_bytes: int | None) -> None:
        super().__init__()
        self._egress = egress
        self._deadline = deadline
        self._hosts = hosts
        self._max_bytes = max_bytes

    def send(  # noqa: PLR0917  # the signature is requests' own
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Raises `InternalError` where a caller turns off or bends the guard (`verify`, `cert`, `proxies`)."""
        del stream
        if verify is not True or cert or proxies:
            raise InternalError("verify, cert and proxies belong to the egress; they cannot be set for a call.")
        body = request.body.encode() if isinstance(request.body, str) else request.body
        answer = self._egress.open(
            request.method or "GET",
            request.url or "",
            headers=request.headers,
            body=body,
            deadline=_capped(self._deadline, timeout),
            hosts=self._hosts,
            max_bytes=self._max_bytes,
        )
        response = requests.Response()
        response.status_code = answer.status
        response.reason = answer.reason
        response.headers = CaseInsensitiveDict(answer.headers)
        response.encoding = get_encoding_from_headers(response.headers)
        response.raw = answer
        response.url = request.url or ""
        response.request = request
        return response

    def close(self) -> None:
        """Nothing: the connections are the egress's."""


def guard(
    session: requests.Session, egress: Egress, *, deadline: Deadline, hosts: Hosts | None, max_bytes: int | None
) -> None:
    """See `Egress.guard`."""
    adapter = EgressAdapter(egress, deadline=deadline, hosts=hosts, max_bytes=max_bytes)
    session.adapters.clear()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    setattr(session, "get_redirect_target", _nowhere)  # noqa: B010  # mypy forbids the assignment


def _nowhere(_response: requests.Response) -> None:
    """Redirects are answers: a token endpoint that redirects is not one to be followed."""


def _capped(deadline: Deadline, timeout: Timeout) -> Deadline:
    seconds = timeout[1] if isinstance(timeout, tuple) else timeout
    return deadline if seconds is None else deadline.capped(seconds)
