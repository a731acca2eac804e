"""One origin (host and port) of a vendor: finds the operation, counts the request, carries out faults, answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from flow8_lab.effects import Journal, Seen
from flow8_lab.faults import Fault, Faults
from flow8_lab.http import DROP, HTML, JSON, TEXT, Reply, Request

Handler = Callable[[Request], Reply]

HTML_FAULT = b"<html><head><title>Bad gateway</title></head><body><h1>The upstream did not answer</h1></body></html>"


@dataclass(frozen=True)
class Route:
    """`method` "*" takes any. `path` may hold `{name}` for one segment and end in `{name...}` for the rest.
    `operation` may depend on the request, as where one token endpoint serves several grant types."""

    method: str
    path: str
    operation: str | Callable[[Request], str]
    handler: Handler


class Refusals(Protocol):
    """How a vendor says no, for faults on demand."""

    def throttled(self, retry_after: float, /) -> Reply: ...

    def failure(self, error: str, status: int | None) -> Reply: ...


class Vendor(Refusals, Protocol):
    """And to what it does not have."""

    def unknown(self, request: Request) -> Reply: ...


class Origin:
    """Answers the requests of one origin; see `flow8_lab.http.App`."""

    def __init__(
        self, service: str, routes: Sequence[Route], *, journal: Journal, faults: Faults, vendor: Vendor
    ) -> None:
        self.service = service
        self._journal = journal
        self._faults = faults
        self._vendor = vendor
        self._exact = {(route.method, route.path): route for route in routes if "{" not in route.path}
        self._patterns = [(route, _pattern(route.path)) for route in routes if "{" in route.path]
        self._waiting: set[asyncio.Task[Reply]] = set()

    def connected(self) -> int:
        return self._journal.connected(self.service)

    def __call__(self, request: Request) -> Reply | Awaitable[Reply]:
        route = self._find(request)
        if route is None:
            self._journal.arrived(self.service, "unknown", request).status = 404
            return self._vendor.unknown(request)
        operation = route.operation if isinstance(route.operation, str) else route.operation(request)
        seen = self._journal.arrived(self.service, operation, request)
        fault = self._faults.take(self.service, operation, request.target, request.body) if self._faults else None
        if fault is not None:
            return self._begin(fault, route, seen)
        reply = route.handler(request)
        seen.status = reply.status
        return reply

    def cancel(self) -> None:
        """Give up the requests that a fault still delays: their connections are dropped and they have no effect."""
        for task in self._waiting:
            task.cancel()

    def _find(self, request: Request) -> Route | None:
        method = "GET" if request.method == "HEAD" else request.method
        found = self._exact.get((method, request.path)) or self._exact.get(("*", request.path))
        if found is not None:
            return found
        for route, pattern in self._patterns:
            match = pattern.fullmatch(request.path) if route.method in ("*", method) else None
            if match:
                request.params = match.groupdict()
                return route
        return None

    def _begin(self, fault: Fault, route: Route, seen: Seen) -> Awaitable[Reply]:
        # A task of its own: what was sent goes on at the vendor though the client has hung up.
        task = asyncio.get_running_loop().create_task(self._carry_out(fault, route, seen))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return task

    async def _carry_out(self, fault: Fault, route: Route, seen: Seen) -> Reply:
        if fault.delay_ms:
            await asyncio.sleep(fault.delay_ms / 1000)
        reply = faulty_reply(fault, self._vendor)
        if reply is None:
            reply = spoiled(fault, route.handler(seen.request))
            if fault.answer_delay_ms:
                await asyncio.sleep(fault.answer_delay_ms / 1000)
        seen.status = 0 if reply.dropped else reply.status
        return reply


def faulty_reply(fault: Fault, refusals: Refusals) -> Reply | None:
    """The answer of a fault that lets nothing happen; None where the operation is to be carried out."""
    match fault.kind:
        case "rate_limited":
            return refusals.throttled(fault.retry_after)
        case "error":
            return refusals.failure(fault.error or "internal_error", fault.status)
        case "html":
            return Reply(fault.status or 502, HTML_FAULT, HTML)
        case "reply":
            return _literal(fault)
        case "drop_request":
            return DROP
        case _:
            return None


def spoiled(fault: Fault, reply: Reply) -> Reply:
    """What becomes of an answer whose operation was carried out."""
    match fault.kind:
        case "drop_answer":
            return DROP
        case "truncate":
            return replace(reply, cut=len(reply.body) // 2)
        case "drip":
            pieces = (bytes([byte]) for byte in reply.body)
            return replace(reply, pieces=pieces, length=len(reply.body), pause_s=fault.pause_ms / 1000)
        case _:
            return reply


def _literal(fault: Fault) -> Reply:
    headers = tuple((name, str(value)) for name, value in fault.headers.items() if name.lower() != "content-type")
    content_type = next((str(v) for name, v in fault.headers.items() if name.lower() == "content-type"), None)
    status = fault.status or 200
    if isinstance(fault.body, str):
        return Reply(status, fault.body.encode(), content_type or TEXT, headers)
    if fault.body is None:
        return Reply(status, b"", content_type or TEXT, headers)
    return Reply(status, json.dumps(fault.body).encode(), content_type or JSON, headers)


def _pattern(path: str) -> re.Pattern[str]:
    escaped = re.escape(path).replace(r"\{", "{").replace(r"\}", "}").replace(r"\.\.\.", "...")
    rest = re.sub(r"\{(\w+)\.\.\.\}", r"(?P<\1>.*)", escaped)
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", rest))
