"""googleapiclient on our egress: what a module hands to `request.execute(http=..., num_retries=0)`.

httplib2's own `Http` reads proxies from the environment, keeps sockets of its own and is not safe to share between
threads; of it, this needs the class of the answer alone.
"""

from __future__ import annotations

from typing import Any

from flow8_modules import Context


class GoogleHttp:
    """An `httplib2.Http` for one call of a module: its deadline, and the token of its link, to the link's hosts only.

    Service objects are made from a discovery document (`build_from_document(document, http=object())`), hold no
    credential and may be kept in `ctx.clients`; this may not.
    """

    redirect_codes = frozenset[int]()  # a 308 is the answer to a part of an upload, and no redirect

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def request(self, uri: str, method: str = "GET", body: Any = None, headers: Any = None) -> tuple[Any, bytes]:
        """One request; any HTTP answer is returned, as httplib2 would. Raises what `Egress.send` raises."""
        from httplib2 import Response

        content = body.encode() if isinstance(body, str) else body
        answer = self._ctx.http.send(method, uri, headers=headers, body=content, link=self._ctx.link)
        shown = Response({name.lower(): value for name, value in answer.headers.items()})
        shown.status, shown.reason = answer.status, ""
        shown["status"] = str(answer.status)
        return shown, answer.body

    def close(self) -> None:
        """Nothing is held: connections are the egress's."""
