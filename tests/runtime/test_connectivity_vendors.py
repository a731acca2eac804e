"""What each vendor is asked when a link is tested, and what its answers mean, at a server that answers as it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from bson import ObjectId

from credentials.kdf import generate
from credentials.link_import import LinkImport
from flow8_core.errors import NotFound
from flow8_runtime.connectivity import check_link
from flow8_runtime.platform import Foundation, Platform
from tests import environment
from tests.counterparts.token_server import Answer, Loopback, TokenServer

CLIENT_ID = "flow8-client"
REALM = "9341453474484455"
_DRIVE = "https://www.googleapis.com/auth/drive.file"
_COMPANY = f"/api/v3/company/{REALM}/companyinfo/{REALM}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A vendor's test call: `path`, the answer of a healthy link, and what is made of it."""

    service: str
    path: str
    good: dict[str, Any]
    granted: tuple[str, ...] = ()  # as the link knows them
    scopes: list[str] | None
    user: str
    metadata: dict[str, Any] = field(default_factory=dict)
    forbidden: Any = field(default_factory=dict)


CASES = (
    Case(
        service="google",
        path="/tokeninfo",
        good={"aud": CLIENT_ID, "sub": "110", "scope": f"openid {_DRIVE}", "email": "user@company.com"},
        granted=("drive.file", "gmail.send"),
        scopes=[_DRIVE, "openid"],
        user="110",
    ),
    Case(
        service="clio",
        path="/api/users/who_am_i.json",
        good={"data": {"id": 7, "name": "Ann", "email": "ann@firm.example", "account": {"id": 3}}},
        scopes=None,
        user="7",
        forbidden={"error": {"type": "ForbiddenError", "message": "User is forbidden"}},
    ),
    Case(
        service="quickbooks",
        path=_COMPANY,
        good={"CompanyInfo": {"CompanyName": "Sandbox Co"}},
        granted=("com.intuit.quickbooks.accounting",),
        scopes=["com.intuit.quickbooks.accounting"],
        user="upstream-1",
        metadata={"realm_id": REALM},
        forbidden={"fault": {"error": [{"message": "AuthorizationFailed", "code": "3100"}], "type": "SERVICE"}},
    ),
    Case(
        service="bexio",
        path="/api/3.0/users/me",
        good={"id": 4, "email": "user@firma.example"},
        granted=("openid", "contact_show"),
        scopes=["contact_show", "openid"],
        user="upstream-1",
        forbidden={"error_code": 403, "message": "access denied"},
    ),
    Case(
        service="slack",
        path="/api/auth.test",
        good={"ok": True, "user_id": "U1"},
        granted=("chat:write",),
        scopes=["chat:write"],
        user="U1",
        forbidden={"ok": False, "error": "missing_scope"},
    ),
    Case(
        service="acme",
        path="/userinfo",
        good={"sub": "user-1"},
        granted=("read",),
        scopes=["read"],
        user="user-1",
    ),
)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.service)
FORBIDDING = [case for case in CASES if case.forbidden]


@pytest.fixture(scope="module")
def platform(
    tmp_path_factory: pytest.TempPathFactory, token_server_process: TokenServer, loopback_tls: Loopback
) -> Iterator[Platform]:
    folder, url = tmp_path_factory.mktemp("vendors"), token_server_process.url
    app = {"client_id": CLIENT_ID, "client_secret": "client-secret-of-the-tests"}
    here = {"authorize_url": f"{url}/authorize", "token_url": f"{url}/token", "base_url": f"{url}/api/"}
    acme = {"authorize_url": f"{url}/authorize", "token_url": f"{url}/token", "userinfo_url": f"{url}/userinfo"}
    known = [case.service for case in CASES if case.service != "acme"]
    settings = {
        "home": str(folder / "home"),
        "oauth2": {**dict.fromkeys(known, app), "acme": app | acme | {"api_hosts": [token_server_process.place]}},
        "services": dict.fromkeys(known, here),
        "egress": {"allow": [token_server_process.place], "ca_file": str(loopback_tls.ca_file)},
    }
    (folder / "flow8.yaml").write_text(yaml.safe_dump(settings))
    secret, salt = generate()
    opened = Platform(Foundation.lay(environment.clean(ENC_KEY_SECRET=secret, ENV_KEY_SALT=salt), folder))
    yield opened
    opened.close()


