"""What comes back to the redirect address: read strictly, before anything is looked up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from credentials.providers.provider import Provider
from flow8_core.errors import AccessDenied, ValidationFailed, VendorBadResponse

_STATE = re.compile(r"[A-Za-z0-9_-]{43}")
_CODE = re.compile(r"[\x20-\x7e]{1,4096}")
_PURPOSES = ("purpose", "sec-purpose", "sec-fetch-purpose", "x-purpose", "x-moz")
_NO_VISIT = ("prefetch", "prerender", "preview")
_ONCE = ("state", "code", "error", "iss")


def is_visit(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a request to the callback is a person's browser arriving, not a HEAD or a prefetch that must consume
    nothing. Header names in any case."""
    purposes = [value.lower() for name, value in headers.items() if name.lower() in _PURPOSES]
    return method == "GET" and not any(word in purpose for purpose in purposes for word in _NO_VISIT)


def read_query(query: Mapping[str, str] | Sequence[tuple[str, str]]) -> dict[str, str]:
    """The callback's parameters. Raises `ValidationFailed` on what no server sends; values are never repeated."""
    pairs = list(query.items() if isinstance(query, Mapping) else query)
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given and name in _ONCE:
            raise ValidationFailed("The answer names a parameter twice; connect again.", path=name)
        if len(value) <= 2048 or name in _ONCE:
            given[name] = value
    if not _STATE.fullmatch(given.get("state", "")):
        raise ValidationFailed(
            "The answer holds no state of ours; connect from flow8, not from the vendor's page.", path="state"
        )
    if ("code" in given) == ("error" in given):
        raise ValidationFailed("The answer must hold either a code or an error; connect again.", path="code")
    if "code" in given and not _CODE.fullmatch(given["code"]):
        raise ValidationFailed("The code has a form that no server sends; connect again.", path="code")
    return given


def check_issuer(provider: Provider, issuer: str | None) -> None:
    """RFC 9207: the answer of one server must not be taken to another."""
    expected = provider.issuer
    if expected is None:
        return
    if issuer != expected and (issuer is not None or provider.issuer_in_callback):
        raise AccessDenied(
            f"The answer does not come from the server that {provider.title} was connected to; connect again.",
            service=provider.service,
        )


def brought(provider: Provider, given: Mapping[str, str]) -> dict[str, str]:
    """What only the callback says of the account (QuickBooks: which company). Raises `VendorBadResponse` where it is
    missing or has another form: without it the link would be of no use."""
    for name, pattern in provider.callback_metadata.items():
        if not re.fullmatch(pattern, given.get(name, "")):
            raise VendorBadResponse(
                f"The answer of {provider.title} holds no {name} that makes sense; connect again.",
                service=provider.service,
            )
    return {name: given[name] for name in provider.callback_metadata}
