"""What differs between vendors whose OAuth2 server follows the standard (RFC 6749), as data and a few named hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from flow8_lab import oauth
from flow8_lab.http import Reply, Request
from flow8_lab.id_tokens import Flaw

# reason -> HTTP status, body of the reply. A reason without an entry of its own is answered as what stands before its
# dot: "code.used" as "code". RFC 6749 section 5.2.
Refusals = Mapping[str, tuple[int, Mapping[str, Any]]]

STANDARD_REFUSALS: Refusals = {
    "client": (401, {"error": "invalid_client"}),
    "code": (400, {"error": "invalid_grant"}),
    "refresh": (400, {"error": "invalid_grant"}),
    "grant_type": (400, {"error": "unsupported_grant_type"}),
    "scope": (400, {"error": "invalid_scope"}),
}

ClientAuth = Literal["post", "basic", "either"]
RefreshReply = Literal["rotate", "same", "omit", "empty", "null"]


class Declined(Exception):
    """The token endpoint refuses, for a reason of `Refusals`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Conduct:
    """What the control API may change at each of these vendors. Times in seconds.

    `deny`: consent is refused. `account`: who is signed in, by e-mail. `client_auth`: how the client may show its
    secret. `require_pkce`: a request without PKCE by S256 is refused, where the vendor takes PKCE at all: our promise,
    not its rule. `refresh_reply`: what a refresh says of the refresh token; it only rotates if that is `rotate_after_s`
    old. `redirect_uris` None accepts any usable one, else a URI must be one of them. `granted_scopes` limits what is
    granted.
    `id_tokens`: "good", or what is wrong with them. `callback_iss`: the issuer in the callback (RFC 9207).
    """

    auto_approve: bool = False
    deny: bool = False
    account: str = "user@company.com"
    expires_in: int = 3_600
    code_lifetime_s: float = 600.0
    client_auth: ClientAuth = "either"
    require_pkce: bool = True
    refresh_reply: RefreshReply = "rotate"
    rotate_after_s: float = 0.0
    redirect_uris: tuple[str, ...] | None = None
    granted_scopes: tuple[str, ...] | None = None
    id_tokens: Flaw = "good"
    callback_iss: Literal["good", "wrong", "absent"] = "absent"


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One vendor's server.

    `code`, `access` and `refresh` make the texts of codes and tokens. `offline_scope`: the scope without which no
    refresh token is given. `single_use`: a refresh that gave another refresh token ends the old one.
    `refresh_lifetime_s`: how long a refresh token lives without being used.
    """

    service: str
    title: str
    code: Callable[[], str]
    access: Callable[[], str]
    refresh: Callable[[], str]
    token_type: str = "Bearer"  # noqa: S105 (a word)
    pkce: bool = True
    offline_scope: str | None = None
    single_use: bool = False
    refresh_lifetime_s: float | None = None
    scope_in_reply: bool = True
    default_scopes: tuple[str, ...] = ()
    issuer: str = ""
    refusals: Refusals = field(default_factory=lambda: STANDARD_REFUSALS)

    def refusal(self, reason: str) -> tuple[int, Mapping[str, Any]]:
        """Status and body for a reason."""
        table = {**STANDARD_REFUSALS, **self.refusals}
        return table.get(reason) or table[reason.partition(".")[0]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A valid authorize request. `offline`: a refresh token is to come of it. `account` is the e-mail of who is asked;
    `leads_back`: whether a refusal does; `details` are the vendor's own."""

    redirect_uri: str
    state: str | None
    account: str
    scopes: tuple[str, ...] = ()
    challenge: str | None = None
    method: str = "plain"
    nonce: str | None = None
    offline: bool = True
    leads_back: bool = True
    details: Mapping[str, str] = field(default_factory=dict)


class Hooks(Protocol):
    """What a vendor adds in code."""

    def asked(self, query: Mapping[str, str]) -> Asked | Reply:
        """The authorize request, or the page or redirect that refuses it."""

    def account(self, asked: Asked) -> tuple[str, Mapping[str, str]]:
        """The key of the grant, and the account."""

    def callback(self, asked: Asked, scopes: Sequence[str]) -> Mapping[str, str]:
        """What else stands in the callback of a consent."""

    def reply(self, request: Request, grant: oauth.Grant, refresh: oauth.Token | None) -> Mapping[str, Any]:
        """What else stands in a token reply."""

    def claims(self, grant: oauth.Grant, scopes: Sequence[str]) -> Mapping[str, Any] | None:
        """The vendor's claims of an id_token; None where none is given."""

    def metadata(self, grant: oauth.Grant) -> Mapping[str, Any]:
        """For link import: `provider_user_id`, `provider_user_email`, `metadata`."""

    def may_refresh(self, token: oauth.Token) -> None:
        """Raises Declined where the vendor has a reason of its own to refuse."""
