"""Faults on demand: what goes wrong at which operation, how often, and with what answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "rate_limited",  # 429 with Retry-After, in the vendor's shape; nothing happens
    "error",  # the vendor's own error `error` (and `status`, where it has a choice); nothing happens
    "html",  # `status` (502) with a page of HTML, as a proxy in front of the vendor would; nothing happens
    "reply",  # exactly `status`, `headers` and `body`; nothing happens
    "drop_request",  # hang up; nothing happens
    "drop_answer",  # it happens, then hang up without an answer
    "truncate",  # it happens, then the answer breaks off half way
    "drip",  # it happens, then the answer comes byte by byte, `pause_ms` apart
    "delay",  # it happens; only the delays below apply
]


@dataclass(frozen=True)
class Fault:
    """One order to fail.

    `operation` is a name ("chat.postMessage"), the start of one up to a dot ("token"), or "*". `times` None means
    until cleared; `skip` lets that many matching requests through first; of those after, every `every`-th fails.
    `match` must occur in the body or the target (of S3, which streams, in the target). `delay_ms` passes before
    anything happens, `answer_delay_ms` between the effect and the answer.
    """

    service: str
    kind: Kind
    operation: str = "*"
    times: int | None = 1
    skip: int = 0
    every: int = 1
    match: str | None = None
    retry_after: float = 1
    error: str | None = None
    status: int | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    body: Any = None
    pause_ms: float = 200
    delay_ms: float = 0
    answer_delay_ms: float = 0


@dataclass(slots=True)
class _Order:
    fault: Fault
    passed: int = 0
    fired: int = 0


class Faults:
    """The orders in force. The oldest that fits an arriving request is carried out."""

    def __init__(self) -> None:
        self._orders: list[_Order] = []

    def __bool__(self) -> bool:
        return bool(self._orders)

    def add(self, fault: Fault) -> None:
        """Put an order in force."""
        self._orders.append(_Order(fault))

    def clear(self, service: str | None = None) -> None:
        """Take back the orders of one service, or all."""
        self._orders = [order for order in self._orders if service not in (None, order.fault.service)]

    def describe(self) -> list[dict[str, Any]]:
        """The orders in force, with how often each was carried out."""
        return [
            {"service": order.fault.service, "operation": order.fault.operation, "kind": order.fault.kind}
            | {"fired": order.fired, "times": order.fault.times}
            for order in self._orders
        ]

    def take(self, service: str, operation: str, target: str, body: bytes) -> Fault | None:
        """The order for this request, counted as carried out; None where it goes through."""
        for order in self._orders:
            if not _concerns(order.fault, service, operation, target, body):
                continue
            order.passed += 1
            counted = order.passed - order.fault.skip
            if counted <= 0 or counted % order.fault.every:
                continue
            order.fired += 1
            if order.fault.times is not None and order.fired >= order.fault.times:
                self._orders.remove(order)
            return order.fault
        return None


def _concerns(fault: Fault, service: str, operation: str, target: str, body: bytes) -> bool:
    if fault.service != service:
        return False
    if fault.operation not in ("*", operation) and not operation.startswith(f"{fault.operation}."):
        return False
    return fault.match is None or fault.match in target or fault.match.encode() in body