@dataclass
class Bench:
    """A company's links, and the server that plays their vendors."""

    platform: Platform
    server: TokenServer
    company_id: ObjectId = field(default_factory=ObjectId)

    def link(self, case: Case, *, refresh_token: str | None = None) -> str:
        """A link of the vendor, whose access token is `access-0`."""
        line = {"service": case.service, "access_token": "access-0", "provider_user_id": "upstream-1"}
        line |= {"scopes": list(case.granted), "metadata": case.metadata}
        line |= {"refresh_token": refresh_token, "token_expiry": "2099-01-01T00:00:00Z"} if refresh_token else {}
        parts = (self.platform.store, self.platform.vault, self.platform.providers)
        take = LinkImport(*parts, company_id=self.company_id, user_id=ObjectId())
        return str(take.run([json.dumps(line)])[0]["id"])

    def ask(self, link_id: str) -> dict[str, Any]:
        return check_link(self.platform, company_id=self.company_id, link_id=link_id)

    def health(self, link_id: str) -> dict[str, Any]:
        found = self.platform.store.get("db_links", ObjectId(link_id))
        assert found is not None
        return dict(found["last_health"])

    def status(self, link_id: str) -> tuple[str, str | None]:
        link = self.platform.links(self.company_id).get(link_id)
        return link.status, link.status_reason


@pytest.fixture
def bench(platform: Platform, token_server: TokenServer) -> Bench:
    return Bench(platform, token_server)


@every_case
def test_a_link_that_works_says_so_with_its_scopes_and_its_user(bench: Bench, case: Case) -> None:
    bench.server.pages = {case.path: (200, case.good)}
    link_id = bench.link(case)

    answer = bench.ask(link_id)

    assert answer == {
        "status": "ok",
        "service": case.service,
        "latency_ms": answer["latency_ms"],
        "token_valid": True,
        "scopes_granted": case.scopes,
        "user": case.user,
    }
    assert isinstance(answer["latency_ms"], int)
    (call,) = bench.server.calls
    assert "access-0" not in call.path
    assert call.form == {"access_token": "access-0"} if case.service == "google" else call.bearer == "access-0"
    health = bench.health(link_id)
    assert (health["status"], health["token_valid"], health["code"]) == ("ok", True, None)


@every_case
def test_a_refused_token_is_renewed_once_and_stored(bench: Bench, case: Case) -> None:
    link_id = bench.link(case, refresh_token=bench.server.grant())
    bench.server.pages = {case.path: (401, {"error": "invalid_token"})}
    bench.server.before_answer = lambda: bench.server.pages.update(
        {case.path: (200, case.good)} if bench.server.token_calls else {}
    )

    answer = bench.ask(link_id)

    assert (answer["status"], answer["token_valid"]) == ("ok", True)
    assert len(bench.server.token_calls) == 1
    link = bench.platform.links(bench.company_id).get(link_id)
    assert bench.server.alive(link.open("refresh_token").reveal())
    assert link.generation == 2


@every_case
def test_a_refused_token_that_nothing_renews_asks_for_its_user(bench: Bench, case: Case) -> None:
    bench.server.pages = {case.path: (400 if case.service == "google" else 401, {"error": "invalid_token"})}
    link_id = bench.link(case)

    answer = bench.ask(link_id)

    assert (answer["status"], answer["token_valid"], answer["error"]["reconnect"]) == ("failed", False, True)
    assert answer["error"]["link_id"] == link_id
    assert bench.status(link_id) == ("needs_reconnect", "token_revoked")
    assert bench.health(link_id)["code"] == answer["error"]["code"]
    assert len(bench.server.calls) == 1
    assert bench.ask(link_id)["status"] == "failed"
    assert len(bench.server.calls) == 1


