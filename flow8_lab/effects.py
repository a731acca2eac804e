"""What reached each vendor (requests) and what it changed there (effects), counted by idempotency key."""

from __future__ import annotations

import traceback
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flow8_lab.http import Request

# Counts are kept for ever, details for the latest: a benchmark posts a hundred thousand messages.
DETAILS_KEPT = 5_000

SECRET_HEADERS = frozenset({"authorization", "cookie", "x-api-key", "proxy-authorization"})


@dataclass(slots=True)
class Seen:
    """One request as it arrived. `status` is None until it is answered, and 0 where the connection was dropped."""

    at: float
    service: str
    operation: str
    request: Request
    status: int | None = None

    def describe(self) -> dict[str, Any]:
        """For GET /requests; of a secret header only the scheme is shown."""
        headers = {name: _masked(name, value) for name, value in self.request.headers.items()}
        return {
            "at": self.at,
            "service": self.service,
            "operation": self.operation,
            "method": self.request.method,
            "target": self.request.target,
            "headers": headers,
            "body_bytes": len(self.request.body),
            "connection": self.request.connection,
            "status": self.status,
        }


class Journal:
    """Everything the laboratory can tell about what was done to it. `clock` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._connections = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything but the numbering of connections."""
        self.crashes: list[str] = []
        self._opened: Counter[str] = Counter()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._seen: deque[Seen] = deque(maxlen=DETAILS_KEPT)
        self._effects: Counter[tuple[str, str]] = Counter()
        self._keys: dict[str, Counter[str]] = {}
        self._items: dict[str, deque[dict[str, Any]]] = {}

    def connected(self, service: str) -> int:
        """Count a connection and give it a number."""
        self._connections += 1
        self._opened[service] += 1
        return self._connections

    def arrived(self, service: str, operation: str, request: Request) -> Seen:
        """Count a request; the caller sets `status` on what is returned."""
        self._requests[service, operation] += 1
        seen = Seen(self._clock(), service, operation, request)
        self._seen.append(seen)
        return seen

    def effect(self, service: str, operation: str, *, key: str | None, detail: Mapping[str, Any]) -> None:
        """Something changed at the vendor; `key` is the caller's idempotency key, if it sent one."""
        self._effects[service, operation] += 1
        if key is not None:
            self._keys.setdefault(service, Counter())[key] += 1
        items = self._items.setdefault(service, deque(maxlen=DETAILS_KEPT))
        items.append({"at": self._clock(), "operation": operation, "key": key, **detail})

    def crashed(self, where: str, error: Exception) -> None:
        """A fault of the laboratory itself."""
        self.crashes.append(f"{where}\n{''.join(traceback.format_exception(error))}")

    def effects(self, service: str) -> dict[str, Any]:
        """`{count, operations: {name: n}, keys: {key: n}, repeated: {key: n > 1}, items: [...]}`."""
        operations = {name: count for (owner, name), count in self._effects.items() if owner == service}
        keys = self._keys.get(service, Counter())
        return {
            "count": sum(operations.values()),
            "operations": operations,
            "keys": dict(keys),
            "repeated": {key: count for key, count in keys.items() if count > 1},
            "items": list(self._items.get(service, ())),
        }

    def requests(self, service: str, operation: str | None = None) -> dict[str, Any]:
        """`{count, connections, operations: {name: n}, items: [...]}`, of one operation where it is named."""
        operations = {
            name: count
            for (owner, name), count in self._requests.items()
            if owner == service and operation in (None, name)
        }
        return {
            "count": sum(operations.values()),
            "connections": self._opened[service],
            "operations": operations,
            "items": [
                seen.describe()
                for seen in self._seen
                if seen.service == service and operation in (None, seen.operation)
            ],
        }


def _masked(name: str, value: str) -> str:
    return (
        f"{value.partition(' ')[0]} ***"
        if name in SECRET_HEADERS and " " in value
        else ("***" if name in SECRET_HEADERS else value)
    )
