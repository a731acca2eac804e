"""The S3 child: moto with signatures checked, wrapped in the laboratory's counting and faults.

Run as `python -m flow8_lab.s3_server DESCRIPTOR`, with a listening socket and one line of JSON on stdin; it ends when
stdin does. `/.lab/...` is for the laboratory (no bucket's name begins with a dot).
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from flow8_lab.effects import Journal
from flow8_lab.faults import Fault, Faults
from flow8_lab.http import REASONS, Reply, Request
from flow8_lab.origin import faulty_reply, spoiled

os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "0"  # read by moto when it is imported: every signature counts

SERVICE = "s3"
Environ = dict[str, Any]
Start = Callable[..., Any]
Wsgi = Callable[[Environ, Start], Iterable[bytes]]

STATUSES = {
    "AccessDenied": 403,
    "BadDigest": 400,
    "EntityTooLarge": 400,
    "ExpiredToken": 400,
    "InvalidAccessKeyId": 403,
    "NoSuchBucket": 404,
    "NoSuchUpload": 404,
    "OperationAborted": 409,
    "PreconditionFailed": 412,
    "RequestTimeout": 400,
    "RequestTimeTooSkewed": 403,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
}
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


class Moto:
    """moto's S3 and STS with one user, who may do everything, and her buckets."""

    def __init__(self, *, bucket: str, access_key_id: str, secret_access_key: str) -> None:
        from moto.moto_server.werkzeug_app import create_backend_app

        self._bucket = bucket
        self._keys = (access_key_id, secret_access_key)
        self._apps: dict[str, Wsgi] = {
            "s3": create_backend_app("s3").wsgi_app,
            "sts": create_backend_app("sts").wsgi_app,
        }
        self.reset()

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        scope = environ.get("HTTP_AUTHORIZATION", "").partition(",")[0].split("/")
        return self._apps["sts" if "sts" in scope else "s3"](environ, start)

    def reset(self) -> None:
        """No objects, the one user, the one bucket."""
        from moto.core.models import DEFAULT_ACCOUNT_ID as ACCOUNT
        from moto.iam.models import iam_backends
        from moto.s3.models import s3_backends

        s3_backends[ACCOUNT]["aws"].reset()
        iam = iam_backends[ACCOUNT]["aws"]
        iam.reset()
        iam.create_user("us-east-1", "flow8")
        key = iam.create_access_key("flow8")
        key.access_key_id, key.secret_access_key = self._keys
        iam.put_user_policy("flow8", "all", json.dumps(POLICY))
        self.create_bucket(self._bucket)

    def create_bucket(self, name: str) -> None:
        """Make a bucket, if it is not there yet."""
        from moto.core.models import DEFAULT_ACCOUNT_ID as ACCOUNT
        from moto.s3.models import s3_backends

        backend = s3_backends[ACCOUNT]["aws"]
        if name not in backend.buckets:
            backend.create_bucket(name, "us-east-1")


@dataclass(frozen=True, slots=True)
class _Call:
    """What a request is about."""

    operation: str
    bucket: str
    key: str

    @classmethod
    def of(cls, environ: Environ) -> _Call:
        bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        return cls(_operation(environ, query, bucket, key), bucket, key)


