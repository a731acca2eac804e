"""What the vendors' OAuth2 servers share: codes, tokens, rotation, PKCE, client authentication, the consent page."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from string import Template
from typing import Any, Literal
from urllib.parse import unquote, urlencode, urlsplit

from flow8_lab.http import HTML, Reply, Request
from flow8_lab.quirks import Rule

Reason = Literal["unknown", "used", "expired", "revoked", "spent"]


class Refused(Exception):
    """A code or token is not honoured; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code and what was agreed when it was issued."""

    value: str
    redirect_uri: str
    details: Mapping[str, Any]
    expires_at: float


class Codes:
    """Authorization codes: each lives for a time and is honoured once (RFC 6749 section 4.1.2)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._codes: dict[str, Code] = {}
        self._used: set[str] = set()

    def issue(self, value: str, *, redirect_uri: str, lifetime_s: float, details: Mapping[str, Any]) -> str:
        """Remember a code, and give it back."""
        self._codes[value] = Code(value, redirect_uri, details, self._clock() + lifetime_s)
        return value

    def redeem(self, value: str) -> Code:
        """The code's agreement, once. Raises Refused."""
        code = self._codes.get(value)
        if code is None:
            raise Refused("unknown")
        if value in self._used:
            raise Refused("used")
        self._used.add(value)
        if self._clock() >= code.expires_at:
            raise Refused("expired")
        return code


@dataclass(slots=True, eq=False)
class Grant:
    """What one account allowed our application. `key` is what the vendor hangs it on (workspace, user); `held` are its
    access tokens, but for those that a limit revoked; `began_at` is when it was first given.

    Counted: `exchanges` of codes, `refreshes` that were honoured, `replays` of a spent refresh token that a grace let
    through, and `reuses` of one that were refused."""

    key: str
    account: Mapping[str, str]
    scopes: set[str] = field(default_factory=set)
    revoked: bool = False
    held: list[Token] = field(default_factory=list)
    began_at: float = 0.0
    exchanges: int = 0
    refreshes: int = 0
    replays: int = 0
    reuses: int = 0


@dataclass(slots=True, eq=False)
class Token:
    """One access or refresh token. `expires_at` None: it does not expire. `spent_at`: when it was first exchanged,
    where that spends it. `presented`: how often it was shown to the token endpoint, honoured or not."""

    value: str
    kind: Literal["access", "refresh"]
    grant: Grant
    scopes: tuple[str, ...]
    expires_at: float | None
    issued_at: float = 0.0
    revoked: bool = False
    spent_at: float | None = None
    presented: int = 0


class Tokens:
    """Every token that a vendor issued."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tokens: dict[str, Token] = {}

    def issue(
        self,
        kind: Literal["access", "refresh"],
        value: str,
        grant: Grant,
        *,
        scopes: Sequence[str],
        lifetime_s: float | None,
    ) -> Token:
        """A new token of the grant."""
        expires_at = None if lifetime_s is None else self._clock() + lifetime_s
        token = self._tokens[value] = Token(value, kind, grant, tuple(scopes), expires_at, self._clock())
        if kind == "access":
            grant.held.append(token)
        return token

    def find(self, value: str) -> Token | None:
        """The token, dead or alive."""
        return self._tokens.get(value)

    def all(self) -> list[Token]:
        """Every token, in the order of issue."""
        return list(self._tokens.values())

    def live(self, token: Token) -> bool:
        """Whether a token is neither over nor taken back."""
        over = token.expires_at is not None and self._clock() >= token.expires_at
        return not (over or token.revoked or token.grant.revoked)

    def limit(self, grant: Grant, most: int) -> None:
        """Revoke the oldest live access tokens of a grant until `most` are left."""
        live = [token for token in grant.held if self.live(token)]
        for token in live[: max(0, len(live) - most)]:
            token.revoked = True
        grant.held = live[-most:]

    def spend(self, value: str, rule: Rule) -> Token:
        """Accept a refresh token, by the vendor's rule. Raises Refused."""
        token = self._tokens.get(value)
        if token is None or token.kind != "refresh":
            raise Refused("unknown")
        token.presented += 1
        if token.revoked or token.grant.revoked:
            raise Refused("revoked")
        if token.expires_at is not None and self._clock() >= token.expires_at:
            raise Refused("expired")
        if token.spent_at is not None and self._clock() - token.spent_at >= rule.grace_s:
            token.grant.reuses += 1
            token.grant.revoked = token.grant.revoked or rule.family
            raise Refused("spent")
        token.grant.refreshes += 1
        token.grant.replays += token.spent_at is not None
        if rule.single_use and token.spent_at is None:
            token.spent_at = self._clock()
        return token

    def expire(self, kind: Literal["access", "refresh"]) -> int:
        """Let the live tokens of a kind that have an end end now, and give their number."""
        ended = [token for token in self.all() if token.kind == kind and token.expires_at and self.live(token)]
        for token in ended:
            token.expires_at = self._clock()
        return len(ended)


