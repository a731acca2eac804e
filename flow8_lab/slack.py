"""Slack: the authorize page, the token endpoint and the auth methods; messages are in `slack_chat`.

Sources: docs.slack.dev, "Installing with OAuth", oauth.v2.access, auth.test, auth.revoke, apps.uninstall. Refusals come
as HTTP 200 with `ok` false; only rate limiting has a status of its own.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from flow8_lab import oauth
from flow8_lab.clock import Clock
from flow8_lab.effects import Journal
from flow8_lab.http import HTML, Reply, Request, json_reply, redirect
from flow8_lab.origin import Route
from flow8_lab.quirks import token_answer
from flow8_lab.slack_chat import Channel, Chat, failure
from flow8_lab.slack_installations import APP_ID, BOT_ID, BOT_USER_ID, SERVICE, Installations, SlackSettings, subject_of
from flow8_lab.validate import build

# The scopes that the laboratory knows; Slack refuses an authorize URL with one it does not know.
_SCOPES = """
    channels:history channels:join channels:manage channels:read chat:write chat:write.customize chat:write.public
    commands files:read files:write groups:history groups:read groups:write im:history im:read im:write incoming-webhook
    mpim:history mpim:read mpim:write openid reactions:read reactions:write team:read users:read users:read.email
"""
SCOPES = frozenset(_SCOPES.split())


@dataclass(frozen=True, slots=True)
class _Asked:
    """A valid authorize request."""

    redirect_uri: str | None
    state: str | None
    bot: tuple[str, ...]
    user: tuple[str, ...]
    team: str


class Slack:
    """One Slack with one application."""

    service = SERVICE

    def __init__(self, *, clock: Clock, journal: Journal) -> None:
        self._clock = clock
        self._journal = journal
        self.client_id = f"{secrets.randbelow(10**10):010d}.{secrets.randbelow(10**12):012d}"
        self.client_secret = secrets.token_hex(16)
        self.reset(SlackSettings())

    def reset(self, settings: SlackSettings) -> None:
        """As it was at the start, under `settings`."""
        self.installations = Installations(settings, clock=self._clock)
        self._chat = Chat(clock=self._clock, journal=self._journal)
        self.apply(settings)

    def apply(self, settings: SlackSettings) -> None:
        """Go on under other settings. Raises BadControl."""
        for channel in settings.channels:
            self._chat.add(build(Channel, channel))
        self.settings = self.installations.settings = settings

    def routes(self) -> list[Route]:
        """What it answers to."""
        return [
            Route("GET", "/oauth/v2/authorize", "authorize", self._authorize),
            Route("POST", "/oauth/v2/authorize", "decide", self._decide),
            Route("POST", "/api/oauth.v2.access", _token_operation, self._access),
            Route("*", "/api/auth.test", "auth.test", self._auth_test),
            Route("*", "/api/auth.revoke", "auth.revoke", self._auth_revoke),
            Route("*", "/api/apps.uninstall", "apps.uninstall", self._uninstall),
            Route("POST", "/api/chat.postMessage", "chat.postMessage", self._post_message),
        ]

    def unknown(self, request: Request) -> Reply:
        """Slack's answer to a method that it does not have."""
        if request.path.startswith("/api/"):
            return failure("unknown_method", req_method=request.path.removeprefix("/api/"))
        return Reply(404, b"<h1>404</h1>", HTML)

    def throttled(self, retry_after: float) -> Reply:
        """Slack's 429."""
        wait = (("Retry-After", f"{retry_after:g}"),)
        return json_reply({"ok": False, "error": "ratelimited"}, status=429, headers=wait)

    def failure(self, error: str, status: int | None) -> Reply:
        """Slack's error `error`."""
        return json_reply({"ok": False, "error": error}, status=status or 200)

    # Authorize

    def _authorize(self, request: Request) -> Reply:
        asked = self._asked(request.query())
        if isinstance(asked, Reply):
            return asked
        if self.settings.deny:
            return self._answered(asked, {"error": self.settings.quirks.deny_error})
        if self.settings.auto_approve:
            return self._approved(asked)
        return oauth.consent_page("Slack", self.settings.account, asked.bot + asked.user, request)

    def _decide(self, request: Request) -> Reply:
        form = request.form()
        asked = self._asked(dict(parse_qsl(form.get("request", ""), keep_blank_values=True)))
        if isinstance(asked, Reply):
            return asked
        approved = form.get("decision") == "approve"
        return self._approved(asked) if approved else self._answered(asked, {"error": self.settings.quirks.deny_error})

    def _asked(self, query: Mapping[str, str]) -> _Asked | Reply:
        """The request, or the page that Slack shows: it never redirects to a place that it does not trust."""
        if query.get("client_id") != self.client_id:
            return _wrong("Invalid client_id parameter")
        uri = query.get("redirect_uri")
        if uri is not None and not self._is_registered(uri):
            return _wrong("redirect_uri did not match any configured URIs.", f"Passed URI: {uri}")
        bot, user = _scopes(query.get("scope", "")), _scopes(query.get("user_scope", ""))
        if not bot + user:
            return _wrong("No scopes requested")
        unknown = sorted({*bot, *user} - SCOPES)
        if unknown:
            return _wrong(f"Invalid permissions requested: {', '.join(unknown)}")
        team = query.get("team", "")
        team = team if re.fullmatch(r"T[A-Z0-9]+", team) else self.settings.team
        return _Asked(uri, query.get("state"), bot, user, team)

    def _is_registered(self, uri: str) -> bool:
        registered = self.settings.redirect_uris
        if registered is None:
            return oauth.is_usable_redirect(uri)
        return any(uri == known or uri.startswith(known.rstrip("/") + "/") for known in registered)

    def _approved(self, asked: _Asked) -> Reply:
        granted = self.settings.granted_scopes
        bot, user = ([s for s in scopes if granted is None or s in granted] for scopes in (asked.bot, asked.user))
        account = {"user": self.settings.account, "team": asked.team}
        code = self.installations.code(asked.redirect_uri, account, {"bot": bot, "user": user})
        return self._answered(asked, {"code": code})

    def _answered(self, asked: _Asked, answer: Mapping[str, str]) -> Reply:
        target = asked.redirect_uri or (self.settings.redirect_uris or ("http://127.0.0.1/",))[0]
        return redirect(oauth.callback(target, {**answer, "state": asked.state}))

    # Methods

    def _access(self, request: Request) -> Reply:
        outcome = self._client_problem(request) or self._granted(request)
        refused = isinstance(outcome, str)
        answer = failure(outcome) if isinstance(outcome, str) else json_reply(outcome)
        return token_answer(answer, self.settings.quirks, self._clock, refused=refused)

    def _client_problem(self, request: Request) -> str | None:
        client_id, client_secret = oauth.client_credentials(request)
        if client_id != self.client_id or self.settings.quirks.app == "disabled":
            return "invalid_client_id"
        expired = self.settings.quirks.app == "secret_expired"
        return None if oauth.same(client_secret, self.client_secret) and not expired else "bad_client_secret"

    def _granted(self, request: Request) -> dict[str, Any] | str:
        form = request.form()
        match form.get("grant_type", "authorization_code"):
            case "authorization_code" if "code_verifier" in form:
                return "pkce_not_allowed"
            case "authorization_code":
                return self.installations.exchange(form.get("code", ""), form.get("redirect_uri", ""))
            case "refresh_token":
                return self.installations.refresh(form.get("refresh_token", ""))
            case _:
                return "invalid_grant_type"

    def _token(self, request: Request) -> oauth.Token | Reply:
        """The token that the request shows, dead ones refused as Slack words it."""
        value = request.bearer() or request.form().get("token")
        if not value:
            return failure("not_authed")
        token = self.installations.tokens.find(value)
        if token is None:
            return failure("invalid_auth")
        if token.revoked or token.grant.revoked:
            return failure("token_revoked")
        return token if self.installations.tokens.live(token) else failure("token_expired")

    def _access_token(self, request: Request) -> oauth.Token | Reply:
        token = self._token(request)
        if isinstance(token, Reply) or token.kind == "access":
            return token
        return failure("not_allowed_token_type")

    def _auth_test(self, request: Request) -> Reply:
        token = self._access_token(request)
        if isinstance(token, Reply):
            return token
        bot = subject_of(token) == "bot"
        body: dict[str, Any] = {
            "ok": True,
            "url": "https://example.slack.com/",
            "team": "Example",
            "user": "flow8bot" if bot else "example",
            "team_id": token.grant.account["team"],
            "user_id": BOT_USER_ID if bot else token.grant.account["user"],
            "is_enterprise_install": False,
        }
        if bot:
            body["bot_id"] = BOT_ID
        if token.expires_at is not None:
            body["expires_in"] = int(token.expires_at - self._clock())
        return json_reply(body, headers=(("X-OAuth-Scopes", ",".join(token.scopes)),))

    def _auth_revoke(self, request: Request) -> Reply:
        token = self._token(request)
        if isinstance(token, Reply):
            return token
        if (request.form() | request.query()).get("test") in {"1", "true"}:
            return json_reply({"ok": True, "revoked": False})
        self.installations.revoke(token)
        self._journal.effect(SERVICE, "auth.revoke", key=None, detail={"token": token.kind, "grant": token.grant.key})
        return json_reply({"ok": True, "revoked": True})

    def _uninstall(self, request: Request) -> Reply:
        token = self._access_token(request)
        if isinstance(token, Reply):
            return token
        given = request.query() | request.form()
        if given.get("client_id") != self.client_id:
            return failure("invalid_client_id")
        if not oauth.same(given.get("client_secret"), self.client_secret):
            return failure("bad_client_secret")
        team = token.grant.account["team"]
        self.installations.uninstall(team)
        self._journal.effect(SERVICE, "apps.uninstall", key=None, detail={"team": team})
        return json_reply({"ok": True})

    def _post_message(self, request: Request) -> Reply:
        token = self._access_token(request)
        if isinstance(token, Reply):
            return token
        author = {"team": token.grant.account["team"]}
        if subject_of(token) == "bot":
            author |= {"user": BOT_USER_ID, "bot_id": BOT_ID, "app_id": APP_ID}
        else:
            author["user"] = token.grant.account["user"]
        return self._chat.post(request, token.scopes, author)

    # For the control API

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings. Raises BadControl."""
        self.apply(build(SlackSettings, changes, base=self.settings))

    def secrets(self) -> list[str]:
        """Everything that may be found nowhere but here and in sealed envelopes."""
        return [self.client_secret, *self.installations.secrets()]

    def mint(self, scopes: Sequence[str], account: str | None, expires_in: int | None) -> dict[str, Any]:
        """A grant without the redirect dance, as a line for `flow8 link import`."""
        return self.installations.mint(scopes, account, expires_in)

    def expire(self, *, refresh: bool) -> int:
        """Let the access tokens end now; `refresh` is for vendors whose refresh tokens can end."""
        return 0 if refresh else self.installations.tokens.expire("access")

    def revoke(self) -> int:
        """Every workspace removes the app."""
        return self.installations.uninstall()

    def grants(self) -> list[dict[str, Any]]:
        """The grants, without their tokens."""
        return self.installations.describe()


def _wrong(*paragraphs: str) -> Reply:
    return oauth.page("Something went wrong", paragraphs, status=400)


def _scopes(text: str) -> tuple[str, ...]:
    """Comma or space separated, as Slack takes them."""
    return tuple(dict.fromkeys(scope for scope in re.split(r"[,\s]+", text) if scope))


def _token_operation(request: Request) -> str:
    return "token.refresh" if request.form().get("grant_type") == "refresh_token" else "token.exchange"