class Middleware:
    """Counts, carries out faults, records objects that landed, and answers `/.lab/`."""

    def __init__(self, moto: Moto) -> None:
        self._moto = moto
        self._journal = Journal(time.time)
        self._faults = Faults()
        self._lock = threading.Lock()
        self._connections: dict[str, int] = {}

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/.lab/"):
            return self._control(environ, start)
        call = _Call.of(environ)
        request = self._request(environ)
        with self._lock:
            seen = self._journal.arrived(SERVICE, call.operation, request)
            fault = self._faults.take(SERVICE, call.operation, request.target, b"")
        if fault is not None:
            time.sleep(fault.delay_ms / 1000)
        reply = faulty_reply(fault, self) if fault is not None else None
        if reply is None:
            reply = self._carry_out(environ, call)
            if fault is not None:
                reply = spoiled(fault, reply)
                time.sleep(fault.answer_delay_ms / 1000)
        seen.status = 0 if reply.dropped else reply.status
        return _send(reply, environ, start)

    def _carry_out(self, environ: Environ, call: _Call) -> Reply:
        reply = _capture(self._moto, environ)
        if reply.status == 200 and call.operation in {"PutObject", "CompleteMultipartUpload", "CopyObject"}:
            detail = {
                "bucket": call.bucket,
                "key_name": call.key,
                "bytes": int(environ.get("CONTENT_LENGTH") or 0),
                "content_type": environ.get("CONTENT_TYPE", ""),
            }
            with self._lock:
                self._journal.effect(SERVICE, call.operation, key=f"{call.bucket}/{call.key}", detail=detail)
        return reply

    def _request(self, environ: Environ) -> Request:
        port = str(environ.get("REMOTE_PORT"))
        if port not in self._connections:
            self._connections[port] = self._journal.connected(SERVICE)
        query = environ.get("QUERY_STRING", "")
        target = environ["PATH_INFO"] + (f"?{query}" if query else "")
        headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name[:5] == "HTTP_"}
        method = environ["REQUEST_METHOD"]
        return Request(method, target, environ["PATH_INFO"], query, headers, b"", self._connections[port])

    # Refusals on demand

    def throttled(self, _: float, /) -> Reply:
        """S3's way of asking for patience: 503 SlowDown."""
        return self.failure("SlowDown", 503)

    def failure(self, error: str, status: int | None) -> Reply:
        """The S3 error with the code `error`."""
        body = f"<Error><Code>{escape(error)}</Code><Message>The request failed.</Message></Error>"
        xml = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
        return Reply(status or STATUSES.get(error, 500), xml.encode(), "application/xml")

    # For the laboratory

    def _control(self, environ: Environ, start: Start) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"].removeprefix("/.lab"), environ["REQUEST_METHOD"]
        size = int(environ.get("CONTENT_LENGTH") or 0)
        body = json.loads(environ["wsgi.input"].read(size)) if size else {}
        with self._lock:
            answer: Any = self._answer(method, path, body)
        return _send(Reply(200, json.dumps(answer).encode()), environ, start)

    def _answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        match method, path:
            case "POST", "/reset":
                self._journal.reset()
                self._faults.clear()
                self._moto.reset()
            case "POST", "/buckets":
                self._moto.create_bucket(body["name"])
            case "POST", "/faults":
                self._faults.add(Fault(**body))
            case "DELETE", "/faults":
                self._faults.clear()
            case "GET", "/faults":
                return self._faults.describe()
            case "GET", "/effects":
                return self._journal.effects(SERVICE)
            case "GET", "/requests":
                return self._journal.requests(SERVICE)
        return {}


def _operation(environ: Environ, query: dict[str, list[str]], bucket: str, key: str) -> str:
    """The S3 operation's own name, as far as uploads and checks need it; else method and place."""
    method = environ["REQUEST_METHOD"]
    place = "Object" if key else "Bucket" if bucket else "Service"
    match method, place:
        case "PUT", "Object" if "partNumber" in query:
            return "UploadPart"
        case "PUT", "Object" if "HTTP_X_AMZ_COPY_SOURCE" in environ:
            return "CopyObject"
        case "POST", "Object" if "uploads" in query:
            return "CreateMultipartUpload"
        case "POST", "Object" if "uploadId" in query:
            return "CompleteMultipartUpload"
        case "DELETE", "Object" if "uploadId" in query:
            return "AbortMultipartUpload"
        case "POST", "Service":
            return "sts"
        case "PUT", "Bucket" if not query:
            return "CreateBucket"
    return f"{method.title()}{place}"


def _capture(app: Wsgi, environ: Environ) -> Reply:
    """The whole answer of a WSGI application."""
    head: dict[str, Any] = {}

    def start(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
        head.update(status=int(status.split(" ", 1)[0]), headers=headers)

    pieces = app(environ, start)
    try:
        body = b"".join(pieces)
    finally:
        if hasattr(pieces, "close"):
            pieces.close()
    return Reply(head["status"], body, "", tuple(head["headers"]))


def _send(reply: Reply, environ: Environ, start: Start) -> Iterable[bytes]:
    if reply.dropped:
        _hang_up(environ)
    headers = list(reply.headers)
    if reply.content_type:
        headers += [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body)))]
    start(f"{reply.status} {REASONS.get(reply.status, 'Unnamed')}", headers)
    if reply.pieces is not None:
        return _dripped(reply)
    return [reply.body] if reply.cut is None else _cut(reply.body[: reply.cut], environ)


def _dripped(reply: Reply) -> Iterator[bytes]:
    for piece in reply.pieces or ():
        yield piece
        time.sleep(reply.pause_s)


def _cut(body: bytes, environ: Environ) -> Iterator[bytes]:
    yield body
    _hang_up(environ)


def _hang_up(environ: Environ) -> None:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError  # which werkzeug takes for a client that left


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Serve on the inherited socket until stdin ends."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    settings = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    app = Middleware(Moto(**settings))
    make_server(
        "127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler, fd=int(sys.argv[1])
    ).serve_forever()


if __name__ == "__main__":
    main()
