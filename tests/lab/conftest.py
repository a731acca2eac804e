"""What the tests of the laboratory share: a plain HTTP client, and the steps of the redirect dance."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import urllib3

from flow8_lab.client import Lab

REDIRECT = "http://127.0.0.1:4454/auth/callback/any"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True)
class Answer:
    """What a vendor answered. `json` is None where it is no JSON."""

    status: int
    headers: urllib3.HTTPHeaderDict
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Http:
    """A client that trusts the laboratory, keeps connections open, and neither retries nor follows."""

    def __init__(self, lab: Lab) -> None:
        self._pool = urllib3.PoolManager(ca_certs=lab.ca_file, retries=False, timeout=10)

    def get(self, url: str, *, token: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        return self.send("GET", url, token=token, headers=headers)

    def post(
        self, url: str, body: object, *, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        content = {"Content-Type": "application/json; charset=utf-8"}
        return self.send(
            "POST", url, token=token, headers=content | dict(headers or {}), body=json.dumps(body).encode()
        )

    def form(self, url: str, fields: Mapping[str, str], *, basic: tuple[str, str] | None = None) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if basic:
            headers["Authorization"] = f"Basic {base64.b64encode(':'.join(basic).encode()).decode()}"
        return self.send("POST", url, headers=headers, body=urlencode(fields).encode())

    def send(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        sent = dict(headers or {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        answer = self._pool.request(method, url, headers=sent, body=body, redirect=False)
        return Answer(answer.status, answer.headers, answer.data)

    def close(self) -> None:
        self._pool.clear()


@pytest.fixture
def http(lab: Lab) -> Iterator[Http]:
    client = Http(lab)

    yield client

    client.close()


def answer_of(location: str) -> dict[str, str]:
    """What a vendor put into the callback's query."""
    return dict(parse_qsl(urlsplit(location).query))


class SlackApp:
    """Our side of Slack's dance, with nothing of ours in it."""

    def __init__(self, lab: Lab, http: Http) -> None:
        self.lab = lab
        self.http = http
        self.client = lab.oauth2["slack"]
        self.urls = lab.services["slack"]

    def authorize_url(self, **changes: str | None) -> str:
        query = {
            "client_id": self.client["client_id"],
            "scope": "chat:write,files:write",
            "redirect_uri": REDIRECT,
            "state": "s",
        } | changes
        return f"{self.urls['authorize_url']}?{urlencode({k: v for k, v in query.items() if v is not None})}"

    def code(self, **changes: str | None) -> str:
        return answer_of(self.lab.visit(self.authorize_url(**changes)))["code"]

    def access(self, fields: Mapping[str, str]) -> dict[str, Any]:
        basic = (self.client["client_id"], self.client["client_secret"])
        return dict(self.http.form(self.urls["token_url"], fields, basic=basic).json)

    def exchange(self, code: str) -> dict[str, Any]:
        return self.access({"code": code, "redirect_uri": REDIRECT})

    def install(self, **changes: str | None) -> dict[str, Any]:
        return self.exchange(self.code(**changes))

    def refresh(self, token: str) -> dict[str, Any]:
        return self.access({"grant_type": "refresh_token", "refresh_token": token})

    def call(self, method: str, body: object = None, *, token: str) -> dict[str, Any]:
        return dict(self.http.post(self.urls["base_url"] + method, body or {}, token=token).json)


@pytest.fixture
def slack(lab: Lab, http: Http) -> SlackApp:
    return SlackApp(lab, http)


class MicrosoftApp:
    """Our side of Microsoft's dance, with nothing of ours in it."""

    def __init__(self, lab: Lab, http: Http) -> None:
        self.lab = lab
        self.http = http
        self.client = lab.oauth2["microsoft"]
        self.authority = lab.services["microsoft"]["authority"]
        self.graph = lab.services["microsoft"]["base_url"]
        self.token_url = f"{self.authority}/common/oauth2/v2.0/token"

    def authorize_url(self, **changes: str | None) -> str:
        query = {
            "client_id": self.client["client_id"],
            "response_type": "code",
            "redirect_uri": REDIRECT,
            "scope": "openid profile email offline_access User.Read Calendars.ReadWrite",
            "state": "s",
            "nonce": "n",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        } | changes
        kept = {name: value for name, value in query.items() if value is not None}
        return f"{self.authority}/common/oauth2/v2.0/authorize?{urlencode(kept)}"

    def code(self, **changes: str | None) -> str:
        return answer_of(self.lab.visit(self.authorize_url(**changes)))["code"]

    def token(self, **fields: str) -> Answer:
        return self.http.form(self.token_url, dict(self.client) | fields)

    def exchange(self, code: str, /, **changes: str) -> Answer:
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER}
        return self.token(**(fields | changes))

    def sign_in(self, **changes: str | None) -> dict[str, Any]:
        return dict(self.exchange(self.code(**changes)).json)

    def refresh(self, token: str, **fields: str) -> Answer:
        return self.token(grant_type="refresh_token", refresh_token=token, **fields)


