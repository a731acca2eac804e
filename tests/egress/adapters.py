"""The five ways in which SDKs make requests, each on `Egress` alone: proof that its two calls are enough.

The adapters that ship live with their integrations; these are the smallest that work, but for Google's, which ships.
"""

from __future__ import annotations

import email.message
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

from flow8_core.clock import Deadline
from flow8_core.egress import Egress, Hosts
from flow8_modules.integrations.google.transport import GoogleHttp
from flow8_modules.testing import context, link_for


def call_send(egress: Egress, url: str, deadline: Deadline) -> object:
    return egress.send("GET", url, deadline=deadline, redirects=5)


def call_session(egress: Egress, url: str, deadline: Deadline) -> object:
    return egress.session(deadline=deadline).get(url)


def call_slack(egress: Egress, url: str, deadline: Deadline) -> object:
    return slack_client(egress, url, deadline).api_call("auth.test")


def call_msal(egress: Egress, url: str, deadline: Deadline) -> object:
    return MsalHttp(egress, deadline).post(url, data={"grant_type": "refresh_token"})


def call_google(egress: Egress, url: str, deadline: Deadline) -> object:
    return google_http(egress, url, deadline).request(url)


def google_http(egress: Egress, url: str, deadline: Deadline) -> GoogleHttp:
    """The one that ships, for a call with a link whose token may go to the host of `url`."""
    link = link_for("google", token="ya29.not-a-token", base_url=url)
    clock = deadline.clock
    return GoogleHttp(context(Path("/nowhere"), egress=egress, link=link, timeout_s=deadline.remaining(), clock=clock))


def call_boto(egress: Egress, url: str, deadline: Deadline) -> object:
    from botocore.awsrequest import AWSPreparedRequest, HeadersDict

    return BotoSession(egress, deadline).send(AWSPreparedRequest("GET", url, HeadersDict(), None, True))


CALLS: dict[str, Callable[[Egress, str, Deadline], object]] = {
    "Egress.send": call_send,
    "requests": call_session,
    "slack_sdk": call_slack,
    "msal": call_msal,
    "googleapiclient": call_google,
    "botocore": call_boto,
}


def slack_client(egress: Egress, base_url: str, deadline: Deadline) -> Any:
    """A slack_sdk `WebClient` whose requests go through the egress."""
    import logging

    from slack_sdk.web.client import WebClient

    class Client(WebClient):
        def _perform_urllib_http_request_internal(self, url: str, req: Any) -> dict[str, Any]:
            response = egress.send(
                req.get_method(), url, headers=dict(req.header_items()), body=req.data, deadline=deadline
            )
            if response.status >= 300:
                headers = email.message.Message()
                for name, value in response.headers.items():
                    headers[name] = value
                raise HTTPError(url, response.status, "", headers, io.BytesIO(response.body))
            return {"status": response.status, "headers": response.headers, "body": response.text}

    logger = logging.getLogger("tests.slack")
    logger.setLevel(logging.INFO)
    client = Client(token="xoxb-not-a-token", base_url=base_url, retry_handlers=[], logger=logger)
    client.proxy = None
    return client


class MsalResponse:
    def __init__(self, status_code: int, text: str, headers: Mapping[str, str]) -> None:
        self.status_code, self.text, self.headers = status_code, text, headers

    def raise_for_status(self) -> None:
        if self.status_code >= 400:
            raise RuntimeError(self.status_code)


class MsalHttp:
    """msal's `http_client`."""

    def __init__(self, egress: Egress, deadline: Deadline) -> None:
        self._egress, self._deadline = egress, deadline

    def get(self, url: str, params: Any = None, headers: Any = None, **_: Any) -> MsalResponse:
        query = f"?{urlencode(params)}" if params else ""
        return self._answer(self._egress.send("GET", url + query, headers=headers, deadline=self._deadline))

    def post(self, url: str, params: Any = None, data: Any = None, headers: Any = None, **_: Any) -> MsalResponse:
        body = data if isinstance(data, bytes) else urlencode(data or {}).encode()
        headers = {**(headers or {}), "Content-Type": "application/x-www-form-urlencoded"}
        return self._answer(self._egress.send("POST", url, headers=headers, body=body, deadline=self._deadline))

    def close(self) -> None:
        """Nothing is held."""

    @staticmethod
    def _answer(response: Any) -> MsalResponse:
        return MsalResponse(response.status, response.text, response.headers)


class BotoSession:
    """What botocore's endpoints call instead of `URLLib3Session`."""

    def __init__(self, egress: Egress, deadline: Deadline, hosts: Hosts | None = None) -> None:
        self._egress, self._deadline, self._hosts = egress, deadline, hosts

    def send(self, request: Any) -> Any:
        from botocore.awsrequest import AWSResponse

        answer = self._egress.open(
            request.method,
            request.url,
            headers=request.headers,
            body=request.body,
            deadline=self._deadline,
            hosts=self._hosts,
            decode=False,
            max_bytes=1 << 40,
        )
        response = AWSResponse(request.url, answer.status, answer.headers, answer)
        if not request.stream_output:
            _ = response.content
        return response

    def close(self) -> None:
        """Nothing is held."""
