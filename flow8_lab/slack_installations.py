"""Slack's installations: the grants of a workspace, their tokens and rotation.

Source: docs.slack.dev, oauth.v2.access and "Using token rotation". Tokens belong to the installation (the workspace),
not to the person who installed: without rotation every link to a workspace holds the same bot token, with rotation at
most two access tokens of it are live.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flow8_lab import oauth
from flow8_lab.clock import Clock
from flow8_lab.quirks import NO_QUIRKS, ROTATING, Quirks, Rule, rule_of, spoil

SERVICE = "slack"
APP_ID = "A0LAB00001"
BOT_USER_ID = "U0LABBOT01"
BOT_ID = "B0LABBOT01"

Subject = Literal["bot", "user"]


@dataclass(frozen=True)
class SlackSettings:
    """What the control API may change. Times in seconds.

    `redirect_uris` None accepts any usable one; else a URI must equal, or lie below, one of them. `granted_scopes`
    limits what is granted, whatever was asked. `refresh_reply`: what a refresh says of the refresh token. `family`:
    using a spent refresh token after the grace kills the grant (Slack does not). `quirks` are flat beside these.
    """

    auto_approve: bool = False
    deny: bool = False
    account: str = "U0LABUSER1"
    team: str = "T0LAB00001"
    rotation: bool = True
    expires_in: int = 43_200
    grace_s: float = 5.0
    family: bool = False
    active_tokens: int = 2
    code_lifetime_s: float = 600.0
    refresh_reply: Literal["rotate", "omit", "empty"] = "rotate"
    redirect_uris: tuple[str, ...] | None = None
    granted_scopes: tuple[str, ...] | None = None
    quirks: Quirks = NO_QUIRKS
    channels: tuple[dict, ...] = ()  # type: ignore[type-arg]  # more channels, as `Channel`


class Installations:
    """Codes, grants and tokens of one application in any number of workspaces."""

    def __init__(self, settings: SlackSettings, *, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._codes = oauth.Codes(clock)
        self._issued_codes: list[str] = []
        self._grants: dict[str, oauth.Grant] = {}
        self.tokens = oauth.Tokens(clock)

    def code(
        self, redirect_uri: str | None, account: Mapping[str, str], scopes: Mapping[Subject, Sequence[str]]
    ) -> str:
        """A code for what the user just approved."""
        value = f"{secrets.randbelow(10**10)}.{secrets.randbelow(10**13)}.{secrets.token_hex(32)}"
        self._issued_codes.append(value)
        details = {"account": account, "scopes": scopes}
        lifetime_s = self.settings.code_lifetime_s
        return self._codes.issue(value, redirect_uri=redirect_uri or "", lifetime_s=lifetime_s, details=details)

    def exchange(self, code: str, redirect_uri: str) -> dict[str, Any] | str:
        """The reply for a code, or Slack's error."""
        try:
            agreed = self._codes.redeem(code)
        except oauth.Refused:
            return "invalid_code"
        if redirect_uri != agreed.redirect_uri:
            return "bad_redirect_uri"
        account, scopes = agreed.details["account"], agreed.details["scopes"]
        body = _installed(account)
        if scopes["bot"]:
            body |= {"bot_user_id": BOT_USER_ID} | self._exchanged("bot", account, scopes["bot"])
        if scopes["user"]:
            body["authed_user"] |= self._exchanged("user", account, scopes["user"])
        return body

    def _exchanged(self, subject: Subject, account: Mapping[str, str], scopes: Sequence[str]) -> dict[str, Any]:
        body = self.issue(subject, account, scopes)
        self._grants[_key(subject, account)].exchanges += 1
        return body

    def refresh(self, value: str) -> dict[str, Any] | str:
        """The reply for a refresh token, or Slack's error."""
        settings = self.settings
        rotate = settings.refresh_reply == "rotate" or settings.quirks.replay in ROTATING
        if not settings.rotation:
            return "invalid_refresh_token"
        own = Rule(single_use=rotate, grace_s=settings.grace_s, family=settings.family)
        try:
            token = self.tokens.spend(value, rule_of(settings.quirks, own))
        except oauth.Refused:
            return "invalid_refresh_token"
        subject = subject_of(token)
        body = _installed(token.grant.account) | self._pair(subject, token.grant, token.scopes, refresh=rotate)
        if not rotate and settings.refresh_reply == "empty":
            body["refresh_token"] = ""
        if subject == "bot":
            body["bot_user_id"] = BOT_USER_ID
        return body

    def issue(self, subject: Subject, account: Mapping[str, str], scopes: Sequence[str]) -> dict[str, Any]:
        """Tokens of the installation's grant: its scopes add up over time, and a dead one begins anew."""
        key = _key(subject, account)
        grant = self._grants.get(key)
        if grant is None or grant.revoked:
            grant = self._grants[key] = oauth.Grant(key, account, began_at=self._clock())
        grant.scopes.update(scopes)
        if self.settings.rotation:
            return self._pair(subject, grant, sorted(grant.scopes), refresh=True)
        token = next((held for held in grant.held if held.expires_at is None and self.tokens.live(held)), None)
        if token is None:
            prefix = "xoxb" if subject == "bot" else "xoxp"
            value = (
                f"{prefix}-{secrets.randbelow(10**12):012d}-{secrets.randbelow(10**13):013d}-{secrets.token_hex(12)}"
            )
            token = self.tokens.issue("access", value, grant, scopes=(), lifetime_s=None)
        token.scopes = tuple(sorted(grant.scopes))
        body = {"access_token": token.value, "token_type": subject, "scope": ",".join(token.scopes)}
        spoil(body, self.settings.quirks, token.scopes)
        return body

    def _pair(self, subject: Subject, grant: oauth.Grant, scopes: Sequence[str], *, refresh: bool) -> dict[str, Any]:
        lifetime_s = self.settings.expires_in
        value = f"xoxe.{'xoxb' if subject == 'bot' else 'xoxp'}-1-{oauth.token_text(146)}"
        self.tokens.issue("access", value, grant, scopes=scopes, lifetime_s=lifetime_s)
        self.tokens.limit(grant, self.settings.active_tokens)
        body = {"access_token": value, "token_type": subject, "scope": ",".join(scopes), "expires_in": lifetime_s}
        spoil(body, self.settings.quirks, scopes)
        if refresh:
            body["refresh_token"] = f"xoxe-1-{oauth.token_text(142)}"
            self.tokens.issue("refresh", str(body["refresh_token"]), grant, scopes=scopes, lifetime_s=None)
        return body

    def revoke(self, token: oauth.Token) -> None:
        """Revoke the one token; without rotation, the whole grant that it stands for."""
        token.revoked = True
        token.grant.revoked = token.grant.revoked or (token.kind == "access" and token.expires_at is None)

    def uninstall(self, team: str | None = None) -> int:
        """One workspace (all, where none is named) removes the app. Gives the number of grants that died."""
        live = [g for g in self._grants.values() if not g.revoked and team in (None, g.account["team"])]
        for grant in live:
            grant.revoked = True
        return len(live)

    def describe(self) -> list[dict[str, Any]]:
        """The grants, without their tokens."""
        return oauth.describe_grants(self._grants, self.tokens)

    def secrets(self) -> list[str]:
        """Every code and token ever issued."""
        return [*self._issued_codes, *(token.value for token in self.tokens.all())]

    def mint(self, scopes: Sequence[str], account: str | None, expires_in: int | None) -> dict[str, Any]:
        """A grant without the redirect dance, as a line for `flow8 link import`."""
        who = {"user": account or self.settings.account, "team": self.settings.team}
        reply = self.issue("bot", who, tuple(scopes) or ("chat:write",))
        token = self.tokens.find(reply["access_token"])
        if token is not None and token.expires_at is not None and expires_in is not None:
            token.expires_at = self._clock() + expires_in
        ends = token.expires_at if token is not None else None
        return {
            "service": SERVICE,
            "access_token": reply["access_token"],
            "refresh_token": reply.get("refresh_token"),
            "token_expiry": None if ends is None else self._clock.stamp(ends),
            "scopes": reply["scope"].split(","),
            "provider_user_id": who["user"],
            "provider_user_email": None,
            "metadata": {"app_id": APP_ID, "team_id": who["team"], "team_name": "Example", "bot_user_id": BOT_USER_ID},
        }


def subject_of(token: oauth.Token) -> Subject:
    """Whether a token speaks for the bot or for the person who installed it."""
    return "user" if token.grant.key.startswith("user:") else "bot"


def _key(subject: Subject, account: Mapping[str, str]) -> str:
    """What a grant hangs on: the workspace, or the person in it."""
    return f"bot:{account['team']}" if subject == "bot" else f"user:{account['team']}:{account['user']}"


def _installed(account: Mapping[str, str]) -> dict[str, Any]:
    return {
        "ok": True,
        "app_id": APP_ID,
        "authed_user": {"id": account["user"]},
        "team": {"id": account["team"], "name": "Example"},
        "enterprise": None,
        "is_enterprise_install": False,
    }