@pytest.fixture
def microsoft(lab: Lab, http: Http) -> MicrosoftApp:
    return MicrosoftApp(lab, http)


# What a client asks of each vendor that follows the standard, beyond what all are asked.
ASKED: Mapping[str, Mapping[str, str]] = {
    "google": {"scope": "openid email https://www.googleapis.com/auth/drive.file", "access_type": "offline"},
    "clio": {"redirect_on_decline": "true"},
    "quickbooks": {"scope": "com.intuit.quickbooks.accounting openid profile email"},
    "bexio": {"scope": "openid profile email offline_access company_profile contact_show"},
}
PKCE = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}


class StandardApp:
    """Our side of the dance at a vendor that follows the standard, with nothing of ours in it. `urls` are those of
    another region, where there is one."""

    def __init__(self, lab: Lab, http: Http, service: str, urls: Mapping[str, str] | None = None) -> None:
        self.lab = lab
        self.http = http
        self.service = service
        self.client = lab.oauth2[service]
        self.urls = dict(urls or lab.services[service])
        if service == "bexio":  # its endpoints are discovered
            found = http.get(lab.oidc["bexio"]["discovery_url"]).json
            names = {"authorization": "authorize", "token": "token", "revocation": "revoke", "userinfo": "userinfo"}
            self.urls |= {f"{ours}_url": found[f"{theirs}_endpoint"] for theirs, ours in names.items()}

    def authorize_url(self, **changes: str | None) -> str:
        query: dict[str, str | None] = {
            "client_id": self.client["client_id"],
            "response_type": "code",
            "redirect_uri": REDIRECT,
            "state": "s",
            "nonce": "n",
            **(PKCE if self.service in ("google", "bexio") else {}),
            **ASKED[self.service],
            **changes,
        }
        kept = {name: value for name, value in query.items() if value is not None}
        return f"{self.urls['authorize_url']}?{urlencode(kept)}"

    def consent(self, **changes: str | None) -> dict[str, str]:
        """What comes back in the callback."""
        return answer_of(self.lab.visit(self.authorize_url(**changes)))

    def token(self, fields: Mapping[str, str], *, secret: str | None = None) -> Answer:
        """POST to the token endpoint, the client shown as the vendor wants it."""
        client_id, client_secret = self.client["client_id"], secret or self.client["client_secret"]
        if self.service == "quickbooks":
            return self.http.form(self.urls["token_url"], fields, basic=(client_id, client_secret))
        return self.http.form(
            self.urls["token_url"], {"client_id": client_id, "client_secret": client_secret, **fields}
        )

    def exchange(self, code: str, /, **changes: str) -> Answer:
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT}
        if self.service in ("google", "bexio"):
            fields["code_verifier"] = VERIFIER
        return self.token(fields | changes)

    def connect(self, **changes: str | None) -> dict[str, Any]:
        """The whole dance: the reply for a code."""
        return dict(self.exchange(self.consent(**changes)["code"]).json)

    def refresh(self, token: str, **fields: str) -> Answer:
        return self.token({"grant_type": "refresh_token", "refresh_token": token, **fields})

    def revoke(self, token: str) -> Answer:
        """As the vendor wants it: of Clio an access token, of the others any."""
        url, client = self.urls["revoke_url"], self.client
        match self.service:
            case "clio":
                headers = {"Content-Type": "application/x-www-form-urlencoded"}
                return self.http.send(
                    "POST", url, token=token, headers=headers, body=urlencode({"token": token}).encode()
                )
            case "quickbooks":
                basic = base64.b64encode(f"{client['client_id']}:{client['client_secret']}".encode()).decode()
                return self.http.post(url, {"token": token}, headers={"Authorization": f"Basic {basic}"})
            case "bexio":
                return self.http.form(url, {"token": token, **client})
            case _:
                return self.http.form(url, {"token": token})

    def probe(self, token: str) -> Answer:
        """The call that tells whether an access token works."""
        headers = {"Accept": "application/json"}
        paths = {
            "google": "v1/userinfo",
            "clio": "users/who_am_i.json",
            "quickbooks": "v3/company/9341453474484455/companyinfo/9341453474484455?minorversion=75",
            "bexio": "3.0/users/me",
        }
        return self.http.get(self.urls["base_url"] + paths[self.service], token=token, headers=headers)

    def grant(self) -> dict[str, Any]:
        """What the control API says of the only grant."""
        (described,) = self.lab.control("/grants")[self.service]
        return dict(described)
