"""One vendor's life as a row: what it is asked, what it replies, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DAY_S = 24 * 3600
_AUTH = "https://www.googleapis.com/auth/"
_WHO = "/api/users/who_am_i.json"
_COMPANY = "/api/v3/company/9341453474484455/companyinfo/9341453474484455"


@dataclass(frozen=True, kw_only=True)
class Case:
    """`wanted` scopes are those of the seed. `authorize` are the parameters beside client_id, redirect_uri, state,
    nonce and the code's challenge. `id_token` are the claims of the one in the reply. `pages` are what else the vendor
    serves. `account` is (provider_user_id, provider_account, account as shown). `gave_back` is how tokens are returned:
    (who signs in, what holds the token)."""

    service: str
    wanted: tuple[str, ...]
    authorize: dict[str, str]
    pkce: bool
    client: str
    callback: dict[str, str] = field(default_factory=dict)
    reply: dict[str, Any] = field(default_factory=dict)
    id_token: dict[str, Any] | None = None
    pages: dict[str, Any] = field(default_factory=dict)
    account: tuple[str, str, str] = ("", "", "")
    metadata: dict[str, str] = field(default_factory=dict)
    scopes: tuple[str, ...] = ()
    idle_s: int | None = None
    ends_s: int | None = None
    rotates: bool = True
    gave_back: tuple[str, ...] = ()


CASES = (
    Case(
        service="slack",
        wanted=("chat:write", "files:write"),
        authorize={"scope": "chat:write,files:write"},
        pkce=False,
        client="basic",
        reply={
            "ok": True,
            "token_type": "bot",
            "scope": "chat:write,files:write",
            "expires_in": 43200,
            "team": {"id": "T1", "name": "Acme"},
            "enterprise": None,
            "authed_user": {"id": "U1"},
            "bot_user_id": "B1",
        },
        account=("U1", "T1", "Acme"),
        metadata={"team_id": "T1", "team_name": "Acme", "bot_user_id": "B1", "name": "Acme"},
        scopes=("chat:write", "files:write"),
        gave_back=("bearer", ""),
    ),
    Case(
        service="google",
        wanted=("gmail.send", "drive", "sheets"),
        authorize={
            "scope": f"openid {_AUTH}userinfo.email {_AUTH}gmail.send {_AUTH}drive {_AUTH}spreadsheets",
            "access_type": "offline",
            "prompt": "consent",
        },
        pkce=True,
        client="post",
        reply={
            "expires_in": 3599,
            "scope": f"openid {_AUTH}userinfo.email {_AUTH}drive",
            "refresh_token_expires_in": 604799,
        },
        id_token={"sub": "110", "email": "user@company.com", "hd": "company.com"},
        account=("110", "", "user@company.com"),
        metadata={"hd": "company.com"},
        scopes=("openid", f"{_AUTH}userinfo.email", f"{_AUTH}drive"),
        idle_s=180 * DAY_S,
        ends_s=604799,
        rotates=False,
        gave_back=("none", "form"),
    ),
    Case(
        service="clio",
        wanted=("client.read", "document.read"),
        authorize={"redirect_on_decline": "true"},
        pkce=False,
        client="post",
        reply={"expires_in": 2592000, "scope": None},
        pages={
            _WHO: {"data": {"id": 7, "name": "Ann", "email": "ann@firm.example", "account": {"id": 3, "name": "Firm"}}}
        },
        account=("7", "3", "ann@firm.example"),
        metadata={"account_id": "3", "account_name": "Firm", "name": "Ann", "site": "us"},
        scopes=(),
        rotates=False,
        gave_back=("bearer", "form"),
    ),
    Case(
        service="quickbooks",
        wanted=("quickbooks",),
        authorize={"scope": "com.intuit.quickbooks.accounting"},
        pkce=False,
        client="basic",
        callback={"realmId": "9341453474484455"},
        reply={
            "expires_in": 3600,
            "x_refresh_token_expires_in": 8726400,
            "x_refresh_token_hard_expires_in": 157680000,
            "scope": None,
        },
        pages={_COMPANY: {"CompanyInfo": {"CompanyName": "Sandbox Co", "Email": {"Address": "books@co.example"}}}},
        account=("9341453474484455", "", "books@co.example"),
        metadata={"realm_id": "9341453474484455", "name": "Sandbox Co", "site": "production"},
        scopes=("com.intuit.quickbooks.accounting",),
        idle_s=8726400,
        ends_s=157680000,
        gave_back=("basic", "json"),
    ),
    Case(
        service="bexio",
        wanted=("client.read", "contact.read"),
        authorize={"scope": "openid profile email offline_access contact_show"},
        pkce=True,
        client="post",
        reply={"expires_in": 3600, "scope": "openid email offline_access contact_show", "refresh_expires_in": 0},
        id_token={"sub": "kc-1", "email": "user@firma.example", "company_id": "c9", "company_name": "Firma"},
        account=("kc-1", "c9", "user@firma.example"),
        metadata={"company_id": "c9", "company_name": "Firma"},
        scopes=("openid", "email", "offline_access", "contact_show"),
        idle_s=365 * DAY_S,
        gave_back=("post", "form"),
    ),
)
