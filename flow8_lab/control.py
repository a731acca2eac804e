"""The control API: plain HTTP and JSON on a loopback port of its own, for tests, demo and benchmarks.

GET  /health                       {status, crashes, uptime_s}: a crash is a fault of the laboratory itself
GET  /description                  what `python -m flow8_lab --json` printed
GET  /effects[?service=][&items=0] what changed at the vendors, counted by operation and idempotency key
GET  /requests?service=[&operation=][&items=0]   what arrived
POST /faults {service, kind, ...}  see flow8_lab.faults;  GET, DELETE[?service=]
POST /settings {service, ...}      see each vendor's settings;  GET
POST /expire {service, refresh?}   access (or refresh) tokens end now
POST /revoke {service}             users or administrators take all grants back
POST /grants {service, scopes?, account?, expires_in?}   a grant without the dance, as a line for link import;  GET
POST /clock {advance_s}            put the laboratory's clock forward
POST /buckets {name}               make an S3 bucket
GET  /secrets                      {secrets: [...]}: whatever must be found nowhere else
POST /reset                        everything as at the start (clients and keys stay)
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from flow8_lab.clock import Clock
from flow8_lab.effects import Journal
from flow8_lab.faults import Fault, Faults
from flow8_lab.http import Reply, Request, json_reply
from flow8_lab.s3 import S3
from flow8_lab.validate import BadControl, build, shown


@dataclass(frozen=True, slots=True)
class Call:
    """A call's query and JSON body."""

    query: Mapping[str, str]
    body: Mapping[str, Any]


class Vendor(Protocol):
    """What the control API asks of every vendor."""

    service: str

    @property
    def settings(self) -> Any: ...

    def configure(self, changes: Mapping[str, Any]) -> None: ...

    def secrets(self) -> list[str]: ...


