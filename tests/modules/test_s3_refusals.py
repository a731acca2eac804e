"""What `s3-upload` makes of answers that the S3 server at hand never gives: a server that answers by a script."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flow8_core import errors
from flow8_core.egress import Egress, EgressSettings
from flow8_modules import Clients, Context
from flow8_modules.integrations.s3.put import PART
from flow8_modules.integrations.s3.upload import s3_upload
from flow8_modules.testing import Noted, context

KEYS = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "x" * 40}
STORED = (200, "")
STARTED = (200, "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")
COMPLETED = (200, '<CompleteMultipartUploadResult><ETag>"abc-2"</ETag></CompleteMultipartUploadResult>')
GONE = (204, "")


def refusal(code: str, status: int, **more: str) -> tuple[int, str]:
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in more.items())
    return status, f"<Error><Code>{code}</Code><Message>vendor's words</Message>{inner}</Error>"


class Scripted:
    """An S3 server that gives its answers in turn, and notes what it was asked. An answer of None hangs up."""

    def __init__(self) -> None:
        self.script: list[tuple[int, str] | None] = []
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                scripted.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                reply = scripted.script.pop(0)
                if reply is None:
                    self.close_connection = True
                    return
                self.send_response(reply[0])
                if not reply[1]:
                    self.send_header("ETag", '"abc"')
                if reply[0] != 204:
                    self.send_header("Content-Length", str(len(reply[1])))
                self.end_headers()
                self.wfile.write(reply[1].encode())

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Silence."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def methods(self) -> list[str]:
        return [method for method, _, _ in self.asked]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    server = Scripted()

    yield server

    server.close()


@pytest.fixture
def ctx(server: Scripted, tmp_path: Path, noted: Noted, clients: Clients) -> Iterator[Context]:
    config = {"provider": "s3", "bucket": "flow8-artifacts", "endpoint": f"http://{server.place}", **KEYS}
    with Egress(EgressSettings(allow=(server.place,))) as egress:
        yield context(tmp_path, egress=egress, components={"storage": config}, noted=noted, clients=clients)


def upload(ctx: Context, **inputs: Any) -> Any:
    return s3_upload(s3_upload.parse({"key": "a.txt", "content": "x", **inputs}), ctx)


def failure(ctx: Context, **inputs: Any) -> errors.Flow8Error:
    with pytest.raises(errors.Flow8Error) as caught:
        upload(ctx, **inputs)
    return caught.value


NO_ACL = refusal("AccessControlListNotSupported", 400)


def test_a_bucket_without_acls_is_private_by_itself(ctx: Context, server: Scripted, noted: Noted) -> None:
    server.script = [NO_ACL, STORED]

    uploaded = upload(ctx, acl="private", content="hello")

    assert uploaded.size == 5
    assert ["x-amz-acl" in headers for _, _, headers in server.asked] == [True, False]
    assert [headers["content-length"] for _, _, headers in server.asked] == ["5", "5"]
    assert [level for level, _, _ in noted.events] == ["warning"]


def test_a_bucket_without_acls_takes_a_large_file_too(ctx: Context, server: Scripted, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (PART + 1))
    server.script = [NO_ACL, STARTED, STORED, STORED, COMPLETED]

    uploaded = upload(ctx, acl="private", content=None, file_path="large")

    assert (uploaded.etag, uploaded.size) == ("abc-2", PART + 1)


def test_any_other_acl_that_is_not_taken_is_the_authors_to_change(ctx: Context, server: Scripted) -> None:
    server.script = [NO_ACL]

    failed = failure(ctx, acl="bucket-owner-read")

    assert (failed.code, failed.path) == ("provider_rejected", "input_mapping.acl")


@pytest.mark.parametrize(
    ("answer", "code", "retryable"),
    [
        (refusal("PermanentRedirect", 301, Endpoint="x.s3-eu-west-1.amazonaws.com"), "provider_rejected", False),
        (refusal("AuthorizationHeaderMalformed", 400, Region="eu-west-1"), "provider_rejected", False),
        (refusal("IllegalLocationConstraintException", 400), "provider_rejected", False),
        (refusal("SlowDown", 503), "rate_limit_exceeded", True),
        (refusal("InternalError", 500), "provider_unavailable", True),
        (refusal("ConditionalRequestConflict", 409), "conflict", True),
        (refusal("RequestTimeout", 400), "provider_unavailable", True),
        ((502, "<html>bad gateway</html>"), "provider_unavailable", True),
        ((400, ""), "provider_rejected", False),
        ((400, "<Error><Code>"), "provider_rejected", False),
    ],
)
def test_no_refusal_is_followed_by_a_second_request(
    ctx: Context, server: Scripted, answer: tuple[int, str], code: str, retryable: bool
) -> None:
    server.script = [answer]

    failed = failure(ctx)

    assert (failed.code, failed.retryable) == (code, retryable)
    assert server.methods == ["PUT"]
    assert "vendor's words" not in failed.message


def test_a_lost_answer_is_doubtful_and_nothing_is_sent_twice(ctx: Context, server: Scripted) -> None:
    server.script = [None]

    failed = failure(ctx)

    assert (failed.code, failed.ambiguous) == ("provider_unavailable", True)
    assert server.methods == ["PUT"]


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([STARTED, STORED, refusal("InternalError", 500), GONE], "provider_unavailable"),
        ([STARTED, STORED, STORED, (200, refusal("InternalError", 200)[1]), GONE], "provider_unavailable"),
        ([STARTED, STORED, STORED, refusal("ConditionalRequestConflict", 409), GONE], "conflict"),
        ([STARTED, None, GONE], "provider_unavailable"),
    ],
)
def test_an_upload_that_fails_gives_its_parts_back(
    ctx: Context, server: Scripted, tmp_path: Path, script: list[Any], code: str
) -> None:
    (tmp_path / "large").write_bytes(b"x" * (PART + 1))
    server.script = list(script)

    failed = failure(ctx, content=None, file_path="large", if_absent=True)

    assert failed.code == code
    assert server.methods[-1] == "DELETE"
    assert "uploadId=u1" in server.asked[-1][1]


def test_parts_that_cannot_be_given_back_are_remarked_upon(
    ctx: Context, server: Scripted, tmp_path: Path, noted: Noted
) -> None:
    (tmp_path / "large").write_bytes(b"x" * (PART + 1))
    server.script = [STARTED, refusal("AccessDenied", 403), refusal("AccessDenied", 403)]

    assert failure(ctx, content=None, file_path="large").code == "access_denied"
    assert [event for _, event, _ in noted.events] == ["an unfinished upload stays behind"]


def test_what_is_signed_is_what_is_sent(ctx: Context, server: Scripted) -> None:
    server.script = [STORED]

    upload(ctx, key="ä ö+&?#%20~.bin", metadata={"a": "b"})

    [(_, path, headers)] = server.asked
    assert path == "/flow8-artifacts/%C3%A4%20%C3%B6%2B%26%3F%23%2520~.bin"
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/")
    assert len(headers["x-amz-content-sha256"]) == 64
    assert not {"transfer-encoding", "x-amz-trailer", "x-amz-security-token"} & set(headers)


@pytest.mark.parametrize(
    ("page", "code"), [("<html>", "provider_unavailable"), ("<html></html>", "vendor_bad_response")]
)
def test_a_page_in_place_of_an_answer_is_none(ctx: Context, server: Scripted, page: str, code: str) -> None:
    server.script = [(200, page)]

    failed = failure(ctx)

    assert (failed.code, failed.ambiguous) == (code, True)
