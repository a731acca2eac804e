"""`Response`: an answer that was read to its end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flow8_core.egress import strict_json
from flow8_core.egress.request import SAFE_METHODS
from flow8_core.egress.url import Url
from flow8_core.errors import VendorBadResponse

_CHARSET = re.compile(r""";[ \t]*charset="?([A-Za-z0-9._:+-]+)""", re.IGNORECASE)  # RFC 9110 section 8.3.1


@dataclass(frozen=True)
class Response:
    """Any HTTP answer, whatever its status. `headers` ignores case in look-ups; repeated ones are joined by ", ".

    `body` is decompressed. `url` is the one that answered, after redirects; it and `body` may hold secrets and are not
    in `repr`. `duration_ms` is from the call to the last byte.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    url: str = field(repr=False)
    duration_ms: int
    method: str = "GET"

    @property
    def text(self) -> str:
        """The body in the character set of its Content-Type, else UTF-8; what does not decode is replaced."""
        named = _CHARSET.search(self.headers.get("content-type", ""))
        try:
            return self.body.decode(named[1] if named else "utf-8", "replace")
        except (LookupError, ValueError):
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as strictly read JSON (`strict_json`). Raises `VendorBadResponse`, ambiguous after a write."""
        try:
            return strict_json.loads(self.body)
        except ValueError as error:
            host = Url.parse(self.url).authority
            raise VendorBadResponse(
                f"{host} answered {self.status} with a body that cannot be used as JSON: {error}.",
                ambiguous=self.method not in SAFE_METHODS,
            ) from None
