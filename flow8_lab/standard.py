"""A standard OAuth2 server (RFC 6749, 7009, 7636, 9207): the redirect dance, the token endpoint, revocation.

Google, Clio, QuickBooks and Bexio run on it, each with its own words and additions (`flow8_lab.dialect`); Slack and
Microsoft are too far from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from flow8_lab import oauth
from flow8_lab.clock import Clock
from flow8_lab.dialect import Asked, Conduct, Declined, Dialect, Hooks
from flow8_lab.effects import Journal
from flow8_lab.grants import Grants
from flow8_lab.http import Reply, Request, json_reply, redirect
from flow8_lab.id_tokens import IdTokens
from flow8_lab.quirks import Quirks, spoil, token_answer

ID_TOKEN_S = 3_600
NO_STORE = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))


class Standard:
    """One vendor's server with one application (`client_id`, `client_secret`)."""

    def __init__(
        self,
        dialect: Dialect,
        hooks: Hooks,
        *,
        clock: Clock,
        journal: Journal,
        client_id: str,
        client_secret: str,
    ) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self._dialect = dialect
        self._hooks = hooks
        self._clock = clock
        self._journal = journal
        self.id_tokens = IdTokens(clock)
        self.reset(Conduct(), Quirks())

    def reset(self, conduct: Conduct, quirks: Quirks) -> None:
        """As it was at the start."""
        self.grants = Grants(self._dialect, clock=self._clock)
        self.apply(conduct, quirks)

    def apply(self, conduct: Conduct, quirks: Quirks) -> None:
        """Go on under other settings."""
        self.conduct, self.quirks = conduct, quirks

    # Authorize

    def authorize(self, request: Request) -> Reply:
        """GET of the authorize page."""
        asked = self._hooks.asked(request.query())
        if isinstance(asked, Reply):
            return asked
        if self.conduct.deny:
            return self.denied(asked)
        if self.conduct.auto_approve:
            return self._approved(asked)
        return oauth.consent_page(self._dialect.title, asked.account, asked.scopes, request)

    def decide(self, request: Request) -> Reply:
        """POST of the consent page's form."""
        form = request.form()
        asked = self._hooks.asked(dict(parse_qsl(form.get("request", ""), keep_blank_values=True)))
        if isinstance(asked, Reply):
            return asked
        return self._approved(asked) if form.get("decision") == "approve" else self.denied(asked)

    def is_registered(self, uri: str) -> bool:
        """Whether a redirect URI is one of ours."""
        registered = self.conduct.redirect_uris
        return oauth.is_usable_redirect(uri) if registered is None else uri in registered

    def pkce_problem(self, query: Mapping[str, str]) -> str | None:
        """What is wrong with the request's PKCE, in words."""
        challenge, method = query.get("code_challenge"), query.get("code_challenge_method", "plain")
        if challenge is None:
            return "code_challenge is required" if self.conduct.require_pkce else None
        if method not in ({"S256"} if self.conduct.require_pkce else {"S256", "plain"}):
            return "code_challenge_method must be S256"
        return None if 43 <= len(challenge) <= 128 else "code_challenge is malformed"

    def sent_back(self, uri: str, state: str | None, answer: Mapping[str, str]) -> Reply:
        """A redirect to the client, with the issuer where the vendor names it."""
        issuers = {"good": self._dialect.issuer, "wrong": "https://issuer.example", "absent": None}
        return redirect(oauth.callback(uri, {**answer, "state": state, "iss": issuers[self.conduct.callback_iss]}))

    def denied(self, asked: Asked) -> Reply:
        """What follows where the user, or whoever rules over the account, says no."""
        if not asked.leads_back:
            return oauth.page(self._dialect.title, ["You declined. You can close this window."])
        return self.sent_back(asked.redirect_uri, asked.state, {"error": self.quirks.deny_error})

    def _approved(self, asked: Asked) -> Reply:
        wanted = self.conduct.granted_scopes
        scopes = [scope for scope in asked.scopes if wanted is None or scope in wanted]
        code = self.grants.code(asked, scopes, lifetime_s=self.conduct.code_lifetime_s)
        return self.sent_back(asked.redirect_uri, asked.state, {"code": code, **self._hooks.callback(asked, scopes)})

    # Token

    def token(self, request: Request) -> Reply:
        """POST of the token endpoint."""
        try:
            self.check_client(request)
            answer, refused = json_reply(self._granted(request), headers=NO_STORE), False
        except Declined as declined:
            answer, refused = self.refuse(declined.reason), True
        return token_answer(answer, self.quirks, self._clock, refused=refused)

    def refuse(self, reason: str) -> Reply:
        """The refusal for a reason."""
        status, body = self._dialect.refusal(reason)
        return json_reply(body, status=status, headers=NO_STORE)

    def check_client(self, request: Request) -> None:
        """Raises Declined where the request does not show our application's credentials, the way it should."""
        client_id, client_secret = oauth.client_credentials(request)
        shown = "basic" if request.headers.get("authorization", "").lower().startswith("basic ") else "post"
        if client_id != self.client_id:
            raise Declined("client.unknown")
        if self.conduct.client_auth not in ("either", shown) or not oauth.same(client_secret, self.client_secret):
            raise Declined("client.secret")
        if self.quirks.app != "good":
            raise Declined(f"client.{self.quirks.app}")

    def _granted(self, request: Request) -> dict[str, Any]:
        match request.form().get("grant_type"):
            case "authorization_code":
                return self._exchange(request)
            case "refresh_token":
                return self._refresh(request)
            case _:
                raise Declined("grant_type")

    def _exchange(self, request: Request) -> dict[str, Any]:
        code = self.grants.redeem(request.form(), pkce=self._dialect.pkce)
        asked: Asked = code.details["asked"]
        grant = self.grants.opened(*self._hooks.account(asked))
        grant.scopes.update(code.details["scopes"])
        grant.exchanges += 1
        refresh = self._first_refresh(grant, code.details["scopes"], asked)
        body = self._reply(request, grant, code.details["scopes"], refresh, nonce=asked.nonce)
        if refresh is not None:
            body["refresh_token"] = refresh.value
        return body

    def _first_refresh(self, grant: oauth.Grant, scopes: Sequence[str], asked: Asked) -> oauth.Token | None:
        needed = self._dialect.offline_scope
        offline = asked.offline and (needed is None or needed in scopes)
        return self.grants.new_refresh(grant, scopes) if offline else None

    def _refresh(self, request: Request) -> dict[str, Any]:
        form = request.form()
        asked = form.get("scope", "").split()

        def check(token: oauth.Token) -> None:
            if set(asked) - set(token.scopes):
                raise Declined("scope")
            self._hooks.may_refresh(token)

        value = form.get("refresh_token", "")
        token, answer = self.grants.renew(value, conduct=self.conduct, quirks=self.quirks, check=check)
        scopes = asked or token.scopes
        refresh = self.grants.new_refresh(token.grant, token.scopes) if answer == "rotate" else token
        body = self._reply(request, token.grant, scopes, refresh, nonce=None)
        said = {"rotate": refresh.value, "same": refresh.value, "empty": "", "null": None}
        return body if answer == "omit" else {**body, "refresh_token": said[answer]}

    def _reply(
        self,
        request: Request,
        grant: oauth.Grant,
        scopes: Sequence[str],
        refresh: oauth.Token | None,
        *,
        nonce: str | None,
    ) -> dict[str, Any]:
        lifetime_s = self.conduct.expires_in
        access = self.grants.new_access(grant, scopes, lifetime_s)
        body: dict[str, Any] = {
            "token_type": self._dialect.token_type,
            "access_token": access.value,
            "expires_in": lifetime_s,
        }
        if self._dialect.scope_in_reply:
            body["scope"] = " ".join(scopes)
        spoil(body, self.quirks, scopes)
        body |= self._hooks.reply(request, grant, refresh)
        claims = self._hooks.claims(grant, scopes)
        if claims is not None:
            token = self.id_tokens.issue(
                claims, nonce=nonce, lifetime_s=ID_TOKEN_S, flaw=self.conduct.id_tokens, quirks=self.quirks
            )
            body |= {"id_token": token} if token else {}
        return body

    # Afterwards

    def keys(self, _: Request) -> Reply:
        """The published keys."""
        return json_reply({"keys": self.id_tokens.keys(self.quirks)}, headers=(("Cache-Control", "public"),))

    def revoke(self, value: str) -> oauth.Token | None:
        """End the whole grant that a live token belongs to, and give the token; None where it is unknown or dead."""
        token = self.grants.tokens.find(value)
        if token is None or not self.grants.tokens.live(token):
            return None
        token.grant.revoked = True
        detail = {"token": token.kind, "grant": token.grant.key}
        self._journal.effect(self._dialect.service, "revoke", key=None, detail=detail)
        return token

    def bearer(self, request: Request) -> oauth.Token | None:
        """The live access token that a request shows."""
        token = self.grants.tokens.find(request.bearer() or "")
        return token if token is not None and token.kind == "access" and self.grants.tokens.live(token) else None

    def mint(self, asked: Asked, expires_in: int | None) -> dict[str, Any]:
        """A grant without the redirect dance, as a line for `flow8 link import`."""
        grant = self.grants.opened(*self._hooks.account(asked))
        grant.scopes.update(asked.scopes)
        refresh = self._first_refresh(grant, asked.scopes, asked)
        access = self.grants.new_access(
            grant, asked.scopes, self.conduct.expires_in if expires_in is None else expires_in
        )
        return {
            "service": self._dialect.service,
            "access_token": access.value,
            "refresh_token": None if refresh is None else refresh.value,
            "token_expiry": self._clock.stamp(access.expires_at),
            "scopes": list(asked.scopes),
            **self._hooks.metadata(grant),
        }

    def secrets(self) -> list[str]:
        """Everything that may be found nowhere but here and in sealed envelopes."""
        return [self.client_secret, *self.grants.secrets()]


def token_operation(request: Request) -> str:
    """What a request to the token endpoint is counted as."""
    return "token.refresh" if request.form().get("grant_type") == "refresh_token" else "token.exchange"
