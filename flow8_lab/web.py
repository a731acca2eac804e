"""A general HTTP vendor: an invoicing service with API keys and Idempotency-Key, and what HTTP clients stumble over.

Every route stands also under `/secure/{header,query,basic,bearer}/...`, where it wants that kind of credential. Source
for `Idempotency-Key`: draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import secrets
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flow8_lab import oauth
from flow8_lab.effects import Journal
from flow8_lab.http import HTML, TEXT, Reply, Request, json_reply, redirect
from flow8_lab.origin import Handler, Route
from flow8_lab.validate import build

SERVICE = "web"
MOST_BYTES = 256 * 1024 * 1024
MOST_ZIPPED = 64 * 1024 * 1024
BINARY = "application/octet-stream"


@dataclass(frozen=True)
class WebSettings:
    """What the control API may change: the person that invoices say is to be invited."""

    attendee: str = "user@company.com"


class Web:
    """The vendor and its charges."""

    service = SERVICE

    def __init__(self, *, origin: str, journal: Journal) -> None:
        self._origin = origin
        self._journal = journal
        self.api_key = f"lab_{secrets.token_hex(20)}"
        self.bearer = secrets.token_urlsafe(30)
        self.username = "flow8"
        self.password = secrets.token_urlsafe(18)
        self.reset(WebSettings())

    def reset(self, settings: WebSettings) -> None:
        """As it was at the start, under `settings`."""
        self.settings = settings
        self._charges: dict[str, tuple[bytes, dict[str, Any]]] = {}

    def routes(self) -> list[Route]:
        """What it answers to."""
        open_routes = [
            Route("GET", "/invoices/{id}", "invoices.get", self._invoice),
            Route("GET", "/invoices/{id}/document", "invoices.document", self._document),
            Route("POST", "/charges", "charges.create", self._charge),
            Route("*", "/echo", "echo", _echo),
            Route("*", "/status/{status}", "status", _status),
            Route("*", "/redirect", "redirect", _redirect),
            Route("GET", "/redirects/{count}", "redirects", self._redirects),
            Route("GET", "/slow", "slow", _slow),
            Route("GET", "/bytes/{count}", "bytes", _bytes),
            Route("GET", "/gzip/{count}", "gzip", _gzip),
            Route("GET", "/html", "html", lambda _: Reply(200, b"<!doctype html><title>Hello</title>", HTML)),
        ]
        checks = {
            "header": self._by_header,
            "query": self._by_query,
            "basic": self._by_basic,
            "bearer": self._by_bearer,
        }
        secure = [
            Route(route.method, f"/secure/{scheme}{route.path}", route.operation, _guarded(check, route.handler))
            for scheme, check in checks.items()
            for route in open_routes
        ]
        return open_routes + secure

    # Refusals

    def unknown(self, request: Request) -> Reply:
        """A plain 404."""
        return _problem(404, "not_found", f"There is nothing at {request.path}.")

    def throttled(self, retry_after: float) -> Reply:
        """A plain 429."""
        wait = (("Retry-After", f"{retry_after:g}"),)
        return json_reply({"error": "too_many_requests", "message": "Slow down."}, status=429, headers=wait)

    def failure(self, error: str, status: int | None) -> Reply:
        """An error of that name; 500 where no status is given."""
        return _problem(status or 500, error, "The request failed.")

    # Credentials

    def _by_header(self, request: Request) -> bool:
        return oauth.same(request.headers.get("x-api-key"), self.api_key)

    def _by_query(self, request: Request) -> bool:
        return oauth.same(request.query().get("api_key"), self.api_key)

    def _by_basic(self, request: Request) -> bool:
        expected = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return oauth.same(request.headers.get("authorization"), f"Basic {expected}")

    def _by_bearer(self, request: Request) -> bool:
        return oauth.same(request.bearer(), self.bearer)

    # Invoices and charges

    def _invoice(self, request: Request) -> Reply:
        id_ = request.params["id"]
        if id_ == "unknown":
            return _problem(404, "not_found", "There is no such invoice.")
        cents = 10_000 + zlib.crc32(id_.encode()) % 900_000
        return json_reply(
            {
                "id": id_,
                "number": f"INV-{id_}",
                "customer": {"name": "Example GmbH", "email": "accounts@example.com"},
                "amount": f"{cents / 100:.2f}",
                "currency": "EUR",
                "issued_on": "2026-04-05",
                "due_on": "2026-05-05",
                "status": "processed",
                "lines": [{"description": "Consulting", "quantity": 1, "amount": f"{cents / 100:.2f}"}],
                "attendees": [self.settings.attendee],
                "review": {"start_time": "2026-04-05T10:00:00Z", "end_time": "2026-04-05T11:00:00Z"},
                "document_url": f"{self._origin}/invoices/{id_}/document",
            }
        )

    def _document(self, request: Request) -> Reply:
        text = f"%PDF-1.4\n% Invoice {request.params['id']}, a stand-in\n%%EOF\n"
        return Reply(200, text.encode(), "application/pdf")

    def _charge(self, request: Request) -> Reply:
        """The same key and body give the first answer again; the same key with another body is refused."""
        try:
            asked = request.json()
        except ValueError:
            return _problem(400, "bad_request", "The body must be JSON.")
        key, digest = request.headers.get("idempotency-key"), hashlib.sha256(request.body).digest()
        known = self._charges.get(key) if key else None
        if known is not None and known[0] != digest:
            return _problem(422, "idempotency_mismatch", "This Idempotency-Key was used with another body.")
        if known is not None:
            return json_reply(known[1], status=201, headers=(("Idempotent-Replayed", "true"),))
        charge = {"id": f"ch_{secrets.token_hex(12)}", "status": "succeeded", "charged": asked}
        if key:
            self._charges[key] = (digest, charge)
        self._journal.effect(SERVICE, "charges.create", key=key, detail={"charge": charge})
        return json_reply(charge, status=201)

    def _redirects(self, request: Request) -> Reply:
        """So many redirects in a row, then /echo."""
        left = _number(request.params["count"], most=100)
        prefix = request.path.rpartition("/redirects/")[0]
        return redirect(f"{prefix}/redirects/{left - 1}" if left > 1 else f"{prefix}/echo")

    # For the control API

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings. Raises BadControl."""
        self.settings = build(WebSettings, changes, base=self.settings)

    def secrets(self) -> list[str]:
        """Everything that may be found nowhere but here and in sealed envelopes."""
        return [self.api_key, self.bearer, self.password]


