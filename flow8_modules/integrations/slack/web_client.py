"""slack_sdk on our egress. Imported only when a Slack module is called: it imports the SDK."""

from __future__ import annotations

import json as jsonlib
import logging
from typing import Any
from urllib.request import Request

from slack_sdk.web.client import WebClient
from slack_sdk.web.slack_response import SlackResponse

from flow8_core.egress import Response
from flow8_modules import Context, bearer
from flow8_modules.integrations.slack.client import checked

_SILENT = logging.Logger("flow8.slack_sdk", level=logging.CRITICAL)  # the SDK logs bodies, tokens among them
_JSON = "application/json;charset=utf-8"


class EgressWebClient(WebClient):
    """One call's client: no connections of its own, no retries, no proxy from the environment, no token in its state.

    Made anew for each call (6 us), so that nothing is shared between threads. A failed call is raised as an error of
    ours: the SDK's own holds the whole answer in its text.
    """

    def __init__(self, ctx: Context) -> None:
        super().__init__(base_url=ctx.link.base_url, logger=_SILENT, retry_handlers=[], proxy="none")
        self.proxy = None  # with one given, the constructor has not looked for HTTPS_PROXY
        self._ctx = ctx

    def api_call(
        self,
        api_method: str,
        *,
        http_verb: str = "POST",
        json: dict[str, Any] | None = None,
        **more: Any,
    ) -> SlackResponse:
        """What the SDK's methods come to. JSON alone goes straight out: by way of urllib, which the SDK takes, it costs
        a fifth of the whole call. Forms and files take that way, to the door below, and a token of the caller's own,
        which the SDK keeps out of the body."""
        if json is None or "token" in json or http_verb != "POST" or any(more.values()):
            return super().api_call(api_method, http_verb=http_verb, json=json, **more)
        url = self.base_url + api_method
        answer, said = self._send("POST", url, {**self.headers, "Content-Type": _JSON}, jsonlib.dumps(json).encode())
        return SlackResponse(
            client=self,
            http_verb="POST",
            api_url=url,
            req_args={"headers": {}, "data": {}, "params": {}, "files": None, "json": json},
            data=said,
            headers=dict(answer.headers),
            status_code=answer.status,
        )

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:
        """The SDK's one door to the network (slack_sdk 3.47; a test counts what goes through it)."""
        body = req.data if isinstance(req.data, bytes) else None
        answer, _ = self._send(req.get_method(), url, dict(req.header_items()), body)
        return {"status": answer.status, "headers": answer.headers, "body": answer.text}

    def _send(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[Response, dict[str, Any]]:
        ctx = self._ctx
        answer = ctx.egress.send(
            method,
            url,
            headers=headers,
            body=body,
            deadline=ctx.deadline,
            credentials=bearer(ctx.link.access_token),
            hosts=ctx.link.hosts,
        )
        return answer, checked(answer, now=ctx.deadline.clock.now)
