"""The codes, grants and tokens of one application at a standard server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flow8_lab import oauth
from flow8_lab.clock import Clock
from flow8_lab.dialect import Asked, Conduct, Declined, Dialect, RefreshReply
from flow8_lab.quirks import ROTATING, Quirks, Rule, rule_of


class Grants:
    """What users agreed to, and the tokens that came of it."""

    def __init__(self, dialect: Dialect, *, clock: Clock) -> None:
        self.tokens = oauth.Tokens(clock)
        self._dialect = dialect
        self._clock = clock
        self._codes = oauth.Codes(clock)
        self._issued_codes: list[str] = []
        self._grants: dict[str, oauth.Grant] = {}

    def code(self, asked: Asked, scopes: Sequence[str], *, lifetime_s: float) -> str:
        """A code for what the user just approved."""
        value = self._dialect.code()
        self._issued_codes.append(value)
        details = {"asked": asked, "scopes": tuple(scopes)}
        return self._codes.issue(value, redirect_uri=asked.redirect_uri, lifetime_s=lifetime_s, details=details)

    def redeem(self, form: Mapping[str, str], *, pkce: bool) -> oauth.Code:
        """The code of a token request, once. Raises Declined."""
        try:
            code = self._codes.redeem(form.get("code", ""))
        except oauth.Refused as refused:
            raise Declined(f"code.{refused.reason}") from None
        if form.get("redirect_uri") != code.redirect_uri:
            raise Declined("code.redirect_uri")
        asked: Asked = code.details["asked"]
        if pkce and not _verified(form.get("code_verifier"), asked):
            raise Declined("code.verifier")
        return code

    def find(self, key: str) -> oauth.Grant | None:
        """The live grant of that key."""
        grant = self._grants.get(key)
        return None if grant is None or grant.revoked else grant

    def opened(self, key: str, account: Mapping[str, str]) -> oauth.Grant:
        """The grant of that key; where there is none that lives, a new one."""
        grant = self.find(key)
        if grant is None:
            grant = self._grants[key] = oauth.Grant(key, account, began_at=self._clock())
        return grant

    def new_access(self, grant: oauth.Grant, scopes: Sequence[str], lifetime_s: float) -> oauth.Token:
        """An access token."""
        return self.tokens.issue("access", self._dialect.access(), grant, scopes=scopes, lifetime_s=lifetime_s)

    def new_refresh(self, grant: oauth.Grant, scopes: Sequence[str]) -> oauth.Token:
        """A refresh token."""
        lifetime_s = self._dialect.refresh_lifetime_s
        return self.tokens.issue("refresh", self._dialect.refresh(), grant, scopes=scopes, lifetime_s=lifetime_s)

    def renew(
        self, value: str, *, conduct: Conduct, quirks: Quirks, check: Callable[[oauth.Token], None]
    ) -> tuple[oauth.Token, RefreshReply]:
        """Accept a refresh token, and say what the reply is to tell of it. Raises Declined; `check` may, too."""
        known = self.tokens.find(value)
        answer = conduct.refresh_reply
        if quirks.replay in ROTATING:
            answer = "rotate"
        elif answer == "rotate" and known is not None and self._clock() - known.issued_at < conduct.rotate_after_s:
            answer = "same"
        own = Rule(single_use=self._dialect.single_use and answer == "rotate")
        if known is not None and known.kind == "refresh" and self.tokens.live(known):
            check(known)
        try:
            token = self.tokens.spend(value, rule_of(quirks, own))
        except oauth.Refused as refused:
            raise Declined(f"refresh.{refused.reason}") from None
        if self._dialect.refresh_lifetime_s is not None and token.spent_at is None:
            token.expires_at = self._clock() + self._dialect.refresh_lifetime_s
        return token, answer

    def expire(self, *, refresh: bool) -> int:
        """Let the access tokens end now, or the refresh tokens."""
        return self.tokens.expire("refresh" if refresh else "access")

    def revoke_all(self) -> int:
        """Every user takes the grant back. Gives the number of grants that died."""
        live = [grant for grant in self._grants.values() if not grant.revoked]
        for grant in live:
            grant.revoked = True
        return len(live)

    def describe(self) -> list[dict[str, Any]]:
        """The grants, without their tokens."""
        return oauth.describe_grants(self._grants, self.tokens)

    def secrets(self) -> list[str]:
        """Every code and token ever issued."""
        return [*self._issued_codes, *(token.value for token in self.tokens.all())]


def _verified(verifier: str | None, asked: Asked) -> bool:
    """RFC 7636 section 4.6; a verifier without a challenge is a fault, too."""
    if asked.challenge is None:
        return verifier is None
    if verifier is None:
        return False
    return oauth.same(oauth.challenge_of(verifier) if asked.method == "S256" else verifier, asked.challenge)