def _guarded(check: Any, handler: Handler) -> Handler:
    def guarded(request: Request) -> Reply:
        if check(request):
            return handler(request)
        headers = (("WWW-Authenticate", 'Basic realm="lab", Bearer realm="lab"'),)
        return json_reply({"error": "unauthorized", "message": "The API key is wrong."}, status=401, headers=headers)

    return guarded


def _problem(status: int, error: str, message: str) -> Reply:
    return json_reply({"error": error, "message": message}, status=status)


def _number(text: str, *, most: int) -> int:
    return min(int(text), most) if text.isdecimal() else 0


def _echo(request: Request) -> Reply:
    body = request.body.decode("utf-8", "replace")
    try:
        parsed = json.loads(body) if request.is_json() else None
    except ValueError:
        parsed = None
    return json_reply(
        {
            "method": request.method,
            "path": request.path,
            "query": request.query(),
            "headers": request.headers,
            "body": body,
            "body_sha256": hashlib.sha256(request.body).hexdigest(),
            "json": parsed,
            "form": request.form(),
        }
    )


def _status(request: Request) -> Reply:
    """Answers with that status, and with Retry-After where the query has `retry_after`."""
    status = _number(request.params["status"], most=599)
    wait = request.query().get("retry_after")
    headers = (("Retry-After", wait),) if wait else ()
    return json_reply({"status": status}, status=status if status >= 200 else 400, headers=headers)


def _redirect(request: Request) -> Reply:
    """Sends on to `to`, with `status` (302)."""
    query = request.query()
    return redirect(query.get("to", "/echo"), status=_number(query.get("status", "302"), most=399))


def _slow(request: Request) -> Reply:
    """`bytes` (10) bytes, one each `pause_ms` (100)."""
    query = request.query()
    count = _number(query.get("bytes", "10"), most=10_000)
    pause_ms = _number(query.get("pause_ms", "100"), most=60_000)
    return Reply(200, content_type=TEXT, pieces=(b"." for _ in range(count)), length=count, pause_s=pause_ms / 1000)


def _bytes(request: Request) -> Reply:
    """So many bytes, the same at each call, never all in memory."""
    count = _number(request.params["count"], most=MOST_BYTES)
    return Reply(200, content_type=BINARY, pieces=_pieces(count), length=count)


def _pieces(count: int) -> Iterator[bytes]:
    block = bytes(range(256)) * 256
    for start in range(0, count, len(block)):
        yield block[: count - start]


def _gzip(request: Request) -> Reply:
    """So many zeros, compressed: a thousandth of them goes over the wire."""
    count = _number(request.params["count"], most=MOST_ZIPPED)
    body = gzip.compress(bytes(count), 9, mtime=0)
    return Reply(200, body, TEXT, (("Content-Encoding", "gzip"),))
