"""The real vendor SDKs, unpatched, over one egress: they work, share connections, and cannot get around it."""

from __future__ import annotations

import gzip
import io
import json
import ssl
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flow8_core.clock import Deadline
from flow8_core.egress import Egress, Hosts
from flow8_core.errors import EgressDenied, ExecutionTimeout, ProviderUnavailable, VendorBadResponse
from tests.egress.adapters import BotoSession, MsalHttp, google_http, slack_client
from tests.egress.conftest import within
from tests.egress.servers import Peer, Server, always, echo, once

EgressTo = Callable[..., Egress]
Serve = Callable[..., Server]
JSON = {"Content_Type": "application/json"}
TOKEN = b'{"access_token":"at","refresh_token":"rt","token_type":"Bearer","expires_in":3600}'


@pytest.fixture
def secure(serve: Serve, server_tls: ssl.SSLContext) -> Callable[..., Server]:
    return lambda handler: serve(handler, tls=server_tls)


# ---------------------------------------------------------------------------------------------------- requests-oauthlib


def oauth_session(egress: Egress, deadline: Deadline, url: str) -> Any:
    from requests_oauthlib import OAuth2Session

    session = OAuth2Session("client")
    egress.guard(session, deadline=deadline, hosts=Hosts.of_url(url))
    return session


def test_requests_oauthlib_exchanges_and_refreshes(
    egress_to: EgressTo, secure: Callable[..., Server], ca_file: Path, soon: Deadline
) -> None:
    server = secure(always(200, TOKEN, **JSON))
    session = oauth_session(egress_to(server, ca_file=ca_file), soon, server.url())

    exchanged = session.fetch_token(server.url("/token"), code="c", client_secret="s", include_client_id=True)
    refreshed = session.refresh_token(server.url("/token"), refresh_token="rt", auth=("client", "s"))

    assert (exchanged["access_token"], refreshed["refresh_token"]) == ("at", "rt")
    assert b"grant_type=authorization_code" in server.seen[0].body
    assert b"grant_type=refresh_token" in server.seen[1].body
    assert server.accepted == 1


def test_a_token_endpoint_that_redirects_gets_no_second_look(
    egress_to: EgressTo, secure: Callable[..., Server], ca_file: Path, soon: Deadline
) -> None:
    thief = secure(always(200, TOKEN, **JSON))
    server = secure(always(307, TOKEN, Location=thief.url("/token"), **JSON))
    session = oauth_session(egress_to(server, thief, ca_file=ca_file), soon, server.url())

    session.refresh_token(server.url("/token"), refresh_token="rt")

    assert (len(server.seen), thief.accepted) == (1, 0)


def test_a_session_for_one_host_reaches_no_other(
    egress_to: EgressTo, secure: Callable[..., Server], soon: Deadline
) -> None:
    server, other = secure(echo), secure(echo)
    session = oauth_session(egress_to(server, other), soon, server.url())

    with pytest.raises(EgressDenied):
        session.request("POST", other.url(), data={"client_secret": "s"}, withhold_token=True)

    assert other.accepted == 0


def test_requests_reads_streams_text_and_errors(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(always(404, gzip.compress("fehlt: ü".encode()), Content_Encoding="gzip", Content_Type="text/plain"))
    session = egress_to(server).session(deadline=soon)

    whole = session.get(server.url("/a?b=c"), params={"d": "e"})
    with session.get(server.url(), stream=True) as stream:
        blocks = list(stream.iter_content(3))

    assert (whole.status_code, whole.ok, whole.reason) == (404, False, "Whatever")
    assert whole.content.decode() == "fehlt: ü"
    assert b"".join(blocks) == whole.content
    assert server.seen[0].target == "/a?b=c&d=e"
    assert server.accepted == 1


def test_a_timeout_of_requests_shortens_the_deadline_and_cannot_lengthen_it(egress_to: EgressTo, serve: Serve) -> None:
    server = serve(lambda peer: peer.server.done.wait(5))
    egress = egress_to(server)

    with pytest.raises(ExecutionTimeout):
        egress.session(deadline=within(60)).get(server.url(), timeout=0.1)
    with pytest.raises(ExecutionTimeout):
        egress.session(deadline=within(0.1)).get(server.url(), timeout=(60, 60))


# ------------------------------------------------------------------------------------------------------------ slack_sdk


def test_slack_sdk_posts_over_one_connection(
    egress_to: EgressTo, secure: Callable[..., Server], ca_file: Path, soon: Deadline
) -> None:
    server = secure(always(200, b'{"ok":true,"ts":"1.2"}', **JSON))
    client = slack_client(egress_to(server, ca_file=ca_file), server.url("/api/"), soon)

    answers = [client.chat_postMessage(channel="C1", text=f"message {n}") for n in range(3)]

    assert [answer["ts"] for answer in answers] == ["1.2"] * 3
    assert server.seen[0].headers["Authorization"] == "Bearer xoxb-not-a-token"
    assert b"message+0" in server.seen[0].body or b"message 0" in server.seen[0].body
    assert server.accepted == 1


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (always(200, b'{"ok":false,"error":"channel_not_found"}', **JSON), "channel_not_found"),
        (always(429, b"slow down", Retry_After="7"), "7"),
        (always(503, b"<html>"), "503"),
    ],
)
def test_slack_sdk_sees_errors_as_it_expects_them(
    *, egress_to: EgressTo, serve: Serve, soon: Deadline, handler: Any, error: str
) -> None:
    from slack_sdk.errors import SlackApiError

    server = serve(handler)

    with pytest.raises(SlackApiError) as failed:
        slack_client(egress_to(server), server.url("/api/"), soon).auth_test()

    response = failed.value.response
    assert error in (response.get("error"), response.headers.get("Retry-After"), str(response.status_code))
    assert len(server.seen) == 1, "nothing is sent twice"


