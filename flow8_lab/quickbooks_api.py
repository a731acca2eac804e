"""QuickBooks' API, as far as it says who is connected: `companyinfo`, userinfo, and its three ways to refuse.

Sources: developer.intuit.com, "CompanyInfo", "Error codes", and the published XSD. Production and sandbox know
different companies; what the gateway refuses is worded otherwise than what the service refuses, and may come as XML.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flow8_lab import oauth
from flow8_lab.clock import Clock
from flow8_lab.http import HTML, Reply, Request, json_reply
from flow8_lab.origin import Route

if TYPE_CHECKING:
    from flow8_lab.quickbooks import QuickBooks

ACCOUNTING = "com.intuit.quickbooks.accounting"

# what the gateway refuses: code -> status, type, message, detail
GATEWAY: Mapping[str, tuple[int, str, str, str | None]] = {
    "3200": (401, "AUTHENTICATION", "message=AuthenticationFailed; errorCode=003200; statusCode=401", "Token expired"),
    "3100": (403, "SERVICE", "message=AuthorizationFailed; errorCode=003100; statusCode=403", None),
    "3001": (429, "SERVICE", "message=ThrottleExceeded; errorCode=003001; statusCode=429", None),
}
# what the service refuses: code -> status, type, message, detail
SERVICE_FAULTS: Mapping[str, tuple[int, str, str, str]] = {
    "120": (
        401,
        "AuthorizationFault",
        "Authorization Failure",
        "AuthorizationFailure: -11014-You do not have access to use QuickBooks Online Plus.",
    ),
    "610": (400, "ValidationFault", "Object Not Found", "Object Not Found"),
    "6190": (
        400,
        "ValidationFault",
        "Invalid Company Status",
        "Subscription period has ended or been canceled, or there was a billing problem",
    ),
    "10000": (500, "SystemFault", "An application error has occurred while processing your request", "System Failure"),
}
_XML = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    '<IntuitResponse xmlns="http://schema.intuit.com/finance/v3" time="{time}"><Fault type="AuthenticationFault">'
    '<Error code="100"><Message>General Authentication Error</Message><Detail>AuthenticationErrorGeneral: '
    "SRV-110-Authentication Failure , statusCode: 401</Detail></Error></Fault></IntuitResponse>"
)


class Api:
    """One of the two hosts, with Intuit's userinfo for the same environment."""

    def __init__(self, vendor: QuickBooks, *, sandbox: bool, clock: Clock) -> None:
        self._vendor = vendor
        self._environment = "sandbox" if sandbox else "production"
        self._clock = clock

    def routes(self) -> list[Route]:
        """What it answers to."""
        return [
            Route("GET", "/v3/company/{realm}/companyinfo/{id}", "companyinfo", self._company_info),
            Route("GET", "/v1/openid_connect/userinfo", "userinfo", self._userinfo),
        ]

    def unknown(self, request: Request) -> Reply:  # noqa: ARG002 (one page for all)
        """The gateway's 404."""
        return Reply(404, b"<h1>HTTP Status 404</h1>", HTML)

    def throttled(self, retry_after: float) -> Reply:
        """The gateway's 429: the same for a rate and for the month's quota."""
        return self._gateway("3001", ("Retry-After", f"{retry_after:g}"))

    def failure(self, error: str, status: int | None) -> Reply:
        """The fault of that code ("6190")."""
        if error in GATEWAY:
            return self._gateway(error)
        return self._fault(error, status=status)

    def _company_info(self, request: Request) -> Reply:
        token = self._vendor.server.bearer(request)
        if token is None:
            return self._unauthenticated()
        realm = request.params["realm"]
        if not self._is_for(token, realm) or ACCOUNTING not in token.scopes:
            return self._gateway("3100")
        if self._vendor.settings.no_access:
            return self._fault("120")
        if request.params["id"] != realm:
            return self._fault("610")
        stamp = self._clock.stamp()
        company = {
            "CompanyName": "Example Company",
            "LegalName": "Example Company Ltd",
            "Country": "US",
            "CompanyStartDate": "2024-01-02",
            "FiscalYearStartMonth": "January",
            "Email": {"Address": token.grant.account["email"]},
            "SupportedLanguages": "en",
            "domain": "QBO",
            "sparse": False,
            "Id": "1",
            "SyncToken": "4",
            "MetaData": {"CreateTime": stamp, "LastUpdatedTime": stamp},
        }
        return json_reply({"CompanyInfo": company, "time": stamp}, headers=self._tid())

    def _userinfo(self, request: Request) -> Reply:
        token = self._vendor.server.bearer(request)
        if token is None or "openid" not in token.scopes:
            return self._unauthenticated()
        account = token.grant.account
        body: dict[str, Any] = {"sub": account["sub"]}
        if "email" in token.scopes:
            body |= {"email": account["email"], "emailVerified": True}
        if "profile" in token.scopes:
            given, _, family = account["name"].partition(" ")
            body |= {"givenName": given, "familyName": family}
        return json_reply(body)

    def _is_for(self, token: oauth.Token, realm: str) -> bool:
        account = token.grant.account
        return (account["realm"], account["environment"]) == (realm, self._environment)

    def _unauthenticated(self) -> Reply:
        if self._vendor.settings.answer_in_xml:
            body = _XML.format(time=self._clock.stamp()).encode()
            return Reply(401, body, "application/xml;charset=UTF-8", self._tid())
        return self._gateway("3200")

    def _gateway(self, code: str, *headers: tuple[str, str]) -> Reply:
        status, type_, message, detail = GATEWAY[code]
        error = {"message": message, "detail": detail, "code": code, "element": None}
        body: dict[str, Any] = {
            "warnings": None,
            "intuitObject": None,
            "fault": {"error": [error], "type": type_},
            "report": None,
            "queryResponse": None,
            "batchItemResponse": [],
            "attachableResponse": [],
            "syncErrorResponse": None,
            "requestId": None,
            "time": int(self._clock() * 1000),
            "status": None,
            "cdcresponse": [],
        }
        return json_reply(body, status=status, headers=(*headers, *self._tid()))

    def _fault(self, code: str, *, status: int | None = None) -> Reply:
        unnamed = (400, "ValidationFault", "The request failed", "The request failed")
        usual, type_, message, detail = SERVICE_FAULTS.get(code, unnamed)
        error = {"Message": message, "Detail": detail, "code": code, "element": ""}
        body = {"Fault": {"Error": [error], "type": type_}, "time": self._clock.stamp()}
        return json_reply(body, status=status or usual, headers=self._tid())

    def _tid(self) -> tuple[tuple[str, str], ...]:
        """What Intuit's support asks for."""
        return (("intuit_tid", f"1-{uuid.uuid4()}"),)