class OAuthVendor(Vendor, Protocol):
    """And of those that issue tokens."""

    def mint(self, scopes: Sequence[str], account: str | None, expires_in: int | None) -> dict[str, Any]: ...

    def expire(self, *, refresh: bool) -> int: ...

    def revoke(self) -> int: ...

    def grants(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class Order:
    """The body of /expire, /revoke and /grants."""

    service: str
    scopes: tuple[str, ...] = ()
    account: str | None = None
    expires_in: int | None = None
    refresh: bool = False


class Control:
    """Answers the control API; see `flow8_lab.http.App`."""

    def __init__(
        self,
        *,
        vendors: Sequence[Vendor],
        oauth_vendors: Sequence[OAuthVendor],
        s3: S3,
        journal: Journal,
        faults: Faults,
        clock: Clock,
        describe: Callable[[], dict[str, Any]],
        reset: Callable[[], None],
    ) -> None:
        self._vendors = {vendor.service: vendor for vendor in (*vendors, *oauth_vendors)}
        self._oauth = {vendor.service: vendor for vendor in oauth_vendors}
        self._s3 = s3
        self._journal = journal
        self._faults = faults
        self._clock = clock
        self._describe = describe
        self._reset_all = reset
        self._started = time.monotonic()

    def connected(self) -> int:
        return 0

    async def __call__(self, request: Request) -> Reply:
        try:
            handler = self._handler(request.method, request.path)
            return json_reply(await handler(Call(request.query(), _body(request))))
        except BadControl as error:
            return json_reply({"error": str(error)}, status=400)
        except json.JSONDecodeError as error:
            return json_reply({"error": f"The body is not JSON: {error}"}, status=400)

    def _handler(self, method: str, path: str) -> Callable[[Call], Awaitable[Any]]:
        handlers: Mapping[tuple[str, str], Callable[[Call], Awaitable[Any]]] = {
            ("GET", "/health"): self._health,
            ("GET", "/description"): self._description,
            ("GET", "/effects"): self._effects,
            ("GET", "/requests"): self._requests,
            ("GET", "/faults"): self._list_faults,
            ("POST", "/faults"): self._add_fault,
            ("DELETE", "/faults"): self._clear_faults,
            ("GET", "/settings"): self._show_settings,
            ("POST", "/settings"): self._change_settings,
            ("POST", "/expire"): self._expire,
            ("POST", "/revoke"): self._revoke,
            ("GET", "/grants"): self._list_grants,
            ("POST", "/grants"): self._mint,
            ("POST", "/clock"): self._advance,
            ("POST", "/buckets"): self._bucket,
            ("GET", "/secrets"): self._secrets,
            ("POST", "/reset"): self._reset,
        }
        handler = handlers.get((method, path))
        if handler is None:
            raise BadControl(f"There is no {method} {path}; there is {', '.join(map(' '.join, handlers))}.")
        return handler

    async def _health(self, _: Call) -> Any:
        crashes = [*self._journal.crashes, *(["The S3 child has exited."] if self._s3.exited else [])]
        uptime_s = round(time.monotonic() - self._started, 3)
        return {"status": "failing" if crashes else "ok", "crashes": crashes, "uptime_s": uptime_s}

    async def _description(self, _: Call) -> Any:
        return self._describe()

    async def _effects(self, call: Call) -> Any:
        wanted = call.query.get("service")
        if wanted is not None:
            return _lean(await self._effects_of(wanted), call.query)
        return {name: _lean(await self._effects_of(name), call.query) for name in (*self._vendors, "s3")}

    async def _effects_of(self, service: str) -> dict[str, Any]:
        if service == "s3" and self._s3.started:
            return dict(await self._s3.ask("/effects"))
        return self._journal.effects(self._named(service))

    async def _requests(self, call: Call) -> Any:
        service, operation = self._named(call.query.get("service", "")), call.query.get("operation")
        if service == "s3" and self._s3.started:
            return _lean(await self._s3.ask("/requests"), call.query)
        return _lean(self._journal.requests(service, operation), call.query)

    async def _list_faults(self, _: Call) -> Any:
        own = self._faults.describe()
        return {"faults": own + (await self._s3.ask("/faults") if self._s3.started else [])}

    async def _add_fault(self, call: Call) -> Any:
        fault = build(Fault, call.body)
        if self._named(fault.service) == "s3":
            return await self._s3.ask("/faults", asdict(fault))
        self._faults.add(fault)
        return {}

    async def _clear_faults(self, call: Call) -> Any:
        service = call.query.get("service")
        self._faults.clear(service)
        if self._s3.started and service in (None, "s3"):
            await self._s3.ask("/faults", method="DELETE")
        return {}

    async def _show_settings(self, _: Call) -> Any:
        return {name: shown(vendor.settings) for name, vendor in self._vendors.items()}

    async def _change_settings(self, call: Call) -> Any:
        changes = {name: value for name, value in call.body.items() if name != "service"}
        service = str(call.body.get("service", ""))
        if service not in self._vendors:
            raise BadControl(f"service must be one of {', '.join(self._vendors)}.")
        self._vendors[service].configure(changes)
        return {}

    async def _expire(self, call: Call) -> Any:
        order = build(Order, call.body)
        return {"tokens": self._issuer(order).expire(refresh=order.refresh)}

    async def _revoke(self, call: Call) -> Any:
        return {"grants": self._issuer(build(Order, call.body)).revoke()}

    async def _list_grants(self, _: Call) -> Any:
        return {name: vendor.grants() for name, vendor in self._oauth.items()}

    async def _mint(self, call: Call) -> Any:
        order = build(Order, call.body)
        return self._issuer(order).mint(order.scopes, order.account, order.expires_in)

    async def _advance(self, call: Call) -> Any:
        seconds = call.body.get("advance_s")
        if not isinstance(seconds, int | float) or seconds < 0:
            raise BadControl("advance_s must be a number of seconds, not less than 0.")
        self._clock.advance(seconds)
        return {"now": self._clock.stamp()}

    async def _bucket(self, call: Call) -> Any:
        if not isinstance(call.body.get("name"), str):
            raise BadControl("name must be the bucket's name.")
        return await self._s3.ask("/buckets", {"name": call.body["name"]})

    async def _secrets(self, _: Call) -> Any:
        own = [secret for vendor in self._vendors.values() for secret in vendor.secrets()]
        return {"secrets": [*own, self._s3.secret_access_key]}

    async def _reset(self, _: Call) -> Any:
        self._reset_all()
        if self._s3.started:
            await self._s3.ask("/reset", {})
        return {}

    def _named(self, service: str) -> str:
        if service not in (*self._vendors, "s3"):
            raise BadControl(f"service must be one of {', '.join((*self._vendors, 's3'))}.")
        return service

    def _issuer(self, order: Order) -> OAuthVendor:
        if order.service not in self._oauth:
            raise BadControl(f"service must be one of {', '.join(self._oauth)}.")
        return self._oauth[order.service]


def _body(request: Request) -> dict[str, Any]:
    body = request.json() if request.body else {}
    if not isinstance(body, dict):
        raise BadControl("The body must be a JSON object.")
    return body


def _lean(answer: dict[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
    """Without its items where the caller wants numbers only."""
    return {name: value for name, value in answer.items() if name != "items" or query.get("items") != "0"}