def test_slack_sdk_lets_our_errors_through(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(once(b""))

    with pytest.raises(ProviderUnavailable) as failed:
        slack_client(egress_to(server), server.url("/api/"), soon).chat_postMessage(channel="C1", text="x")

    assert failed.value.ambiguous
    assert len(server.seen) == 1


# ----------------------------------------------------------------------------------------------------------------- msal


def msal_server(base: Callable[[], str]) -> Callable[[Peer], None]:
    def handle(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.method == "GET":
                body = {
                    "issuer": f"{base()}/tenant/v2.0",
                    "authorization_endpoint": f"{base()}/tenant/oauth2/v2.0/authorize",
                    "token_endpoint": f"{base()}/tenant/oauth2/v2.0/token",
                }
                peer.reply(200, json.dumps(body).encode(), **JSON)
            else:
                peer.reply(200, TOKEN, **JSON)

    return handle


def test_msal_discovers_and_refreshes(
    egress_to: EgressTo, secure: Callable[..., Server], ca_file: Path, soon: Deadline
) -> None:
    import msal

    server = secure(echo)
    server.handler = msal_server(lambda: server.url("").rstrip("/"))
    egress = egress_to(server, ca_file=ca_file)
    app = msal.ConfidentialClientApplication(
        "client",
        client_credential="s",
        authority=server.url("/tenant"),
        http_client=MsalHttp(egress, soon),
        instance_discovery=False,
    )

    answer = app.acquire_token_by_refresh_token("rt", ["User.Read"])

    assert answer["access_token"] == "at"
    assert b"grant_type=refresh_token" in server.seen[-1].body
    assert server.accepted == 1


# ------------------------------------------------------------------------------------------------------ googleapiclient


def google_service(root: str) -> Any:
    from googleapiclient.discovery import build_from_document

    document = {
        "name": "notes",
        "version": "v1",
        "rootUrl": root,
        "servicePath": "",
        "baseUrl": root,
        "batchPath": "batch",
        "resources": {
            "notes": {
                "methods": {
                    "insert": {
                        "id": "notes.insert",
                        "path": "notes/{folder}",
                        "httpMethod": "POST",
                        "parameters": {"folder": {"type": "string", "location": "path", "required": True}},
                        "parameterOrder": ["folder"],
                        "request": {"$ref": "Note"},
                        "response": {"$ref": "Note"},
                        "supportsMediaUpload": True,
                        "mediaUpload": {
                            "accept": ["*/*"],
                            "protocols": {"resumable": {"multipart": True, "path": "/upload/notes/{folder}"}},
                        },
                    }
                }
            }
        },
        "schemas": {"Note": {"id": "Note", "type": "object", "properties": {"text": {"type": "string"}}}},
    }
    return build_from_document(document, http=object())


def test_googleapiclient_calls_and_uploads(
    egress_to: EgressTo, secure: Callable[..., Server], ca_file: Path, soon: Deadline
) -> None:
    from googleapiclient.http import MediaIoBaseUpload

    def handle(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            if seen.target.startswith("/upload/notes") and seen.method == "POST":
                peer.reply(200, Location=peer.server.url("/session/1"))
            elif "Content-Range" in seen.headers and not seen.headers["Content-Range"].endswith("-599999/600000"):
                peer.reply(308, Range=f"bytes=0-{seen.headers['Content-Range'].split('-')[1].split('/')[0]}")
            else:
                peer.reply(200, b'{"text":"stored"}', **JSON)

    server = secure(handle)
    http = google_http(egress_to(server, ca_file=ca_file), server.url("/"), soon)
    notes = google_service(server.url("/")).notes()
    media = MediaIoBaseUpload(io.BytesIO(b"x" * 600_000), "text/plain", chunksize=262_144, resumable=True)

    plain = notes.insert(folder="ä/b", body={"text": "t"}).execute(http=http, num_retries=0)
    upload = notes.insert(folder="f", body={"text": "t"}, media_body=media).execute(http=http, num_retries=0)

    assert (plain, upload) == ({"text": "stored"}, {"text": "stored"})
    assert server.seen[0].target == "/notes/%C3%A4%2Fb?alt=json"
    assert sum(len(seen.body) for seen in server.seen if seen.method == "PUT") == 600_000
    assert {seen.headers["Authorization"] for seen in server.seen} == {"Bearer ya29.not-a-token"}
    assert server.accepted == 1


def test_googleapiclient_takes_the_token_to_no_host_but_the_links(
    egress_to: EgressTo, serve: Serve, soon: Deadline
) -> None:
    server, other = serve(always(200, b"{}", **JSON)), serve(always(200, b"{}", **JSON))
    http = google_http(egress_to(server, other), server.url("/"), soon)

    with pytest.raises(EgressDenied):
        google_service(other.url("/")).notes().insert(folder="f", body={}).execute(http=http, num_retries=0)

    assert other.seen == []


def test_googleapiclient_sees_errors_as_it_expects_them(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    from googleapiclient.errors import HttpError

    server = serve(always(403, b'{"error":{"code":403,"message":"no"}}', Retry_After="9", **JSON))

    with pytest.raises(HttpError) as failed:
        google_service(server.url("/")).notes().insert(folder="f", body={}).execute(
            http=google_http(egress_to(server), server.url("/"), soon), num_retries=0
        )

    assert (failed.value.status_code, failed.value.resp["retry-after"]) == (403, "9")
    assert len(server.seen) == 1


# ------------------------------------------------------------------------------------------------------------- botocore


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A real S3 server's host:port."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@cache
def boto() -> Any:
    """One session: each new one reads the service models again."""
    import botocore.session

    return botocore.session.Session()


def s3_client(egress: Egress, endpoint: str, deadline: Deadline) -> Any:
    from botocore.config import Config

    client = boto().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="c4nary-secret-c4nary-secret-c4nary-secre",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    client._endpoint.http_session = BotoSession(egress, deadline, Hosts.of_url(endpoint))
    return client


def test_botocore_stores_and_reads_through_the_egress(egress_to: EgressTo, moto: str, soon: Deadline) -> None:
    from boto3.s3.transfer import TransferConfig
    from s3transfer.manager import TransferManager

    client = s3_client(egress_to(moto), f"http://{moto}", soon)
    large = bytes(range(256)) * (12 << 12)  # 12 MiB
    packed = gzip.compress(b"packed by its owner")
    client.create_bucket(Bucket="bucket")

    client.put_object(Bucket="bucket", Key="small/ä b", Body=b"data", ContentType="text/plain")
    client.put_object(Bucket="bucket", Key="two", Body=io.BytesIO(large[: 2 << 20]))
    client.put_object(Bucket="bucket", Key="packed", Body=packed, ContentEncoding="gzip")
    with TransferManager(client, TransferConfig(use_threads=False, multipart_threshold=8 << 20)) as manager:
        manager.upload(io.BytesIO(large), "bucket", "large").result()
    streamed = client.get_object(Bucket="bucket", Key="large")["Body"]
    first, rest = streamed.read(1000), b"".join(streamed.iter_chunks(65_536))

    assert client.get_object(Bucket="bucket", Key="small/ä b")["Body"].read() == b"data"
    assert client.get_object(Bucket="bucket", Key="two")["Body"].read() == large[: 2 << 20]
    assert client.get_object(Bucket="bucket", Key="packed")["Body"].read() == packed
    assert first + rest == large
    assert client.head_object(Bucket="bucket", Key="large")["ContentLength"] == len(large)
    assert {item["Key"] for item in client.list_objects_v2(Bucket="bucket")["Contents"]} == {
        "small/ä b",
        "two",
        "packed",
        "large",
    }


def test_botocore_sees_errors_as_it_expects_them(egress_to: EgressTo, moto: str, soon: Deadline) -> None:
    client = s3_client(egress_to(moto), f"http://{moto}", soon)

    with pytest.raises(client.exceptions.NoSuchBucket):
        client.list_objects_v2(Bucket="no-such-bucket")
    with pytest.raises(client.exceptions.ClientError, match="404"):
        client.head_object(Bucket="no-such-bucket", Key="k")


def test_botocore_lets_our_errors_through(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    hangs_up, cut = serve(once(b"")), serve(once(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort"))
    egress = egress_to(hangs_up, cut)

    with pytest.raises(ProviderUnavailable) as failed:
        s3_client(egress, hangs_up.url(), soon).put_object(Bucket="bucket", Key="k", Body=b"data")
    with pytest.raises(EgressDenied):
        s3_client(egress, "http://169.254.169.254/", soon).list_buckets()
    body = s3_client(egress, cut.url(), soon).get_object(Bucket="bucket", Key="k")["Body"]
    with pytest.raises(VendorBadResponse, match="cut off"):
        body.read()

    assert failed.value.ambiguous
    assert len(hangs_up.seen) == 1


def test_botocore_asks_before_it_sends_much_and_honours_a_refusal(
    egress_to: EgressTo, serve: Serve, soon: Deadline
) -> None:
    def refuse(peer: Peer) -> None:
        if peer.head() is not None:
            peer.reply(403, b"<Error><Code>AccessDenied</Code></Error>", Content_Type="application/xml")

    server = serve(refuse)
    client = s3_client(egress_to(server), server.url(), soon)

    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.put_object(Bucket="bucket", Key="k", Body=b"x" * (2 << 20))

    assert server.heads[0].headers["Expect"] == "100-continue"
