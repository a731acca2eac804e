"""What Entra ID knows: accounts, consents, codes and rolling tokens, and the id_tokens that it signs.

Sources: Microsoft identity platform, "OAuth 2.0 authorization code flow", "Refresh tokens" (used ones keep working),
"ID token claims". Access tokens for Graph are opaque to everybody but Graph.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flow8_lab import oauth
from flow8_lab.aadsts import Aadsts
from flow8_lab.clock import Clock
from flow8_lab.id_tokens import Flaw, IdTokens
from flow8_lab.quirks import NO_QUIRKS, ROTATING, Quirks, Rule, rule_of, spoil

SERVICE = "microsoft"
TENANT = "72f988bf-0000-4000-8000-2d7cd011db47"
ID_TOKEN_S = 3_900
REFRESH_LIFETIME_S = 90 * 24 * 3600
OIDC_SCOPES = ("openid", "profile", "email", "offline_access")

# Delegated permissions of Graph that the laboratory knows, as Entra spells them.
_GRAPH_SCOPES = """
    User.Read User.ReadBasic.All Mail.Send Mail.Read Mail.ReadBasic Mail.ReadWrite Calendars.Read Calendars.ReadWrite
    Calendars.Read.Shared Calendars.ReadWrite.Shared Contacts.Read Contacts.ReadWrite Files.Read Files.Read.All
    Files.ReadWrite Files.ReadWrite.All Sites.Read.All OnlineMeetings.ReadWrite MailboxSettings.Read Tasks.ReadWrite
    """
SCOPES = {scope.lower(): scope for scope in (*OIDC_SCOPES, *_GRAPH_SCOPES.split())}


@dataclass(frozen=True)
class MicrosoftSettings:
    """What the control API may change. Times in seconds.

    `redirect_uris` None accepts any usable one, else a URI must be one of them. `granted_scopes` limits what is
    granted.
    `rolling`: a used refresh token keeps working (Entra); else it is single use, with `grace_s` and `family`.
    `refresh_reply`: what a refresh says of the refresh token. `scope_style`: how the token reply spells Graph's scopes.
    `id_tokens`: "good", or what is wrong with it. `duplicate_event`: the answer to a repeated transactionId, which
    Microsoft does not document. `quirks` are flat beside these.
    """

    auto_approve: bool = False
    deny: bool = False
    account: str = "user@company.com"
    tenant: str = TENANT
    expires_in: int = 4_518
    code_lifetime_s: float = 600.0
    rolling: bool = True
    grace_s: float = 0.0
    family: bool = False
    refresh_reply: Literal["rotate", "omit", "empty"] = "rotate"
    redirect_uris: tuple[str, ...] | None = None
    granted_scopes: tuple[str, ...] | None = None
    scope_style: Literal["short", "qualified"] = "short"
    id_tokens: Flaw = "good"
    duplicate_event: Literal["same", "conflict"] = "same"
    quirks: Quirks = NO_QUIRKS


class Directory:
    """Codes, consents and tokens of one application. `authority` is the issuer's origin."""

    def __init__(
        self,
        settings: MicrosoftSettings,
        *,
        authority: str,
        client_id: str,
        clock: Clock,
        id_tokens: IdTokens,
    ) -> None:
        self.settings = settings
        self.tokens = oauth.Tokens(clock)
        self._authority = authority
        self._client_id = client_id
        self._clock = clock
        self._id_tokens = id_tokens
        self._codes = oauth.Codes(clock)
        self._issued_codes: list[str] = []
        self._grants: dict[str, oauth.Grant] = {}

    def account(self, email: str) -> dict[str, str]:
        """The account behind an address: its object id follows from the address, and stays."""
        name = email.partition("@")[0].replace(".", " ").title()
        oid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.settings.tenant}/{email.lower()}"))
        return {"oid": oid, "tid": self.settings.tenant, "email": email, "name": name}

    def code(self, email: str, *, redirect_uri: str, scopes: Sequence[str], challenge: str, nonce: str | None) -> str:
        """A code for what the user just approved; the consents of an account add up."""
        account = self.account(email)
        granted = self.settings.granted_scopes
        agreed = [scope for scope in scopes if granted is None or scope in granted]
        grant = self._grant(account)
        grant.scopes.update(agreed)
        details = {"grant": grant, "scopes": agreed, "challenge": challenge, "nonce": nonce}
        value = f"1.{oauth.token_text(400)}"
        self._issued_codes.append(value)
        lifetime_s = self.settings.code_lifetime_s
        return self._codes.issue(value, redirect_uri=redirect_uri, lifetime_s=lifetime_s, details=details)

    def exchange(self, form: Mapping[str, str]) -> dict[str, Any]:
        """The reply for a code. Raises Aadsts."""
        try:
            code = self._codes.redeem(form.get("code", ""))
        except oauth.Refused as refused:
            raise Aadsts({"used": 54005, "expired": 70008}.get(refused.reason, 70000)) from None
        if form.get("redirect_uri") != code.redirect_uri:
            raise Aadsts(50011)
        if oauth.challenge_of(form.get("code_verifier", "")) != code.details["challenge"]:
            raise Aadsts(501481)
        grant = code.details["grant"]
        grant.exchanges += 1
        wanted = self._wanted(form, code.details["scopes"], grant)
        return self._reply(grant, wanted, nonce=code.details["nonce"], client_info="client_info" in form)

    def refresh(self, form: Mapping[str, str]) -> dict[str, Any]:
        """The reply for a refresh token. Raises Aadsts."""
        settings = self.settings
        own = Rule(single_use=not settings.rolling, grace_s=settings.grace_s, family=settings.family)
        try:
            token = self.tokens.spend(form.get("refresh_token", ""), rule_of(settings.quirks, own))
        except oauth.Refused as refused:
            raise Aadsts({"expired": 700082, "revoked": 50173}.get(refused.reason, 70000)) from None
        wanted = self._wanted(form, token.scopes, token.grant)
        body = self._reply(token.grant, wanted, nonce=None, client_info="client_info" in form)
        if settings.quirks.replay in ROTATING:
            return body
        if settings.refresh_reply == "omit":
            del body["refresh_token"]
        elif settings.refresh_reply == "empty":
            body["refresh_token"] = ""
        return body

    def _grant(self, account: Mapping[str, str]) -> oauth.Grant:
        key = f"{account['tid']}:{account['oid']}"
        grant = self._grants.get(key)
        if grant is None or grant.revoked:
            grant = self._grants[key] = oauth.Grant(key, account, began_at=self._clock())
        return grant

    def _wanted(self, form: Mapping[str, str], agreed: Sequence[str], grant: oauth.Grant) -> Sequence[str]:
        asked = form.get("scope", "").split()
        if not asked:
            return agreed
        names = [canonical_scope(scope) for scope in asked]
        if None in names:
            raise Aadsts(70011)
        wanted = [name for name in names if name is not None]
        if set(wanted) - grant.scopes - set(OIDC_SCOPES):
            raise Aadsts(65001)
        return list(dict.fromkeys([*wanted, *(scope for scope in agreed if scope == "offline_access")]))

    def _reply(
        self, grant: oauth.Grant, scopes: Sequence[str], *, nonce: str | None, client_info: bool
    ) -> dict[str, Any]:
        lifetime_s = self.settings.expires_in
        access = self.tokens.issue("access", f"EwB{oauth.token_text(900)}", grant, scopes=scopes, lifetime_s=lifetime_s)
        body: dict[str, Any] = {
            "token_type": "Bearer",
            "scope": " ".join(self._spelled(scope) for scope in scopes if scope != "offline_access"),
            "expires_in": lifetime_s,
            "ext_expires_in": lifetime_s,
            "access_token": access.value,
        }
        spoil(body, self.settings.quirks, [scope for scope in scopes if scope != "offline_access"])
        if "offline_access" in scopes:
            value = f"1.{oauth.token_text(800)}"
            self.tokens.issue("refresh", value, grant, scopes=scopes, lifetime_s=REFRESH_LIFETIME_S)
            body["refresh_token"] = value
        id_token = self._id_token(grant.account, nonce) if "openid" in scopes else None
        if id_token is not None:
            body["id_token"] = id_token
        if client_info:
            info = json.dumps({"uid": grant.account["oid"], "utid": grant.account["tid"]}).encode()
            body["client_info"] = base64.urlsafe_b64encode(info).rstrip(b"=").decode()
        return body

    def _spelled(self, scope: str) -> str:
        qualified = self.settings.scope_style == "qualified" and scope not in OIDC_SCOPES
        return f"https://graph.microsoft.com/{scope}" if qualified else scope

    def _id_token(self, account: Mapping[str, str], nonce: str | None) -> str | None:
        claims = {
            "ver": "2.0",
            "iss": f"{self._authority}/{account['tid']}/v2.0",
            "aud": self._client_id,
            "sub": oauth.challenge_of(f"{self._client_id}{account['oid']}"),
            "oid": account["oid"],
            "tid": account["tid"],
            "preferred_username": account["email"],
            "name": account["name"],
            "email": account["email"],
            "nbf": 0,
        }
        flaw, quirks = self.settings.id_tokens, self.settings.quirks
        return self._id_tokens.issue(claims, nonce=nonce, lifetime_s=ID_TOKEN_S, flaw=flaw, quirks=quirks)

    def mint(self, scopes: Sequence[str], email: str | None, expires_in: int | None) -> dict[str, Any]:
        """A grant without the redirect dance, as a line for `flow8 link import`."""
        account = self.account(email or self.settings.account)
        grant = self._grant(account)
        wanted = [*(scopes or ("Calendars.ReadWrite", "User.Read")), "openid", "profile", "email", "offline_access"]
        grant.scopes.update(wanted)
        reply = self._reply(grant, list(dict.fromkeys(wanted)), nonce=None, client_info=False)
        token = self.tokens.find(reply["access_token"])
        ends = self._clock() + (self.settings.expires_in if expires_in is None else expires_in)
        if token is not None:
            token.expires_at = ends
        return {
            "service": SERVICE,
            "access_token": reply["access_token"],
            "refresh_token": reply["refresh_token"],
            "token_expiry": self._clock.stamp(ends),
            "scopes": reply["scope"].split(),
            "provider_user_id": account["oid"],
            "provider_user_email": account["email"],
            "metadata": {"tenant_id": account["tid"], "object_id": account["oid"]},
        }

    def revoke(self) -> int:
        """An administrator revokes every session: refresh tokens die, access tokens go on until they end."""
        live = [token for token in self.tokens.all() if token.kind == "refresh" and self.tokens.live(token)]
        for token in live:
            token.revoked = True
        return len({id(token.grant) for token in live})

    def describe(self) -> list[dict[str, Any]]:
        """The grants, without their tokens."""
        return oauth.describe_grants(self._grants, self.tokens)

    def secrets(self) -> list[str]:
        """Every code and token ever issued."""
        return [*self._issued_codes, *(token.value for token in self.tokens.all())]


def canonical_scope(scope: str) -> str | None:
    """A scope as Entra spells it, without Graph's prefix; None where it does not exist."""
    return SCOPES.get(scope.removeprefix("https://graph.microsoft.com/").lower())