@every_case
def test_a_refresh_whose_outcome_is_lost_leaves_the_old_token_in_use(bench: Bench, case: Case) -> None:
    bench.server.pages = {case.path: (200, case.good)}
    link_id = bench.link(case, refresh_token=bench.server.grant())
    store = bench.platform.store
    store.update("db_links", {"_id": ObjectId(link_id)}, {"$set": {"refresh_at": store.now()}})
    bench.server.script.append(Answer(commit=True, drop=True))

    answer = bench.ask(link_id)

    assert (answer["status"], answer["token_valid"]) == ("ok", True)
    assert bench.status(link_id)[0] == "active"


@pytest.mark.parametrize("case", FORBIDDING, ids=lambda case: case.service)
def test_whoever_lacks_a_permission_has_a_valid_token(bench: Bench, case: Case) -> None:
    status = 200 if case.service == "slack" else 403
    bench.server.pages = {case.path: (status, case.forbidden)}
    link_id = bench.link(case, refresh_token=bench.server.grant())

    answer = bench.ask(link_id)

    assert (answer["status"], answer["token_valid"], answer["error"]["code"]) == ("failed", True, "insufficient_scope")
    assert bench.server.token_calls == []
    assert bench.status(link_id)[0] == "active"


@pytest.mark.parametrize(
    ("status", "body", "code", "valid"),
    [
        (200, {"Fault": {"Error": [{"code": "6190"}]}}, "access_denied", None),
        (200, {"Fault": {"Error": [{"code": "2020"}]}}, "provider_rejected", None),
        (401, {"Fault": {"Error": [{"code": "120"}]}}, "access_denied", None),
        (400, {"Fault": {"Error": []}}, "provider_rejected", None),
        (429, {"fault": {"error": [{"code": "3001"}]}}, "rate_limit_exceeded", None),
        (503, {}, "provider_unavailable", None),
        (404, {}, "provider_rejected", None),
    ],
)
def test_quickbooks_faults_are_told_apart(bench: Bench, status: int, body: Any, code: str, valid: bool | None) -> None:
    bench.server.pages = {_COMPANY: (status, body)}
    link_id = bench.link(CASES[2], refresh_token=bench.server.grant())

    answer = bench.ask(link_id)

    assert (answer["status"], answer["error"]["code"], answer["token_valid"]) == ("failed", code, valid)
    assert answer["latency_ms"] is not None
    assert bench.status(link_id)[0] == "active"


def test_a_token_that_was_made_for_another_application_is_not_taken_for_ours(bench: Bench) -> None:
    bench.server.pages = {"/tokeninfo": (200, CASES[0].good | {"aud": "somebody-else"})}

    answer = bench.ask(bench.link(CASES[0]))

    assert (answer["status"], answer["error"]["code"]) == ("failed", "access_denied")
    assert "another application" in answer["error"]["message"]


def test_a_quickbooks_link_without_its_company_says_what_to_do_and_asks_nobody(bench: Bench) -> None:
    case = Case(service="quickbooks", path=_COMPANY, good={}, scopes=None, user="")

    answer = bench.ask(bench.link(case))

    assert (answer["status"], answer["token_valid"], answer["error"]["code"]) == (
        "failed", None, "provider_misconfigured",
    )  # fmt: skip
    assert "reconnect" in answer["error"]["message"]
    assert bench.server.calls == []


def test_another_companys_link_is_neither_found_nor_marked(bench: Bench) -> None:
    link_id = bench.link(CASES[1])

    with pytest.raises(NotFound):
        check_link(bench.platform, company_id=ObjectId(), link_id=link_id)

    found = bench.platform.store.get("db_links", ObjectId(link_id))
    assert found is not None
    assert "last_health" not in found
