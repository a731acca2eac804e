"""Microsoft Graph: who am I, and calendar events with `transactionId`.

Sources: Graph v1.0, "Create event", "event resource type", "dateTimeTimeZone", "Microsoft Graph error responses".
Graph has its own way of refusing, so this is what its origin asks about faults on demand, too.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from flow8_lab import graph_event, oauth
from flow8_lab.clock import Clock
from flow8_lab.effects import Journal
from flow8_lab.entra import SERVICE, MicrosoftSettings
from flow8_lab.http import Reply, Request, json_reply
from flow8_lab.origin import Route

# Error code -> HTTP status, for what a fault may ask for; others are 400.
STATUSES: Mapping[str, int] = {
    "InvalidAuthenticationToken": 401,
    "ErrorAccessDenied": 403,
    "accessDenied": 403,
    "Authorization_RequestDenied": 403,
    "ErrorItemNotFound": 404,
    "ResourceNotFound": 404,
    "ErrorIrresolvableConflict": 409,
    "TooManyRequests": 429,
    "ApplicationThrottled": 429,
    "serviceNotAvailable": 503,
    "ErrorServerBusy": 503,
    "quotaLimitReached": 507,
}


class Graph:
    """The mailboxes behind one Graph origin (`https://host:port`)."""

    def __init__(self, *, origin: str, clock: Clock, journal: Journal) -> None:
        self._origin = origin
        self._clock = clock
        self._journal = journal
        self.reset(MicrosoftSettings(), oauth.Tokens(clock))

    def reset(self, settings: MicrosoftSettings, tokens: oauth.Tokens) -> None:
        """Empty calendars, and the tokens that are honoured from now on."""
        self.settings = settings
        self._tokens = tokens
        self._events: dict[tuple[str, str], dict[str, Any]] = {}
        self._transactions: dict[tuple[str, str], str] = {}

    def routes(self) -> list[Route]:
        """What Graph's origin answers to."""
        return [
            Route("GET", "/oidc/userinfo", "userinfo", self.userinfo),
            Route("GET", "/v1.0/me", "me", self.me),
            Route("POST", "/v1.0/me/events", "events.create", self.create_event),
            Route("GET", "/v1.0/me/events", "events.list", self.list_events),
            Route("GET", "/v1.0/me/events/{id}", "events.get", self.get_event),
        ]

    def userinfo(self, request: Request) -> Reply:
        """GET /oidc/userinfo (scope openid)."""
        token = self._token(request, "openid")
        if isinstance(token, Reply):
            return token
        account = token.grant.account
        given, _, family = account["name"].partition(" ")
        return self._reply(
            request,
            {
                "sub": oauth.challenge_of(account["oid"]),
                "name": account["name"],
                "given_name": given,
                "family_name": family,
                "email": account["email"],
                "picture": f"{self._origin}/v1.0/me/photo/$value",
            },
        )

    def me(self, request: Request) -> Reply:
        """GET /me (scope User.Read), with $select."""
        token = self._token(request, "User.Read", denied="Authorization_RequestDenied")
        if isinstance(token, Reply):
            return token
        account = token.grant.account
        given, _, family = account["name"].partition(" ")
        user = {
            "displayName": account["name"],
            "givenName": given,
            "surname": family,
            "mail": account["email"],
            "preferredLanguage": "en-US",
            "userPrincipalName": account["email"],
            "id": account["oid"],
        }
        wanted = [name for name in request.query().get("$select", "").split(",") if name]
        chosen = {name: value for name, value in user.items() if not wanted or name in wanted}
        return self._reply(request, {"@odata.context": f"{self._origin}/v1.0/$metadata#users/$entity", **chosen})

    def create_event(self, request: Request) -> Reply:
        """POST /me/events (scope Calendars.ReadWrite): sends invitations at once, and once for a transactionId."""
        token = self._token(request, "Calendars.ReadWrite")
        if isinstance(token, Reply):
            return token
        try:
            asked = graph_event.read(request)
        except graph_event.Invalid as invalid:
            return self._error(request, 400, invalid.code, invalid.message)
        owner, transaction = token.grant.key, asked.get("transactionId")
        known = self._transactions.get((owner, transaction)) if transaction else None
        if known is not None and self.settings.duplicate_event == "conflict":
            message = "Your request can't be completed. The transaction was already processed."
            return self._error(request, 409, "ErrorIrresolvableConflict", message)
        if known is None:
            event = graph_event.stored(asked, origin=self._origin, account=token.grant.account, now=self._clock())
            known = event["id"]
            self._events[owner, known] = event
            if transaction:
                self._transactions[owner, transaction] = known
            self._journal.effect(
                SERVICE,
                "events.create",
                key=transaction,
                detail={"owner": token.grant.account["email"], "event": event},
            )
        return self._event(request, self._events[owner, known], status=201)

    def get_event(self, request: Request) -> Reply:
        """GET /me/events/{id} (scope Calendars.Read)."""
        token = self._token(request, "Calendars.Read", "Calendars.ReadWrite")
        if isinstance(token, Reply):
            return token
        event = self._events.get((token.grant.key, request.params["id"]))
        if event is None:
            message = "The specified object was not found in the store."
            return self._error(request, 404, "ErrorItemNotFound", message)
        return self._event(request, event, status=200)

    def list_events(self, request: Request) -> Reply:
        """GET /me/events (scope Calendars.Read), all on one page."""
        token = self._token(request, "Calendars.Read", "Calendars.ReadWrite")
        if isinstance(token, Reply):
            return token
        zone = graph_event.preferred_zone(request.headers.get("prefer", ""))
        mine = [
            graph_event.shown(event, zone) for (owner, _), event in self._events.items() if owner == token.grant.key
        ]
        return self._reply(request, {"@odata.context": f"{self._origin}/v1.0/$metadata#events", "value": mine})

    def _event(self, request: Request, event: Mapping[str, Any], *, status: int) -> Reply:
        zone = graph_event.preferred_zone(request.headers.get("prefer", ""))
        context = f"{self._origin}/v1.0/$metadata#users('me')/events/$entity"
        body = {"@odata.context": context, **graph_event.shown(event, zone)}
        return self._reply(request, body, status=status)

    def _token(self, request: Request, *scopes: str, denied: str = "ErrorAccessDenied") -> oauth.Token | Reply:
        """The request's token, if it is good for one of the scopes."""
        token = self._tokens.find(request.bearer() or "")
        if token is None or token.kind != "access":
            message = "Access token is empty." if request.bearer() is None else "Access token validation failure."
            return self._unauthenticated(request, message)
        if not self._tokens.live(token):
            return self._unauthenticated(request, "Lifetime validation failed, the token is expired.")
        if not set(scopes) & set(token.scopes):
            return self._error(request, 403, denied, "Access is denied. Check credentials and try again.")
        return token

    def _unauthenticated(self, request: Request, message: str) -> Reply:
        challenge = 'Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize"'
        headers = (("WWW-Authenticate", f'{challenge}, error="invalid_token"'),)
        return self._error(request, 401, "InvalidAuthenticationToken", message, headers)

    def _error(
        self,
        request: Request | None,
        status: int,
        code: str,
        message: str,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Reply:
        ids = _ids(request)
        inner = {"date": self._clock.stamp().removesuffix("Z"), **ids}
        body = {"error": {"code": code, "message": message, "innerError": inner}}
        return json_reply(body, status=status, headers=(*headers, *ids.items()))

    def _reply(self, request: Request, body: Mapping[str, Any], *, status: int = 200) -> Reply:
        return json_reply(body, status=status, headers=tuple(_ids(request).items()))

    # Refusals on demand

    def unknown(self, request: Request) -> Reply:
        """Graph's answer to a path that it does not have."""
        return self._error(request, 404, "ResourceNotFound", "Resource not found for the segment.")

    def throttled(self, retry_after: float) -> Reply:
        """Graph's 429."""
        wait = (("Retry-After", f"{retry_after:g}"),)
        message = "Application is over its MailboxConcurrency limit."
        return self._error(None, 429, "ApplicationThrottled", message, wait)

    def failure(self, error: str, status: int | None) -> Reply:
        """The Graph error with the code `error`."""
        code = status or STATUSES.get(error, 400)
        if code == 401:
            return self._unauthenticated(_NO_REQUEST, "Access token validation failure.")
        return self._error(None, code, error, "The request failed.")


_NO_REQUEST = Request("GET", "/", "/", "", {}, b"", 0)


def _ids(request: Request | None) -> dict[str, str]:
    """Graph names each request, and gives back the name that the client gave it."""
    own = str(uuid.uuid4())
    return {
        "request-id": own,
        "client-request-id": (request.headers.get("client-request-id") if request else None) or own,
    }
