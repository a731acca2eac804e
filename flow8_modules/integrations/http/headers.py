"""Headers that an author may set (RFC 9110 section 5), checked before any call."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flow8_modules import Fault

MAX_HEADERS = 100
MAX_VALUE = 8_192
SECRET = re.compile(r"authorization|cookie|.*(token|secret|api-?key|password|signature)", re.IGNORECASE)

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# Framing and routing belong to the connection; the rest would let a step pose as a proxy.
_REFUSED = re.compile(
    r"host|content-length|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|via|forwarded|x-real-ip"
    r"|proxy-.*|x-forwarded-.*",
    re.IGNORECASE,
)


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises `Fault` for a header that cannot be sent, or that is not the author's to set."""
    if len(headers) > MAX_HEADERS:
        raise Fault(f"should have at most {MAX_HEADERS} headers")
    if len({name.lower() for name in headers}) < len(headers):
        raise Fault("names a header twice")
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise Fault("has a name with characters that header names cannot have")
        if _REFUSED.fullmatch(name):
            raise Fault(f"must not set {name.lower()}: the platform does")
        if not _VALUE.fullmatch(value) or len(value) > MAX_VALUE:
            raise Fault(f"has a value for {name.lower()} that is too long or cannot be sent")


def lookup(headers: Mapping[str, str], name: str) -> str | None:
    """The value of a header, whatever the case of its name."""
    return next((value for each, value in headers.items() if each.lower() == name), None)
