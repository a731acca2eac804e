"""HTTP as modules use it: the guarded egress, bound to one call's deadline and, where wanted, to its link."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from flow8_core.clock import Deadline
from flow8_core.secret import Secret

if TYPE_CHECKING:
    from flow8_core.egress import Egress, Response
    from flow8_modules.context import ConnectedLink

JSON_TYPE = "application/json"


class Http:
    """Sends requests through the egress. Made anew for each call: it holds nothing but the deadline."""

    __slots__ = ("_deadline", "_egress")

    def __init__(self, egress: Egress, deadline: Deadline) -> None:
        self._egress = egress
        self._deadline = deadline

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        body: bytes | BinaryIO | Iterable[bytes] | None = None,
        link: ConnectedLink | None = None,
        redirects: int = 0,
        max_bytes: int | None = None,
        sink: BinaryIO | None = None,
    ) -> Response:
        """One request; any HTTP answer is returned. `json` is sent as JSON in UTF-8, in place of `body`.

        With `link` its access token goes along, as bearer, and only to the hosts of its provider. `max_bytes` caps the
        answer; `sink` takes its body in place of memory. Raises what `Egress.send` raises.
        """
        named = dict(headers or {})
        if json is not None:
            body = jsonlib.dumps(json, ensure_ascii=False, allow_nan=False).encode()
            named.setdefault("Content-Type", JSON_TYPE)
        return self._egress.send(
            method,
            url,
            headers=named,
            body=body,
            deadline=self._deadline,
            credentials=None if link is None else bearer(link.access_token),
            hosts=None if link is None else link.hosts,
            redirects=redirects,
            max_bytes=max_bytes,
            sink=sink,
        )


def bearer(token: Secret) -> dict[str, Secret]:
    """The header that carries `token` (RFC 6750), for `Egress.send(credentials=...)`."""
    return {"Authorization": Secret(f"Bearer {token.reveal()}")}