def describe_grants(grants: Mapping[str, Grant], tokens: Tokens) -> list[dict[str, Any]]:
    """Each grant, with its counts and the number of its live tokens of each kind: never a token. `most_presented` is
    how often the refresh token was shown that was shown most: 1 where each was used once, as it should be."""
    live = Counter((id(token.grant), token.kind) for token in tokens.all() if tokens.live(token))
    most: dict[int, int] = {}
    for token in tokens.all():
        most[id(token.grant)] = max(most.get(id(token.grant), 0), token.presented)
    return [
        {"key": key, "account": dict(grant.account), "scopes": sorted(grant.scopes), "revoked": grant.revoked}
        | {name: getattr(grant, name) for name in ("exchanges", "refreshes", "replays", "reuses")}
        | {kind: live[id(grant), kind] for kind in ("access", "refresh")}
        | {"most_presented": most.get(id(grant), 0)}
        for key, grant in grants.items()
    ]


def client_credentials(request: Request) -> tuple[str, str | None]:
    """Client id and secret, from HTTP Basic or from the form (RFC 6749 section 2.3.1)."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return "", None
        return unquote(name), unquote(password)
    form = request.form()
    return form.get("client_id", ""), form.get("client_secret")


def same(presented: str | None, expected: str) -> bool:
    """Compare secrets."""
    return presented is not None and hmac.compare_digest(presented.encode(), expected.encode())


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def is_loopback(uri: str) -> bool:
    """Whether a redirect URI leads back to this machine: any port will do (RFC 8252 section 7.3)."""
    parts = urlsplit(uri)
    return parts.scheme in {"http", "https"} and parts.hostname in {"127.0.0.1", "::1", "localhost"}


def is_usable_redirect(uri: str) -> bool:
    """What a vendor would let us register: absolute, no fragment, https unless it is loopback."""
    parts = urlsplit(uri)
    return not parts.fragment and (is_loopback(uri) or (parts.scheme == "https" and bool(parts.hostname)))


def callback(redirect_uri: str, answer: Mapping[str, str | None]) -> str:
    """The redirect URI with the answer added to its query; what is None is left out."""
    query = urlencode({name: value for name, value in answer.items() if value is not None})
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{query}"


def token_text(length: int) -> str:
    """Random letters, digits, `-` and `_`."""
    return secrets.token_urlsafe(length)[:length]


_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>$title</title><style>
body{font:16px/1.5 system-ui,sans-serif;background:#f4f4f6;display:grid;place-items:center;min-height:95vh;margin:0}
main{background:#fff;border-radius:12px;padding:2rem 2.5rem;max-width:26rem;box-shadow:0 2px 24px #0002}
small{color:#666}button{font:inherit;padding:.5rem 1.5rem;border-radius:6px;border:1px solid #888;background:#fff}
button[value=approve]{background:#1a7f5a;border-color:#1a7f5a;color:#fff}
</style></head><body><main><small>flow8 laboratory</small><h1>$title</h1>$body</main></body></html>
""")


def page(title: str, paragraphs: Sequence[str], *, status: int = 200, form: str = "") -> Reply:
    """A page for people. `paragraphs` are plain text; `form` is HTML."""
    body = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs) + form
    return Reply(status, _PAGE.substitute(title=escape(title), body=body).encode(), HTML)


def consent_page(vendor: str, account: str, scopes: Sequence[str], request: Request) -> Reply:
    """The vendor's question to the user. The form posts `decision` (approve, deny) and the `request` it answers to the
    same path, so that nothing needs to be remembered in between."""
    asked = "".join(f"<li><code>{escape(scope)}</code></li>" for scope in scopes)
    form = (
        f'<ul>{asked}</ul><form method="post" action="{escape(request.path)}">'
        f'<input type="hidden" name="request" value="{escape(request.query_string)}">'
        '<button name="decision" value="approve">Approve</button> '
        '<button name="decision" value="deny">Deny</button></form>'
    )
    return page(f"Connect flow8 to {vendor}?", [f"Signed in as {account}. flow8 asks for:"], form=form)
