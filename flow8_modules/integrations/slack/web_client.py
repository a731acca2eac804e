"""slack_sdk on our egress. Imported only when a Slack module is called: it imports the SDK."""

from __future__ import annotations

import logging
from typing import Any
from urllib.request import Request

from slack_sdk.web.client import WebClient

from flow8_modules import Context, bearer
from flow8_modules.integrations.slack.client import checked

_SILENT = logging.Logger("flow8.slack_sdk", level=logging.CRITICAL)  # the SDK logs bodies, tokens among them


class EgressWebClient(WebClient):
    """One call's client: no connections of its own, no retries, no proxy from the environment, no token in its state.

    Made anew for each call (8 us), so that nothing is shared between threads.
    """

    def __init__(self, ctx: Context) -> None:
        super().__init__(base_url=ctx.link.base_url, logger=_SILENT, retry_handlers=[])
        self.proxy = None  # the constructor has read HTTPS_PROXY
        self._ctx = ctx

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:
        """The SDK's one door to the network (slack_sdk 3.47; a test counts what goes through it).

        A failed call is raised here as an error of ours: the SDK's own holds the whole answer in its text.
        """
        ctx = self._ctx
        answer = ctx.egress.send(
            req.get_method(),
            url,
            headers=dict(req.header_items()),
            body=req.data if isinstance(req.data, bytes) else None,
            deadline=ctx.deadline,
            credentials=bearer(ctx.link.access_token),
            hosts=ctx.link.hosts,
        )
        checked(answer, now=ctx.deadline.clock.now())
        return {"status": answer.status, "headers": answer.headers, "body": answer.text}
