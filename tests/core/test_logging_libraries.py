"""The real libraries, at DEBUG with their pins lifted, against a local server: no canary comes out of the log."""

from __future__ import annotations

import http.server
import io
import json
import logging
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import botocore.config
import botocore.exceptions
import pytest
import requests
import requests_oauthlib
import slack_sdk
import slack_sdk.errors
import trustme
import urllib3

from flow8_core import redaction
from flow8_core.logging import configure
from flow8_core.secret import Secret
from tests.core.test_logging import _logging_restored  # noqa: F401  # a fixture

CLIENT_SECRET = "canary/client+secret=1"
CODE = "canary-code-0123456789"
ACCESS = "canary.access.token.0123456789"
REFRESH = "canary-refresh-0123456789"
ROTATED = "canary-rotated-0123456789"
SLACK = "xoxb-" + "canary-123456-abcdef"
AWS_ID = "AKIA" + "CANARYCANARY2345"
AWS_SECRET = "canary/aws/secret/0123456789/0123456789ab"
AWS_SESSION = "canary/session//token+0123456789=="
CANARIES = (CLIENT_SECRET, CODE, ACCESS, REFRESH, ROTATED, SLACK, AWS_ID, AWS_SECRET, AWS_SESSION)


class Vendor(http.server.BaseHTTPRequestHandler):
    """Answers everything with everything that a vendor might say."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        reply: dict[str, object] = {
            "ok": True,
            "access_token": ACCESS,
            "refresh_token": ROTATED,
            "token_type": "bearer",
        }
        if "bad" in self.path:
            reply |= {"ok": False, "error": f"token {SLACK} is bad"}
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Echo", f"Bearer {ACCESS}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815  # the names that http.server looks for

    def do_PUT(self) -> None:
        self.send_response(200)
        self.send_header("ETag", '"0123"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ca") / "ca.pem"


@pytest.fixture(scope="module")
def vendor(ca_file: Path) -> Iterator[str]:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    yield f"https://127.0.0.1:{server.server_port}"

    server.shutdown()
    server.server_close()
    thread.join()


def use_requests_oauthlib(url: str, ca_file: Path) -> None:
    with requests_oauthlib.OAuth2Session("client", redirect_uri="https://flow8.example/auth/callback/x") as session:
        session.trust_env = False
        session.verify = str(ca_file)
        session.fetch_token(f"{url}/token", code=CODE, client_secret=CLIENT_SECRET, include_client_id=True)
        session.get(f"{url}/me?access_token={ACCESS}")
        session.refresh_token(f"{url}/token", refresh_token=REFRESH, client_id="client", client_secret=CLIENT_SECRET)


def use_slack_sdk(url: str, ca_file: Path) -> None:
    client = slack_sdk.WebClient(SLACK, base_url=f"{url}/api/", ssl=ssl.create_default_context(cafile=str(ca_file)))
    client.proxy = None
    client.chat_postMessage(channel="#c", text="hello")
    client.oauth_v2_access(client_id="client", client_secret=CLIENT_SECRET, code=CODE)
    try:
        client.api_call("bad")
    except slack_sdk.errors.SlackApiError:
        logging.getLogger("slack_sdk").exception("as a careless caller logs it")


def use_boto3(url: str, ca_file: Path) -> None:
    session = boto3.Session(AWS_ID, AWS_SECRET, aws_session_token=AWS_SESSION, region_name="eu-central-1")
    config = botocore.config.Config(retries={"total_max_attempts": 1}, proxies={}, s3={"addressing_style": "path"})
    client = session.client("s3", endpoint_url=url, verify=str(ca_file), config=config)
    client.put_object(Bucket="bucket", Key="key", Body=b"x")
    presigned = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
    logging.getLogger("boto3").debug("presigned %s", presigned)
    client.close()


def use_urllib3(url: str, ca_file: Path) -> None:
    with urllib3.PoolManager(ca_certs=str(ca_file)) as pool:
        pool.request(
            "GET",
            f"{url}/auth/callback?code={CODE}&access_token={ACCESS}",
            headers={"Authorization": f"Bearer {ACCESS}"},
        )


def use_requests(url: str, ca_file: Path) -> None:
    with requests.Session() as session:
        session.trust_env = False
        try:
            session.post(
                f"{url}/x?access_token={ACCESS}", data={"refresh_token": REFRESH}, verify=str(ca_file.parent / "no")
            )
        except OSError:
            logging.getLogger("requests").exception("as a careless caller logs it")
        try:
            session.get(f"{url}/x?access_token={ACCESS}", verify=True)
        except requests.RequestException:
            logging.getLogger("requests").exception("as a careless caller logs it")


USES = {
    "requests_oauthlib": use_requests_oauthlib,
    "slack_sdk": use_slack_sdk,
    "botocore": use_boto3,
    "urllib3": use_urllib3,
    "requests": use_requests,
}


@pytest.mark.parametrize("known", [True, False], ids=["registered", "only by their shape"])
@pytest.mark.parametrize("library", USES)
def test_no_canary_comes_out_at_debug(
    vendor: str, ca_file: Path, library: str, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(redaction, "_registry", redaction.Registry())
    if known:
        for canary in CANARIES:
            Secret(canary)
    configure(stream=out, level="DEBUG", unsafe_debug=True)

    USES[library](vendor, ca_file)

    records = [json.loads(line) for line in out.getvalue().splitlines()]
    assert any(str(record["component"]).startswith(library) for record in records)
    for canary in CANARIES:
        for form in (canary, requests.utils.quote(canary, safe="")):
            assert form not in out.getvalue()
